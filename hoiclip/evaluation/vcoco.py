"""V-COCO AP as the research code counts it: eleven points per verb. The V-COCO authors' own is in vcoco_official.py.

A true pair without an object matches by its human alone. `official=True` counts an interaction that is annotated twice
twice, uses floating-point recall levels (average_precision.py), and gives a role verb without ground truth 0 in
mAP_thesis; clean, it is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources

import numpy as np

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.matching import match_all
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import Evaluation, class_results, mean
from hoiclip.evaluation.truth import TruePairs, true_verbs
from hoiclip.vocabulary import VOCABULARIES, Vocabulary, load_vocabulary


def evaluate_vcoco(
    predictions: Sequence[PredictedPairs],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    official: bool = False,
) -> Evaluation:
    """AP per verb, their mean, and the mean over verbs that have a role ("thesis").

    Args:
        predictions: one per annotation; categories are verbs. An object counts only under its own label.

    Source: SPEC.md §7.
    """
    truths = [true_verbs(annotation, keep_doubles=official) for annotation in annotations]
    return vcoco_of(predictions, truths, vocabulary, official=official)


def vcoco_of(
    predictions: Sequence[PredictedPairs],
    truths: Sequence[TruePairs],
    vocabulary: Vocabulary,
    *,
    official: bool = False,
) -> Evaluation:
    """The evaluation proper; ground truth as of `true_verbs`."""
    all_true = np.concatenate([true.category for true in truths]) if truths else np.zeros(0, np.int64)
    num_gt = np.bincount(all_true, minlength=len(vocabulary.verbs))
    matches = match_all(predictions, truths, labels_must_agree=True)
    classes = class_results(matches, num_gt, vocabulary.verbs, official=official)
    summary = {f"AP_{one.name}": one.ap for one in classes if one.num_gt}
    summary["mAP_all"] = mean([one.ap for one in classes if one.num_gt])
    with_role = [classes[verb] for verb in role_verbs(vocabulary)]
    counted = [one.ap if one.num_gt else 0.0 for one in with_role if official or one.num_gt]
    if with_role:
        summary["mAP_thesis"] = mean(counted)
    return Evaluation(
        metric="vcoco",
        official=official,
        classes=classes,
        summaries={"all": summary},
        matches=matches,
        truths=tuple(truths),
    )


def role_verbs(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Verbs the literature averages over; none where the vocabulary is not V-COCO's."""
    if vocabulary.name not in VOCABULARIES or vocabulary.verbs != load_vocabulary(vocabulary.name).verbs:
        return ()
    data = json.loads(resources.files("hoiclip").joinpath(f"vocabularies/{vocabulary.name}.json").read_text("utf-8"))
    return tuple(data.get("role_verbs", ()))
