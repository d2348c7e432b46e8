"""Why a model misses interactions and what its false positives are: fates, kinds, tables and oracle gains at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.analysis.attributes import Attribute, false_attributes, truth_attributes
from hoiclip.evaluation.analysis.classify import (
    I64,
    FalsePositives,
    Fates,
    ImageErrors,
    Meaning,
    by_image,
    concatenated,
    top_of_class,
)
from hoiclip.evaluation.analysis.kinds import FALSE_KINDS, FATES, FOUND, AnalysisConfig
from hoiclip.evaluation.analysis.oracles import Oracle, Oracles
from hoiclip.evaluation.analysis.tables import Table, counted, table
from hoiclip.evaluation.metrics import MetricName, choose_metric, evaluate
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import Evaluation, number
from hoiclip.evaluation.truth import distinct_interactions
from hoiclip.vocabulary import Vocabulary

SCHEMA = "hoiclip-error-analysis/1"


@dataclass(frozen=True, kw_only=True)
class ErrorAnalysis:
    """Everything about the errors of one set of predictions."""

    config: AnalysisConfig
    evaluation: Evaluation
    """The metric, counted cleanly, whose hits the analysis takes over."""
    fates: Fates
    false: FalsePositives
    oracles: tuple[Oracle, ...]
    fate_tables: tuple[Table, ...]
    false_tables: tuple[Table, ...]
    """Of the top false positives."""
    num_predictions: int
    """Predictions that the metric counts."""

    @property
    def mean_ap(self) -> float:
        return self.evaluation.mean_ap

    @cached_property
    def fate_counts(self) -> I64:
        """One per FATES."""
        return np.bincount(self.fates.fate, minlength=len(FATES))

    @cached_property
    def false_counts(self) -> I64:
        """One per FALSE_KINDS, of all false positives."""
        return np.bincount(self.false.kind, minlength=len(FALSE_KINDS))

    @cached_property
    def top_counts(self) -> I64:
        """One per FALSE_KINDS, of the top false positives."""
        return np.bincount(self.false.kind[self.false.is_top], minlength=len(FALSE_KINDS))

    @cached_property
    def errors_of_image(self) -> I64:
        """One per image: ground truth that is not found, and top false positives."""
        size = len(self.evaluation.truths)
        missed = np.bincount(self.fates.image[self.fates.fate != FATES.index(FOUND)], minlength=size)
        return missed + np.bincount(self.false.image[self.false.is_top], minlength=size)

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values, schema hoiclip-error-analysis/1 (docs/error_analysis.md): NaN becomes null."""
        return {
            "schema": SCHEMA,
            "metric": self.evaluation.metric,
            "mAP": number(self.mean_ap),
            "thresholds": self.config.to_json(),
            "images": len(self.evaluation.truths),
            "predictions": self.num_predictions,
            "ground_truth": counted(FATES, self.fate_counts),
            "false_positives": {
                "top": counted(FALSE_KINDS, self.top_counts),
                "all": counted(FALSE_KINDS, self.false_counts),
            },
            "oracles": [
                {"mended": one.mended, "mAP": number(one.mean_ap), "gain": number(one.gain)} for one in self.oracles
            ],
            "tables": {
                "ground_truth": [one.to_json() for one in self.fate_tables],
                "false_positives_top": [one.to_json() for one in self.false_tables],
            },
        }


def analyse(
    predictions: Sequence[PredictedPairs],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    metric: MetricName | None = None,
    config: AnalysisConfig | None = None,
) -> ErrorAnalysis:
    """Says of every ground-truth interaction and every false positive what is wrong.

    Args:
        predictions: one per annotation; categories are HOIs, or verbs where the vocabulary has people acting alone.
        metric: one that matches pairs, "hico", "hico-ko" or "vcoco"; None: the one that fits the vocabulary.

    Raises:
        ValueError: a metric that matches people instead of pairs (vcoco-official), or not one prediction an annotation.
    """
    config = config or AnalysisConfig()
    if len(predictions) != len(annotations):
        raise ValueError(f"expected predictions for {len(annotations)} annotations, got {len(predictions)}")
    metric = metric or choose_metric("auto", vocabulary)
    found = evaluate(metric, predictions, annotations, vocabulary)
    if found.matches is None:
        raise ValueError(f"expected a metric that matches pairs, got {metric}; use vcoco")
    fates, false = _classified(found, predictions, annotations, vocabulary, config)
    top = np.flatnonzero(false.is_top)
    kinds_of_top = false.kind[top]
    fate_attributes = truth_attributes(fates, found.truths, annotations, vocabulary.person, config)
    wrong_attributes = false_attributes(false, predictions, annotations, vocabulary.person, config)
    return ErrorAnalysis(
        config=config,
        evaluation=found,
        fates=fates,
        false=false,
        oracles=Oracles(metric, vocabulary, predictions, found.truths, fates, false).gains(found.mean_ap),
        fate_tables=(
            *(table(one, FATES, fates.fate) for one in fate_attributes),
            *(table(one, FATES, fates.fate, by_count=True) for one in _class_attributes(fates, vocabulary)),
        ),
        false_tables=(
            *(table(_rows(one, top), FALSE_KINDS, kinds_of_top) for one in wrong_attributes),
            *(
                table(_rows(one, top), FALSE_KINDS, kinds_of_top, by_count=True)
                for one in _class_attributes(false, vocabulary)
            ),
        ),
        num_predictions=len(found.matches),
    )


def _classified(
    found: Evaluation,
    predictions: Sequence[PredictedPairs],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    config: AnalysisConfig,
) -> tuple[Fates, FalsePositives]:
    assert found.matches is not None
    meaning = Meaning.of(vocabulary, by_verb=found.metric == "vcoco")
    num_gt = np.array([one.num_gt for one in found.classes], np.int64)
    is_top = top_of_class(found.matches, num_gt)
    fates: list[Fates] = []
    false: list[FalsePositives] = []
    matched = by_image(found.matches, is_top, [len(one) for one in predictions])
    for image, (truth_of, hit, is_counted, top) in enumerate(matched):
        annotation = annotations[image]
        errors = ImageErrors(
            image,
            predictions[image],
            found.truths[image],
            distinct_interactions(annotation)[:, 2],
            annotation,
            (truth_of, hit),
            meaning,
            vocabulary.person,
            config,
        )
        fates.append(errors.fates())
        false.append(errors.false_positives(is_counted, top))
    return concatenated(Fates, fates), concatenated(FalsePositives, false)


def _class_attributes(rows: Fates | FalsePositives, vocabulary: Vocabulary) -> list[Attribute]:
    """Verb and interaction of every row."""
    columns = len(vocabulary.objects) + 1
    verbs = tuple(map(vocabulary.verb_name, range(len(vocabulary.verbs))))
    objects = (*map(vocabulary.object_name, range(len(vocabulary.objects))), "")
    names = tuple(f"{verb} {thing}".strip() for verb in verbs for thing in objects)
    return [
        Attribute("verb", verbs, rows.verb),
        Attribute("interaction", names, rows.verb * columns + rows.label % columns),  # no object is the last
    ]


def _rows(attribute: Attribute, rows: I64) -> Attribute:
    return Attribute(attribute.name, attribute.bins, attribute.bin_of[rows])
