"""HICO-DET mAP, default and known-object. The synthetic world is judged by the same rule with its own vocabulary.

Two ways of counting. The clean one is HICO-DET's own definition. `official=True` follows the research code with its
quirks, for comparison with published numbers:

- an interaction that is annotated twice counts twice, though it can be hit once; clean: it counts once;
- a class with ground truth but without a prediction is left out of the means of a split; clean: it counts 0;
- recall levels are those of floating point (average_precision.py); clean: exact tenths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.matching import TripletMatches, match_all
from hoiclip.evaluation.results import ClassResult, Evaluation, class_results, mean
from hoiclip.evaluation.splits import Split
from hoiclip.evaluation.triplets import GroundTruthTriplets, PredictedTriplets, hoi_ground_truth


def evaluate_hico(
    predictions: Sequence[PredictedTriplets],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    splits: Sequence[Split] = (),
    known_object: bool = False,
    official: bool = False,
) -> Evaluation:
    """mAP over the HOI classes that have ground truth.

    Args:
        predictions: one per annotation; categories are HOI classes. Object labels are ignored.
        splits: each gives a summary of its own; without one there is a summary without sides.
        known_object: for each class only images count that show an interaction with its object.

    Source: docs/model.md, Evaluation.
    """
    ground_truth = [hoi_ground_truth(annotation, vocabulary, keep_duplicates=official) for annotation in annotations]
    return evaluate_hico_triplets(
        predictions, ground_truth, vocabulary, splits=splits, known_object=known_object, official=official
    )


def evaluate_hico_triplets(
    predictions: Sequence[PredictedTriplets],
    ground_truth: Sequence[GroundTruthTriplets],
    vocabulary: Vocabulary,
    *,
    splits: Sequence[Split] = (),
    known_object: bool = False,
    official: bool = False,
) -> Evaluation:
    """Evaluates ground truth in the form of `hoi_ground_truth`."""
    gt_category = np.concatenate([gt.category for gt in ground_truth]) if ground_truth else np.zeros(0, np.int64)
    unknown = int((gt_category < 0).sum())
    num_gt = np.bincount(gt_category[gt_category >= 0], minlength=len(vocabulary.hois))
    matches = match_all(predictions, ground_truth)
    if known_object:
        matches = _where_object_is_known(matches, ground_truth, vocabulary)
    names = [" ".join(filter(None, (vocabulary.verb_name(v), vocabulary.object_name(o)))) for v, o in vocabulary.hois]
    classes = class_results(matches, num_gt, names, official=official)
    notes = (f"{unknown} interactions of the ground truth are no HOI of the vocabulary and were left out",)
    return Evaluation(
        metric="hico-ko" if known_object else "hico",
        official=official,
        classes=classes,
        summaries={split.name: _summary(classes, split, official) for split in splits} or {"all": _overall(classes)},
        matches=matches,
        ground_truth=tuple(ground_truth),
        notes=notes if unknown else (),
    )


def _where_object_is_known(
    matches: TripletMatches, ground_truth: Sequence[GroundTruthTriplets], vocabulary: Vocabulary
) -> TripletMatches:
    object_of_hoi = np.array([obj for _, obj in vocabulary.hois], np.int64)
    shows: NDArray[np.bool_] = np.zeros((len(ground_truth), vocabulary.num_object_classes), np.bool_)
    for image, gt in enumerate(ground_truth):
        shows[image, object_of_hoi[gt.category[gt.category >= 0]]] = True
    return matches.rows(shows[matches.image, object_of_hoi[matches.category]])


def _overall(classes: Sequence[ClassResult]) -> dict[str, float]:
    counted = [result for result in classes if result.num_gt]
    return {
        "mAP": mean([result.ap for result in counted]),
        "mean max recall": mean([result.max_recall for result in counted]),
    }


def _summary(classes: Sequence[ClassResult], split: Split, official: bool) -> dict[str, float]:
    sides: dict[bool, list[float]] = {True: [], False: []}
    for index, result in enumerate(classes):
        if result.num_gt and not (official and result.num_predictions == 0):
            sides[index in split.inside].append(result.ap)
    overall = _overall(classes)
    return {
        "mAP": overall["mAP"],
        f"mAP {split.inside_name}": mean(sides[True]),
        f"mAP {split.outside_name}": mean(sides[False]),
        "mean max recall": overall["mean max recall"],
    }
