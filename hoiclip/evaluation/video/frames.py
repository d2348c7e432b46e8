"""Frames of a video as pairs with identities, aligned with their ground truth, and the verb segments they form.

The form is the same for ground truth and results, so that a ground truth evaluated against itself is perfect. Nothing
here depends on the source of frames (a file of JSON lines, a running stream).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from hoiclip.core.array_types import F64, I64, Bool
from hoiclip.core.errors import DataError
from hoiclip.core.vocabulary import NO_INTERACTION, NO_OBJECT, Vocabulary
from hoiclip.data.annotations import ImageAnnotation, image_annotation


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrame:
    """P human-object pairs of one frame, each pair at most once."""

    index: int
    pts_s: float
    """NaN where the file has none."""
    pair: I64
    """(P,) identity of the pair."""
    human: I64
    """(P,) identity of the human."""
    object: I64
    """(P,) identity of the object, -1 where the person acts without one."""
    human_boxes_xyxy: F64
    """(P, 4) pixels of the upright image."""
    object_boxes_xyxy: F64
    """(P, 4); the human's own box where there is no object."""
    label: I64
    """(P,) object index of the vocabulary, NO_OBJECT (-1) where there is none."""
    verb_scores: F64
    """(P, V) in [0, 1]; of ground truth 1 or 0."""
    verb_active: Bool
    """(P, V) whether the verb is active."""

    def __len__(self) -> int:
        return int(self.pair.shape[0])

    def rows(self, chosen: Bool | I64) -> VideoFrame:
        """The pairs of an index or a mask."""
        columns = {field.name: getattr(self, field.name)[chosen] for field in fields(self)[2:]}
        return VideoFrame(index=self.index, pts_s=self.pts_s, **columns)


def empty_frame(index: int, pts_s: float, num_verbs: int) -> VideoFrame:
    """A frame without pairs."""
    ids, boxes = np.zeros(0, np.int64), np.zeros((0, 4))
    return VideoFrame(
        index=index,
        pts_s=pts_s,
        pair=ids,
        human=ids,
        object=ids,
        human_boxes_xyxy=boxes,
        object_boxes_xyxy=boxes,
        label=ids,
        verb_scores=np.zeros((0, num_verbs)),
        verb_active=np.zeros((0, num_verbs), np.bool_),
    )


