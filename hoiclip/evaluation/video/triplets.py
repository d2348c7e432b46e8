"""Every frame of a film as a picture: what pictures' metrics take, and VidHOI's own mean over frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hoiclip.evaluation.matching import match_all
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import ClassResult, class_results
from hoiclip.evaluation.truth import TruePairs
from hoiclip.evaluation.video.align import Aligned
from hoiclip.evaluation.video.film import FilmFrame, acting
from hoiclip.vocabulary import NO_INTERACTION, NO_OBJECT, Vocabulary

TRIPLETS = 100
"""Of a frame that count, the best first, as in pictures."""


def predicted_triplets(frame: FilmFrame, vocabulary: Vocabulary, *, by_verb: bool = False) -> PredictedPairs:
    """The best HOIs of a frame's pairs; their score is the verb's, as it is shown (smoothed by the tracker).

    Args:
        by_verb: categories are verbs, as V-COCO counts, rather than HOIs.
    """
    column = np.where(frame.label == NO_OBJECT, len(vocabulary.objects), frame.label)
    hoi_pv = _hoi_table(vocabulary)[:, column].T
    row, verb = np.nonzero((hoi_pv >= 0) & (frame.verb_scores > 0))
    return _best(frame, row, verb, verb.astype(np.int64) if by_verb else hoi_pv[row, verb])


def vidhoi(films: Sequence[Aligned], vocabulary: Vocabulary) -> tuple[ClassResult, ...]:
    """AP of every triplet (verb, object) that truth or results have, over all frames of all films.

    As VidHOI counts: the 100 best triplets of a frame; one hits if it is the best for its class to overlap a true pair
    by half, humans and objects both; AP is the mean over eleven recall levels of the best precision from there on. A
    triplet need not be a HOI of the vocabulary. VidHOI has no "no_interaction", so it is left out here.

    Source: Chiou et al., ST-HOI: A Spatial-Temporal Baseline for Human-Object Interaction Detection in Videos, ICDAR
    2021, and the evaluation published with it, which is that of HICO-DET's Python evaluators over key frames.
    """
    columns = len(vocabulary.objects) + 1
    verbs = np.array([verb != NO_INTERACTION for verb in vocabulary.verbs])
    truths, predictions = [], []
    for true, found in ((t, f) for film in films for t, f in zip(film.truth, film.found, strict=True)):
        truths.append(_true(acting(true, vocabulary), columns))
        row, verb = np.nonzero((found.verb_scores > 0) & verbs)
        predictions.append(_best(found, row, verb, verb * columns + found.label[row] % columns))
    counted = np.concatenate([np.zeros(0, np.int64), *(true.category for true in truths)])
    num_gt = np.bincount(counted, minlength=len(vocabulary.verbs) * columns)
    things = (*vocabulary.objects, "")
    names = [f"{verb} {thing}".strip() for verb in vocabulary.verbs for thing in things]
    return class_results(match_all(predictions, truths), num_gt, names, official=True)


def _true(frame: FilmFrame, columns: int) -> TruePairs:
    row, verb = np.nonzero(frame.verb_active)
    return TruePairs(
        human_boxes_xyxy=frame.human_boxes_xyxy[row],
        object_boxes_xyxy=frame.object_boxes_xyxy[row],
        label=frame.label[row],
        category=verb * columns + frame.label[row] % columns,  # no object, -1, is the last column
    )


def _best(
    frame: FilmFrame, row: NDArray[np.int64], verb: NDArray[np.int64], category: NDArray[np.int64]
) -> PredictedPairs:
    score = frame.verb_scores[row, verb]
    best = np.argsort(-score, kind="stable")[:TRIPLETS]
    return PredictedPairs(
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
