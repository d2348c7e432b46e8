"""Relations as two trajectories: VidVRD's mAP and recall on the overlap of volumes (vIoU).

Source: Shang et al., Video Visual Relation Detection, ACM MM 2017, and the task of the ACM MM Video Relation
Understanding challenges (videorelation.nextcenter.org).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.evaluation.average_precision import envelope_area
from hoiclip.evaluation.overlap import area, common_area
from hoiclip.evaluation.results import mean
from hoiclip.evaluation.video.align import Aligned
from hoiclip.evaluation.video.moments import F64, I64
from hoiclip.evaluation.video.ranked import Ranked, class_mean, kind
from hoiclip.evaluation.video.segments import boxes_of, segments
from hoiclip.vocabulary import Vocabulary

MIN_VIOU = 0.5
RELATIONS = 200
"""Of a film that count, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectories:
    """Numbers over films, in [0, 1]; NaN without truth."""

    map_by_film: float
    """AP over all relations of a film, then the mean over films: VidVRD's mAP."""
    map_by_class: float
    """AP of each verb and object over all films, then the mean over those."""
    recall_at_50: float
    """Share of true relations that the 50 best of each film find."""
    recall_at_100: float


def trajectories(films: Sequence[Aligned], vocabulary: Vocabulary) -> Trajectories:
    """A relation is a segment: pair, verb and the boxes of its frames."""
    ranked = [ranked_by_volume(film, vocabulary) for film in films]
    with_truth = [one for one in ranked if len(one.true_kind)]
    return Trajectories(
        map_by_film=mean([envelope_area(one.hits(MIN_VIOU), len(one.true_kind)) for one in with_truth]),
        map_by_class=class_mean(ranked, MIN_VIOU),
        recall_at_50=_recall(with_truth, 50),
        recall_at_100=_recall(with_truth, 100),
    )


def ranked_by_volume(film: Aligned, vocabulary: Vocabulary) -> Ranked:
    """Overlap is the smaller vIoU of humans and of objects."""
    labels = len(vocabulary.objects)
    true, found = segments(film.truth, vocabulary), segments(film.found, vocabulary)
    found = sorted(found, key=lambda one: -one.score)[:RELATIONS]
    true_kind = np.array([kind(one, labels) for one in true], np.int64)
    found_kind = np.array([kind(one, labels) for one in found], np.int64)
    overlap = np.zeros((len(found), len(true)))
    true_boxes = [boxes_of(one, film.truth) for one in true]
    for n, one in enumerate(found):
        boxes = boxes_of(one, film.found)
        for g in np.flatnonzero(true_kind == found_kind[n]):
            overlap[n, g] = _relation_viou(boxes, true_boxes[g])
    return Ranked(
        score=np.array([one.score for one in found]), kind=found_kind, overlap_ng=overlap, true_kind=true_kind
    )


def volume_iou(a_frames: I64, a_xyxy: F64, b_frames: I64, b_xyxy: F64) -> float:
    """Overlap of two trajectories: common area over united area, both summed over frames; 0 where one is not finite.

    Args:
        a_frames, b_frames: (n,) and (m,) numbers of the frames, growing; in others a trajectory has no area.
        a_xyxy, b_xyxy: (n, 4) and (m, 4)
    """
    _, a_row, b_row = np.intersect1d(a_frames, b_frames, assume_unique=True, return_indices=True)
    common = float(common_area(a_xyxy[a_row], b_xyxy[b_row]).sum())
    union = float(area(a_xyxy).sum() + area(b_xyxy).sum()) - common
    return common / union if 0 < common < math.inf else 0.0


def _relation_viou(a: tuple[I64, F64, F64], b: tuple[I64, F64, F64]) -> float:
    (a_frames, a_human, a_thing), (b_frames, b_human, b_thing) = a, b
    human = volume_iou(a_frames, a_human, b_frames, b_human)
    return min(human, volume_iou(a_frames, a_thing, b_frames, b_thing)) if human >= MIN_VIOU else 0.0


def _recall(films: Sequence[Ranked], best: int) -> float:
    true = sum(len(film.true_kind) for film in films)
    return sum(int(film.hits(MIN_VIOU)[:best].sum()) for film in films) / true if true else math.nan