def acting_pairs(frame: VideoFrame, vocabulary: Vocabulary) -> VideoFrame:
    """The frame's pairs with an active verb; "no_interaction" does not count as one.

    It is an answer about an image and no event of a video.
    """
    active = frame.verb_active.copy()
    active[:, [verb == NO_INTERACTION for verb in vocabulary.verbs]] = False
    return replace(frame, verb_active=active).rows(active.any(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameEntities:
    """N humans and objects of a frame, by identity."""

    ids: I64
    labels: I64
    boxes_xyxy: F64


def entities(frame: VideoFrame, person: int) -> FrameEntities:
    """Humans and objects of all pairs, once each, by identity. Of two boxes of one identity the first counts.

    Args:
        person: object index that humans have.
    """
    has_object = frame.object >= 0
    ids = np.concatenate([frame.human, frame.object[has_object]])
    labels = np.concatenate([np.full(len(frame), person, np.int64), frame.label[has_object]])
    boxes = np.concatenate([frame.human_boxes_xyxy, frame.object_boxes_xyxy[has_object]])
    ids, first = np.unique(ids, return_index=True)
    return FrameEntities(ids=ids, labels=labels[first], boxes_xyxy=boxes[first])


def frame_annotation(frame: VideoFrame, person: int) -> ImageAnnotation:
    """A ground-truth frame as an annotated image; verbs that are not active are no interactions."""
    present = entities(frame, person)
    row_of = {identity: row for row, identity in enumerate(present.ids.tolist())}
    interactions = [
        (row_of[int(frame.human[p])], row_of.get(int(frame.object[p]), NO_OBJECT), int(verb))
        for p, verb in np.argwhere(frame.verb_active)
    ]
    boxes = [(box[0], box[1], box[2], box[3]) for box in present.boxes_xyxy.tolist()]
    return image_annotation(f"frame {frame.index}", boxes, present.labels.tolist(), interactions)


_SAME_TIME_S = 2e-3
"""Containers round times, to milliseconds at worst (Matroska)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedVideo:
    """A video's ground truth and, frame by frame, its results; both with the same times."""

    name: str
    ground_truth: tuple[VideoFrame, ...]
    found: tuple[VideoFrame, ...]
    missing: int
    """Ground-truth frames without a result; they count as frames in which nothing was found."""
    foreign: int
    """Results that belong to no ground-truth frame; they are left out."""


def align_video(
    name: str, ground_truth: Sequence[VideoFrame], found: Sequence[VideoFrame], num_verbs: int
) -> AlignedVideo:
    """Assigns results to ground-truth frames by index, also where a live run skipped frames.

    Where the index contradicts their times (a run of a section, other numbering), by time: a ground-truth frame has the
    result nearest to it, if that is nearer than half the way to the ground-truth frames beside it. Times are the ground
    ground truth, or of the results where it has none.

    Raises:
        DataError: no result belongs to the video, or a frame has a time in neither file.
    """
    by_index = {frame.index: frame for frame in found}
    chosen = [by_index.get(frame.index) for frame in ground_truth]
    if not _times_agree(ground_truth, chosen):
        chosen = _nearest(ground_truth, found)
    belonging = sum(result is not None for result in chosen)
    if found and not belonging:
        raise DataError(
            f"none of the {len(found)} results of {name} is of a time of its {len(ground_truth)} ground-truth frames"
        )
    times_s = [
        result.pts_s if result is not None and np.isnan(frame.pts_s) else frame.pts_s
        for frame, result in zip(ground_truth, chosen, strict=True)
    ]
    if np.isnan(times_s).any() or (np.diff(times_s) <= 0).any():
        raise DataError(
            f"the frames of {name} must have times (pts_s) that grow, in the ground truth or in the results of all"
        )
    return AlignedVideo(
        name=name,
        ground_truth=tuple(replace(frame, pts_s=at_s) for frame, at_s in zip(ground_truth, times_s, strict=True)),
        found=tuple(
            empty_frame(row, at_s, num_verbs) if result is None else replace(result, index=row, pts_s=at_s)
            for row, (result, at_s) in enumerate(zip(chosen, times_s, strict=True))
        ),
        missing=len(ground_truth) - belonging,
        foreign=len(found) - belonging,
    )


def _times_agree(ground_truth: Sequence[VideoFrame], chosen: Sequence[VideoFrame | None]) -> bool:
    """Whether times agree; missing ones contradict nothing."""
    pairs = [(result.pts_s, gt.pts_s) for gt, result in zip(ground_truth, chosen, strict=True) if result is not None]
    return all(not abs(a - b) > _SAME_TIME_S for a, b in pairs) and (bool(pairs) or not chosen)


def _nearest(ground_truth: Sequence[VideoFrame], found: Sequence[VideoFrame]) -> list[VideoFrame | None]:
    gt_s, found_s = np.array([frame.pts_s for frame in ground_truth]), np.array([frame.pts_s for frame in found])
    if not len(found_s) or np.isnan(gt_s).any() or np.isnan(found_s).any():
        return [None] * len(ground_truth)
    steps = np.diff(gt_s)
    reach_s = np.maximum(np.minimum(np.append(np.inf, steps), np.append(steps, np.inf)) / 2, _SAME_TIME_S)
    distance_s = np.abs(found_s[None] - gt_s[:, None])
    nearest = distance_s.argmin(axis=1)
    good = (distance_s.min(axis=1) < reach_s) & np.isfinite(reach_s)
    return [found[n] if ok else None for n, ok in zip(nearest.tolist(), good.tolist(), strict=True)]


@dataclass(slots=True, kw_only=True)
class VerbSegment:
    """A verb of a pair, from the first to the last frame that lists the pair with the verb active.

    Frames in between that do not list the pair (it is hidden) do not end it; one that lists it without the verb does.
    """

    pair: int
    human: int
    object: int
    label: int
    verb: int
    start_s: float
    end_s: float
    """Time of the next frame, which no longer shows it; for the video's last frame its own time and a step more."""
    frames: list[int] = field(default_factory=list)
    """Numbers of the frames that list it."""
    rows: list[int] = field(default_factory=list)
    """Row of the pair in each of those frames."""
    score: float = 0.0
    """Mean score of the verb over those frames."""


def verb_segments(frames: Sequence[VideoFrame], vocabulary: Vocabulary) -> list[VerbSegment]:
    """Segments of a video, in order of their start, then of pair and verb."""
    ends_s = frame_ends_s(frames)
    open_: dict[tuple[int, int], VerbSegment] = {}
    closed: list[VerbSegment] = []
    for number, frame in enumerate(frames):
        active = active_verbs(frame, vocabulary)
        for row, pair in enumerate(frame.pair.tolist()):
            for verb in [verb for (open_pair, verb) in open_ if open_pair == pair and verb not in active[row]]:
                closed.append(open_.pop((pair, verb)))
            for verb in active[row]:
                segment = open_.get((pair, verb)) or _new_segment(frame, row, verb)
                open_[pair, verb] = segment
                segment.frames.append(number)
                segment.rows.append(row)
                segment.end_s = ends_s[number]
                segment.score += float(frame.verb_scores[row, verb])
    closed += open_.values()
    for segment in closed:
        segment.score /= len(segment.frames)
    return sorted(closed, key=lambda segment: (segment.start_s, segment.pair, segment.verb))


def active_verbs(frame: VideoFrame, vocabulary: Vocabulary) -> list[list[int]]:
    """Active verbs of each pair of the frame; empty lists for pairs that do nothing."""
    acting = acting_pairs(frame, vocabulary)
    verbs = {
        pair: np.flatnonzero(row).tolist() for pair, row in zip(acting.pair.tolist(), acting.verb_active, strict=True)
    }
    return [verbs.get(pair, []) for pair in frame.pair.tolist()]


def frame_ends_s(frames: Sequence[VideoFrame]) -> list[float]:
    """End of each frame: the time of the next; the last one lasts as long as the median."""
    times_s = [frame.pts_s for frame in frames]
    usual_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    return [*times_s[1:], *(time_s + usual_s for time_s in times_s[-1:])]


def _new_segment(frame: VideoFrame, row: int, verb: int) -> VerbSegment:
    return VerbSegment(
        pair=int(frame.pair[row]),
        human=int(frame.human[row]),
        object=int(frame.object[row]),
        label=int(frame.label[row]),
        verb=verb,
        start_s=frame.pts_s,
        end_s=frame.pts_s,
    )


def segment_boxes(segment: VerbSegment, frames: Sequence[VideoFrame]) -> tuple[I64, F64, F64]:
    """(n,) frame numbers and (n, 4) boxes of human and object."""
    rows = list(zip(segment.frames, segment.rows, strict=True))
    human = np.array([frames[number].human_boxes_xyxy[row] for number, row in rows])
    object_boxes = np.array([frames[number].object_boxes_xyxy[row] for number, row in rows])
    return np.array(segment.frames, np.int64), human, object_boxes
