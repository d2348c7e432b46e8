"""Identity metrics of humans, objects and pairs: IDF1, CLEAR MOT, and the coverage of entities; HOTA is in hota.py.

IDF1: how much of the time each ground-truth identity has one and the same number. Source: Ristani et al., Performance
Measures and a Dataset for Multi-Target, Multi-Camera Tracking, ECCV workshops 2016.

CLEAR MOT: misses, false alarms and identity switches, frame by frame. Source: Bernardin and Stiefelhagen, Evaluating
Multiple Object Tracking Performance: The CLEAR MOT Metrics, 2008; MT, PT and ML from Li et al., CVPR 2009. A frame
without ground truth or without results neither ends nor begins a stretch of tracking.

Both are counted as TrackEval counts. They see pairs that do something only: a pair without an active verb is not shown
to a viewer either. Coverage of entities, which needs no identities, counts every pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hoiclip.core.array_types import F64, I64
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.evaluation.matching import pixel_iou_matrix
from hoiclip.evaluation.video.frames import AlignedVideo, VideoFrame, acting_pairs, entities
from hoiclip_kernels.box_iou import box_iou

MIN_OVERLAP = 0.5
MIN_COVER = 0.5
EPSILON = float(np.finfo(np.float64).eps)
"""An overlap is allowed to miss a threshold by this, as in TrackEval."""
_KEEP = 1000.0
"""Weight of continuing with the identity of the frame before: more than any overlaps."""
_MOSTLY, _HARDLY = 0.8, 0.2
"""Fractions of an identity's frames beyond which it is mostly tracked, and below which it is mostly lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFrame:
    """G ground-truth identities and N found ones in one frame, with their overlaps."""

    gt_ids: I64
    """(G,) each at most once."""
    found_ids: I64
    """(N,) each at most once."""
    overlap_gn: F64
    """(G, N) similarity in [0, 1]; 0 where they can never be the same."""

    def __post_init__(self) -> None:
        expected = (len(self.gt_ids), len(self.found_ids))
        if self.overlap_gn.shape != expected:
            raise ValueError(f"expected overlaps of shape {expected}, got {self.overlap_gn.shape}")
        for ids in (self.gt_ids, self.found_ids):
            if len(np.unique(ids)) != len(ids):
                raise ValueError("an identity must be at one place in a frame, got one twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySequence:
    """A sequence with its identities renamed 0, 1, 2, ..."""

    frames: tuple[tuple[I64, I64, F64], ...]
    gt_count: I64
    """Frames in which each ground-truth identity appears."""
    found_count: I64

    def __iter__(self) -> Iterator[tuple[I64, I64, F64]]:
        return iter(self.frames)


def number_identities(sequence: Sequence[IdentityFrame]) -> IdentitySequence:
    """Renumbers the identities of every frame as rows of tables."""
    gt_rows, gt_count = _rows([frame.gt_ids for frame in sequence])
    found_rows, found_count = _rows([frame.found_ids for frame in sequence])
    overlaps = [frame.overlap_gn for frame in sequence]
    return IdentitySequence(
        frames=tuple(zip(gt_rows, found_rows, overlaps, strict=True)),
        gt_count=gt_count,
        found_count=found_count,
    )


def _rows(ids: Sequence[I64]) -> tuple[list[I64], I64]:
    if not ids:
        return [], np.zeros(0, np.int64)
    flat = np.concatenate(ids).astype(np.int64)
    known, row = np.unique(flat, return_inverse=True)
    row = row.reshape(-1)  # numpy 2.0 alone shapes it otherwise
    ends = np.cumsum([len(frame_ids) for frame_ids in ids])[:-1]
    return np.split(row, ends), np.bincount(row, minlength=len(known))


def entity_frames(video: AlignedVideo, vocabulary: Vocabulary) -> list[IdentityFrame]:
    """Identities of humans and objects; similarity is their IoU, 0 between different labels."""
    return [_entity_frame(gt, found, vocabulary) for gt, found in _acting_frames(video, vocabulary)]


def _entity_frame(gt: VideoFrame, found: VideoFrame, vocabulary: Vocabulary) -> IdentityFrame:
    present, seen = entities(gt, vocabulary.person), entities(found, vocabulary.person)
    overlap = box_iou(present.boxes_xyxy, seen.boxes_xyxy)
    overlap[present.labels[:, None] != seen.labels[None]] = 0
    return IdentityFrame(gt_ids=present.ids, found_ids=seen.ids, overlap_gn=overlap)


def pair_frames(video: AlignedVideo, vocabulary: Vocabulary) -> list[IdentityFrame]:
    """Identities of pairs, whatever they do; similarity as `pair_overlaps`."""
    return [
        IdentityFrame(gt_ids=gt.pair, found_ids=found.pair, overlap_gn=pair_overlaps(gt, found))
        for gt, found in _acting_frames(video, vocabulary)
    ]


def _acting_frames(video: AlignedVideo, vocabulary: Vocabulary) -> Iterable[tuple[VideoFrame, VideoFrame]]:
    for gt, found in zip(video.ground_truth, video.found, strict=True):
        yield acting_pairs(gt, vocabulary), acting_pairs(found, vocabulary)


def pair_overlaps(gt: VideoFrame, found: VideoFrame) -> F64:
    """(G, N) the smaller IoU of the humans and of the objects; 0 between different labels."""
    human_iou = box_iou(gt.human_boxes_xyxy, found.human_boxes_xyxy)
    object_iou = box_iou(gt.object_boxes_xyxy, found.object_boxes_xyxy)
    object_iou = np.where((gt.label == NO_OBJECT)[:, None], 1.0, object_iou)
    both: F64 = np.where(gt.label[:, None] == found.label[None], np.minimum(human_iou, object_iou), 0.0)
    return both


def covered_entities(video: AlignedVideo, vocabulary: Vocabulary) -> tuple[int, int]:
    """Number of ground-truth humans and objects, over all frames, that a found one covers by half, and of all of them.

    One may cover several. Boxes count their last pixel, as those of images do.
    """
    covered = present = 0
    for gt_frame, found_frame in zip(video.ground_truth, video.found, strict=True):
        gt, found = entities(gt_frame, vocabulary.person), entities(found_frame, vocabulary.person)
        overlap = pixel_iou_matrix(gt.boxes_xyxy, found.boxes_xyxy)
        overlap[gt.labels[:, None] != found.labels[None]] = 0
        covered += int((overlap >= MIN_COVER).any(axis=1).sum())
        present += len(gt.ids)
    return covered, present


@dataclass(frozen=True, slots=True, kw_only=True)
class Idf1:
    """Counts that add up over sequences."""

    tp: int = 0
    """Frames in which an identity is covered by the one found identity that it is assigned for the whole sequence."""
    fn: int = 0
    fp: int = 0

    def __add__(self, other: Idf1) -> Idf1:
        return Idf1(tp=self.tp + other.tp, fn=self.fn + other.fn, fp=self.fp + other.fp)

    @property
    def summary(self) -> dict[str, float]:
        """IDF1 = 2 IDTP / (2 IDTP + IDFP + IDFN), with recall and precision; in [0, 1], 0 where nothing is counted."""
        return {
            "IDF1": ratio(self.tp, self.tp + 0.5 * (self.fp + self.fn)),
            "IDP": ratio(self.tp, self.tp + self.fp),
            "IDR": ratio(self.tp, self.tp + self.fn),
        }


def idf1(sequences: Iterable[Sequence[IdentityFrame]]) -> Idf1:
    """Sums over independent sequences.

    Found identities are assigned to ground-truth ones, one to one, so that they overlap by half in as many frames as
    possible.
    """
    total = Idf1()
    for sequence in sequences:
        total = total + _idf1_sequence(sequence)
    return total


def _idf1_sequence(sequence: Sequence[IdentityFrame]) -> Idf1:
    rows = number_identities(sequence)
    together = _frames_together(rows)
    row, column = linear_sum_assignment(together, maximize=True)
    tp = int(together[row, column].sum())
    return Idf1(tp=tp, fn=int(rows.gt_count.sum()) - tp, fp=int(rows.found_count.sum()) - tp)


def _frames_together(sequence: IdentitySequence) -> F64:
    """Frames together, a row and a column for each identity that is ever covered; others would only take memory."""
    gt_rows, found_rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for gt, found, overlap in sequence:
        row, column = np.nonzero(overlap >= MIN_OVERLAP)
        gt_rows.append(gt[row])
        found_rows.append(found[column])
    known_gt, row = np.unique(np.concatenate(gt_rows), return_inverse=True)
    known_found, column = np.unique(np.concatenate(found_rows), return_inverse=True)
    together = np.zeros((len(known_gt), len(known_found)))
    np.add.at(together, (row.reshape(-1), column.reshape(-1)), 1)
    return together


def ratio(part: float, whole: float) -> float:
    """part / whole, 0 where whole is 0, as TrackEval counts."""
    return part / whole if whole else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """Counts that add up over sequences."""

    tp: int = 0
    fn: int = 0
    fp: int = 0
    switches: int = 0
    """Times that an identity is found again under another number (IDSW)."""
    fragments: int = 0
    """Times that an identity is found again after it was missed."""
    mostly_tracked: int = 0
    partly_tracked: int = 0
    mostly_lost: int = 0
    overlap_sum: float = 0.0

    def __add__(self, other: Clear) -> Clear:
        return Clear(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})

    @property
    def summary(self) -> dict[str, float]:
        """MOTA = 1 - (FN + FP + IDSW) / ground-truth boxes, MOTP = mean overlap of hits; MOTA can be negative."""
        return {
            "MOTA": ratio(self.tp - self.fp - self.switches, self.tp + self.fn),
            "MOTP": ratio(self.overlap_sum, self.tp),
            "Recall": ratio(self.tp, self.tp + self.fn),
            "Precision": ratio(self.tp, self.tp + self.fp),
        }

    @property
    def counts(self) -> dict[str, int]:
        """Counts by their usual names."""
        return {
            "IDSW": self.switches,
            "FP": self.fp,
            "FN": self.fn,
            "MT": self.mostly_tracked,
            "PT": self.partly_tracked,
            "ML": self.mostly_lost,
            "Frag": self.fragments,
        }


