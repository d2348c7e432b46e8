"""The metrics by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.errors import UsageError
from hoiclip.evaluation.hico import evaluate_hico
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import Evaluation
from hoiclip.evaluation.splits import Split
from hoiclip.evaluation.vcoco import evaluate_vcoco
from hoiclip.evaluation.vcoco_official import evaluate_vcoco_official
from hoiclip.vocabulary import Vocabulary

MetricName = Literal["hico", "hico-ko", "vcoco", "vcoco-official"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)


def choose_metric(name: str, vocabulary: Vocabulary) -> MetricName:
    """What "auto" stands for with a vocabulary; any other name is checked.

    Raises:
        UsageError: no such metric, or one that does not fit the vocabulary.
    """
    if name == "auto":
        return "vcoco" if vocabulary.has_no_object_class else "hico"
    for known in METRICS:
        if known == name:
            if known.startswith("vcoco") != vocabulary.has_no_object_class:
                fitting = "vcoco or vcoco-official" if vocabulary.has_no_object_class else "hico or hico-ko"
                raise UsageError(f"metric {known} does not fit vocabulary {vocabulary.name!r}; use {fitting}")
            return known
    raise UsageError(f"unknown metric {name!r}; there are auto, {', '.join(METRICS)}")


def evaluate(
    metric: MetricName,
    predictions: Sequence[PredictedPairs],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    splits: Sequence[Split] = (),
    official: bool = False,
) -> Evaluation:
    """One metric; the splits are for those of HICO."""
    match metric:
        case "hico" | "hico-ko":
            return evaluate_hico(
                predictions,
                annotations,
                vocabulary,
                splits=splits,
                known_object=metric == "hico-ko",
                official=official,
            )
        case "vcoco":
            return evaluate_vcoco(predictions, annotations, vocabulary, official=official)
        case "vcoco-official":
            return evaluate_vcoco_official(predictions, annotations, vocabulary, official=official)
