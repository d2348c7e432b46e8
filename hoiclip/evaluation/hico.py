"""HICO-DET mAP, default and known-object. The drawn world is judged by the same rule with its own vocabulary.

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

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.matching import Matches, match_all
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import ClassResult, Evaluation, class_results, mean
from hoiclip.evaluation.splits import Split
from hoiclip.evaluation.truth import TruePairs, true_hois
from hoiclip.vocabulary import Vocabulary


def evaluate_hico(
    predictions: Sequence[PredictedPairs],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    splits: Sequence[Split] = (),
    known_object: bool = False,
    official: bool = False,
) -> Evaluation:
    """mAP over the HOI classes that have ground truth.

    Args:
        predictions: one per annotation; categories are HOI classes. Object labels are not looked at.
        splits: each gives a summary of its own; without one there is a summary without sides.
        known_object: for each class only pictures count that show an interaction with its object.

    Source: SPEC.md §7.
    """
    truths = [true_hois(annotation, vocabulary, keep_doubles=official) for annotation in annotations]
    return hico_of(predictions, truths, vocabulary, splits=splits, known_object=known_object, official=official)


def hico_of(
    predictions: Sequence[PredictedPairs],
    truths: Sequence[TruePairs],
    vocabulary: Vocabulary,
    *,
    splits: Sequence[Split] = (),
    known_object: bool = False,
    official: bool = False,
) -> Evaluation:
    """The evaluation proper; ground truth as of `true_hois`."""
    all_true = np.concatenate([true.category for true in truths]) if truths else np.zeros(0, np.int64)
    unknown = int((all_true < 0).sum())
    num_gt = np.bincount(all_true[all_true >= 0], minlength=len(vocabulary.hois))
    matches = match_all(predictions, truths)
    if known_object:
        matches = _where_object_is_known(matches, truths, vocabulary)
    names = [" ".join(filter(None, (vocabulary.verb_name(v), vocabulary.object_name(o)))) for v, o in vocabulary.hois]
    classes = class_results(matches, num_gt, names, official=official)
    notes = (f"{unknown} interactions of the ground truth are no HOI of the vocabulary and were left out",)
    return Evaluation(
        metric="hico-ko" if known_object else "hico",
        official=official,
        classes=classes,
        summaries={split.name: _summary(classes, split, official) for split in splits} or {"all": _overall(classes)},
        matches=matches,
        truths=tuple(truths),
        notes=notes if unknown else (),
    )


def _where_object_is_known(matches: Matches, truths: Sequence[TruePairs], vocabulary: Vocabulary) -> Matches:
    object_of_hoi = np.array([obj for _, obj in vocabulary.hois], np.int64)
    shows: NDArray[np.bool_] = np.zeros((len(truths), vocabulary.num_object_classes), np.bool_)
    for image, true in enumerate(truths):
        shows[image, object_of_hoi[true.category[true.category >= 0]]] = True
    return matches.rows(shows[matches.image, object_of_hoi[matches.category]])


def _overall(classes: Sequence[ClassResult]) -> dict[str, float]:
    counted = [one for one in classes if one.num_gt]
    return {"mAP": mean([one.ap for one in counted]), "mean max recall": mean([one.max_recall for one in counted])}


def _summary(classes: Sequence[ClassResult], split: Split, official: bool) -> dict[str, float]:
    sides: dict[bool, list[float]] = {True: [], False: []}
    for index, one in enumerate(classes):
        if one.num_gt and not (official and one.num_predictions == 0):
            sides[index in split.inside].append(one.ap)
    overall = _overall(classes)
    return {
        "mAP": overall["mAP"],
        f"mAP {split.inside_name}": mean(sides[True]),
        f"mAP {split.outside_name}": mean(sides[False]),
        "mean max recall": overall["mean max recall"],
    }