def clear(sequences: Iterable[Sequence[IdentityFrame]]) -> Clear:
    """Sums over independent sequences."""
    total = Clear()
    for sequence in sequences:
        total = total + _clear_sequence(number_identities(sequence))
    return total


def _clear_sequence(sequence: IdentitySequence) -> Clear:
    people = len(sequence.gt_count)
    last: I64 = np.full(people, -1, np.int64)  # the number each was last found under
    before = last.copy()  # the same, -1 where it was not found in the frame before
    found_for, stretches = np.zeros(people, np.int64), np.zeros(people, np.int64)
    tp = switches = 0
    overlap_sum = 0.0
    for gt, found, overlap in sequence:
        if not overlap.size:
            continue
        row, column = _match_frame(overlap, found == before[gt][:, None])
        identity, number = gt[row], found[column]
        switches += int(((last[identity] >= 0) & (last[identity] != number)).sum())
        stretches[identity[before[identity] < 0]] += 1
        last[identity] = number
        before[:] = -1
        before[identity] = number
        found_for[identity] += 1
        tp += len(identity)
        overlap_sum += float(overlap[row, column].sum())
    followed = found_for / sequence.gt_count
    mostly, tracked = int((followed > _MOSTLY).sum()), int((followed >= _HARDLY).sum())
    return Clear(
        tp=tp,
        fn=int(sequence.gt_count.sum()) - tp,
        fp=int(sequence.found_count.sum()) - tp,
        switches=switches,
        fragments=int(np.maximum(stretches - 1, 0).sum()),
        mostly_tracked=mostly,
        partly_tracked=tracked - mostly,
        mostly_lost=people - tracked,
        overlap_sum=overlap_sum,
    )


def _match_frame(overlap: F64, continues: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> tuple[I64, I64]:
    """Matched rows and columns; an identity keeps its number as long as the two overlap by half."""
    score = np.where(overlap >= MIN_OVERLAP - EPSILON, _KEEP * continues + overlap, 0.0)
    row, column = linear_sum_assignment(score, maximize=True)
    good = score[row, column] > EPSILON
    return row[good], column[good]
