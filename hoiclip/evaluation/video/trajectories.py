"""Relations as two trajectories: VidVRD's mAP and recall on the overlap of volumes (vIoU), and the ranking behind it.

Source: Shang et al., Video Visual Relation Detection, ACM MM 2017, and the task of the ACM MM Video Relation
Understanding challenges (videorelation.nextcenter.org).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.core.array_types import F64, I64
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.average_precision import envelope_area
from hoiclip.evaluation.matching import area, common_area
from hoiclip.evaluation.results import mean
from hoiclip.evaluation.video.frames import AlignedVideo, VerbSegment, segment_boxes, verb_segments

MIN_VIOU = 0.5
RELATIONS = 200
"""Relations of a video that count, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectories:
    """Numbers over videos, in [0, 1]; NaN without ground truth."""

    map_by_video: float
    """AP over all relations of a video, then the mean over videos: VidVRD's mAP."""
    map_by_class: float
    """AP of each verb and object over all videos, then the mean over those."""
    recall_at_50: float
    """Fraction of ground-truth relations that the 50 best of each video find."""
    recall_at_100: float


def trajectories(videos: Sequence[AlignedVideo], vocabulary: Vocabulary) -> Trajectories:
    """Measures relations; a relation is a segment: pair, verb and the boxes of its frames."""
    ranked = [ranked_by_volume(video, vocabulary) for video in videos]
    with_ground_truth = [video for video in ranked if len(video.gt_kind)]
    return Trajectories(
        map_by_video=mean([envelope_area(video.hits(MIN_VIOU), len(video.gt_kind)) for video in with_ground_truth]),
        map_by_class=class_mean(ranked, MIN_VIOU),
        recall_at_50=_recall(with_ground_truth, 50),
        recall_at_100=_recall(with_ground_truth, 100),
    )


def ranked_by_volume(video: AlignedVideo, vocabulary: Vocabulary) -> Ranked:
    """Relations ranked by score; overlap is the smaller vIoU of humans and of objects."""
    labels = len(vocabulary.objects)
    gt, found = verb_segments(video.ground_truth, vocabulary), verb_segments(video.found, vocabulary)
    found = sorted(found, key=lambda segment: -segment.score)[:RELATIONS]
    gt_kind = np.array([segment_kind(segment, labels) for segment in gt], np.int64)
    found_kind = np.array([segment_kind(segment, labels) for segment in found], np.int64)
    overlap = np.zeros((len(found), len(gt)))
    gt_boxes = [segment_boxes(segment, video.ground_truth) for segment in gt]
    for n, segment in enumerate(found):
        boxes = segment_boxes(segment, video.found)
        for g in np.flatnonzero(gt_kind == found_kind[n]):
            overlap[n, g] = _relation_viou(boxes, gt_boxes[g])
    return Ranked(
        score=np.array([segment.score for segment in found]), kind=found_kind, overlap_ng=overlap, gt_kind=gt_kind
    )


def volume_iou(a_frames: I64, a_xyxy: F64, b_frames: I64, b_xyxy: F64) -> float:
    """Overlap of two trajectories: common area over united area, both summed over frames; 0 where one is not finite.

    Args:
        a_frames, b_frames: (n,) and (m,) numbers of the frames, growing; in other frames a trajectory has no area.
        a_xyxy, b_xyxy: (n, 4) and (m, 4)
    """
    _, a_row, b_row = np.intersect1d(a_frames, b_frames, assume_unique=True, return_indices=True)
    common = float(common_area(a_xyxy[a_row], b_xyxy[b_row]).sum())
    union = float(area(a_xyxy).sum() + area(b_xyxy).sum()) - common
    return common / union if 0 < common < math.inf else 0.0


def _relation_viou(a: tuple[I64, F64, F64], b: tuple[I64, F64, F64]) -> float:
    (a_frames, a_human, a_object), (b_frames, b_human, b_object) = a, b
    human = volume_iou(a_frames, a_human, b_frames, b_human)
    return min(human, volume_iou(a_frames, a_object, b_frames, b_object)) if human >= MIN_VIOU else 0.0


def _recall(videos: Sequence[Ranked], best: int) -> float:
    gt = sum(len(video.gt_kind) for video in videos)
    return sum(int(video.hits(MIN_VIOU)[:best].sum()) for video in videos) / gt if gt else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Segments of one video, predicted ones in the order of falling score, with their overlaps."""

    score: F64
    """(N,)"""
    kind: I64
    """(N,) number of verb and label."""
    overlap_ng: F64
    """(N, G) 0 where verb or label differ."""
    gt_kind: I64
    """(G,)"""

    def hits(self, min_overlap: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(N,) whether each takes a ground-truth segment: of the free ones that it overlaps most, if enough."""
        free = np.ones(len(self.gt_kind), np.bool_)
        hit = np.zeros(len(self.score), np.bool_)
        for row, overlaps in enumerate(self.overlap_ng):
            possible = np.where(free, overlaps, 0.0)
            if len(possible) and possible.max() >= min_overlap:
                hit[row] = True
                free[possible.argmax()] = False
        return hit


def segment_kind(segment: VerbSegment, labels: int) -> int:
    """Verb and label as one number; no object is the last label."""
    return segment.verb * (labels + 1) + segment.label % (labels + 1)


def class_mean(videos: Sequence[Ranked], min_overlap: float) -> float:
    """Mean AP over the kinds that ground truth has, each over all videos; NaN without ground truth.

    AP is the area under the precision envelope.
    """
    none = np.zeros(0)
    score = np.concatenate([none, *(video.score for video in videos)])
    kind = np.concatenate([none, *(video.kind for video in videos)])
    hit = np.concatenate([none, *(video.hits(min_overlap) for video in videos)]).astype(np.bool_)
    kinds, counts = np.unique(np.concatenate([none, *(video.gt_kind for video in videos)]), return_counts=True)
    order = np.argsort(-score, kind="stable")
    kind, hit = kind[order], hit[order]
    return mean(
        [envelope_area(hit[kind == gt_kind], int(num_gt)) for gt_kind, num_gt in zip(kinds, counts, strict=True)]
    )
