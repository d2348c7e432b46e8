"""Image metrics by name, and the choice of one that fits a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from hoiclip.core.errors import UsageError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.hico import evaluate_hico
from hoiclip.evaluation.results import Evaluation
from hoiclip.evaluation.splits import Split
from hoiclip.evaluation.triplets import PredictedTriplets
from hoiclip.evaluation.vcoco import evaluate_vcoco, evaluate_vcoco_official

MetricName = Literal["hico", "hico-ko", "vcoco", "vcoco-official"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)


def choose_metric(name: str, vocabulary: Vocabulary) -> MetricName:
    """The metric that "auto" stands for with a vocabulary; any other name is checked.

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
    predictions: Sequence[PredictedTriplets],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    splits: Sequence[Split] = (),
    official: bool = False,
) -> Evaluation:
    """Evaluates by one metric; splits apply to those of HICO only."""
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
