"""Frames of videos as images: their triplets for the image metrics, and VidHOI's mean over frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.vocabulary import NO_INTERACTION, NO_OBJECT, Vocabulary
from hoiclip.evaluation.matching import match_all
from hoiclip.evaluation.results import ClassResult, class_results
from hoiclip.evaluation.triplets import GroundTruthTriplets, PredictedTriplets
from hoiclip.evaluation.video.frames import AlignedVideo, VideoFrame, acting_pairs

TRIPLETS = 100
"""Triplets of a frame that count, the best first, as in images."""


def predicted_triplets(frame: VideoFrame, vocabulary: Vocabulary, *, by_verb: bool = False) -> PredictedTriplets:
    """The best HOIs of a frame's pairs; their score is the verb's, smoothed by the tracker.

    Args:
        by_verb: categories are verbs, as V-COCO counts, rather than HOIs.
    """
    column = np.where(frame.label == NO_OBJECT, len(vocabulary.objects), frame.label)
    hoi_pv = _hoi_table(vocabulary)[:, column].T
    row, verb = np.nonzero((hoi_pv >= 0) & (frame.verb_scores > 0))
    return _best(frame, row, verb, verb.astype(np.int64) if by_verb else hoi_pv[row, verb])


def vidhoi(videos: Sequence[AlignedVideo], vocabulary: Vocabulary) -> tuple[ClassResult, ...]:
    """AP of every triplet (verb, object) that ground truth or results have, over all frames of all videos.

    As VidHOI counts: the 100 best triplets of a frame; one hits if it is the best for its class to overlap a
    ground-truth pair by half, humans and objects both; AP is the mean over eleven recall levels of the best precision
    from there on. A triplet need not be a HOI of the vocabulary. VidHOI has no "no_interaction", so it is left out.

    Source: Chiou et al., ST-HOI: A Spatial-Temporal Baseline for Human-Object Interaction Detection in Videos, ICDAR
    2021, and the evaluation published with it, which is that of HICO-DET's Python evaluators over keyframes.
    """
    columns = len(vocabulary.objects) + 1
    verbs = np.array([verb != NO_INTERACTION for verb in vocabulary.verbs])
    ground_truth, predictions = [], []
    for gt, found in ((t, f) for video in videos for t, f in zip(video.ground_truth, video.found, strict=True)):
        ground_truth.append(_gt_triplets(acting_pairs(gt, vocabulary), columns))
        row, verb = np.nonzero((found.verb_scores > 0) & verbs)
        predictions.append(_best(found, row, verb, verb * columns + found.label[row] % columns))
    counted = np.concatenate([np.zeros(0, np.int64), *(gt.category for gt in ground_truth)])
    num_gt = np.bincount(counted, minlength=len(vocabulary.verbs) * columns)
    object_names = (*vocabulary.objects, "")
    names = [f"{verb} {name}".strip() for verb in vocabulary.verbs for name in object_names]
    return class_results(match_all(predictions, ground_truth), num_gt, names, official=True)


def _gt_triplets(frame: VideoFrame, columns: int) -> GroundTruthTriplets:
    row, verb = np.nonzero(frame.verb_active)
    return GroundTruthTriplets(
        human_boxes_xyxy=frame.human_boxes_xyxy[row],
        object_boxes_xyxy=frame.object_boxes_xyxy[row],
        label=frame.label[row],
        category=verb * columns + frame.label[row] % columns,  # no object, -1, is the last column
    )


def _best(
    frame: VideoFrame, row: NDArray[np.int64], verb: NDArray[np.int64], category: NDArray[np.int64]
) -> PredictedTriplets:
    score = frame.verb_scores[row, verb]
    best = np.argsort(-score, kind="stable")[:TRIPLETS]
    return PredictedTriplets(
        human_boxes_xyxy=frame.human_boxes_xyxy[row[best]],
        object_boxes_xyxy=frame.object_boxes_xyxy[row[best]],
        label=frame.label[row[best]],
        category=category[best],
        score=score[best],
        query=row[best].astype(np.int64),
    )


@lru_cache(maxsize=2)
def _hoi_table(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """(V, O + 1) HOI of each verb and object, the last column for no object; -1 where there is none."""
    table = np.full((len(vocabulary.verbs), len(vocabulary.objects) + 1), -1, np.int64)
    table[tuple(np.array(vocabulary.hois).T)] = np.arange(len(vocabulary.hois))
    return table
