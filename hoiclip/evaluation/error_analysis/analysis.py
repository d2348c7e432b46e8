"""The error analysis as a whole: fates of ground truth, kinds of false positives, tables and oracle gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hoiclip.core.array_types import I64
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.error_analysis.attributes import (
    Attribute,
    CountTable,
    count_table,
    counts_to_json,
    false_attributes,
    gt_attributes,
)
from hoiclip.evaluation.error_analysis.classify import (
    FALSE_KINDS,
    FATES,
    FOUND,
    AnalysisConfig,
    CategoryMeaning,
    FalsePositives,
    Fates,
    ImageErrors,
    concatenate_columns,
    is_top_of_class,
    matches_by_image,
)
from hoiclip.evaluation.error_analysis.oracles import Oracle, Oracles
from hoiclip.evaluation.metrics import MetricName, choose_metric, evaluate
from hoiclip.evaluation.results import Evaluation, number
from hoiclip.evaluation.triplets import PredictedTriplets, distinct_interactions

SCHEMA = "hoiclip-error-analysis/1"


@dataclass(frozen=True, kw_only=True)
class ErrorAnalysis:
    """Errors of one set of predictions."""

    config: AnalysisConfig
    evaluation: Evaluation
    """The metric, counted cleanly, whose hits the analysis takes over."""
    fates: Fates
    false: FalsePositives
    oracles: tuple[Oracle, ...]
    fate_tables: tuple[CountTable, ...]
    false_tables: tuple[CountTable, ...]
    """Tables of the top false positives."""
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
        size = len(self.evaluation.ground_truth)
        missed = np.bincount(self.fates.image[self.fates.fate != FATES.index(FOUND)], minlength=size)
        return missed + np.bincount(self.false.image[self.false.is_top], minlength=size)

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values, schema hoiclip-error-analysis/1 (docs/error_analysis.md): NaN becomes null."""
        return {
            "schema": SCHEMA,
            "metric": self.evaluation.metric,
            "mAP": number(self.mean_ap),
            "thresholds": self.config.to_json(),
            "images": len(self.evaluation.ground_truth),
            "predictions": self.num_predictions,
            "ground_truth": counts_to_json(FATES, self.fate_counts),
            "false_positives": {
                "top": counts_to_json(FALSE_KINDS, self.top_counts),
                "all": counts_to_json(FALSE_KINDS, self.false_counts),
            },
            "oracles": [
                {"mended": oracle.mended, "mAP": number(oracle.mean_ap), "gain": number(oracle.gain)}
                for oracle in self.oracles
            ],
            "tables": {
                "ground_truth": [table.to_json() for table in self.fate_tables],
                "false_positives_top": [table.to_json() for table in self.false_tables],
            },
        }


def analyse_errors(
    predictions: Sequence[PredictedTriplets],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    *,
    metric: MetricName | None = None,
    config: AnalysisConfig | None = None,
) -> ErrorAnalysis:
    """Classifies every ground-truth interaction and every false positive.

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
    fate_attributes = gt_attributes(fates, found.ground_truth, annotations, vocabulary.person, config)
    wrong_attributes = false_attributes(false, predictions, annotations, vocabulary.person, config)
    return ErrorAnalysis(
        config=config,
        evaluation=found,
        fates=fates,
        false=false,
        oracles=Oracles(metric, vocabulary, predictions, found.ground_truth, fates, false).gains(found.mean_ap),
        fate_tables=(
            *(count_table(attribute, FATES, fates.fate) for attribute in fate_attributes),
            *(
                count_table(attribute, FATES, fates.fate, by_count=True)
                for attribute in _class_attributes(fates, vocabulary)
            ),
        ),
        false_tables=(
            *(count_table(_rows(attribute, top), FALSE_KINDS, kinds_of_top) for attribute in wrong_attributes),
            *(
                count_table(_rows(attribute, top), FALSE_KINDS, kinds_of_top, by_count=True)
                for attribute in _class_attributes(false, vocabulary)
            ),
        ),
        num_predictions=len(found.matches),
    )


def _classified(
    found: Evaluation,
    predictions: Sequence[PredictedTriplets],
    annotations: Sequence[ImageAnnotation],
    vocabulary: Vocabulary,
    config: AnalysisConfig,
) -> tuple[Fates, FalsePositives]:
    assert found.matches is not None
    meaning = CategoryMeaning.of(vocabulary, by_verb=found.metric == "vcoco")
    num_gt = np.array([result.num_gt for result in found.classes], np.int64)
    is_top = is_top_of_class(found.matches, num_gt)
    fates: list[Fates] = []
    false: list[FalsePositives] = []
    matched = matches_by_image(found.matches, is_top, [len(predicted) for predicted in predictions])
    for image, (gt_row_of, hit, is_counted, top) in enumerate(matched):
        annotation = annotations[image]
        errors = ImageErrors(
            image,
            predictions[image],
            found.ground_truth[image],
            distinct_interactions(annotation)[:, 2],
            annotation,
            (gt_row_of, hit),
            meaning,
            vocabulary.person,
            config,
        )
        fates.append(errors.fates())
        false.append(errors.false_positives(is_counted, top))
    return concatenate_columns(Fates, fates), concatenate_columns(FalsePositives, false)


def _class_attributes(rows: Fates | FalsePositives, vocabulary: Vocabulary) -> list[Attribute]:
    """Verb and interaction of every row."""
    columns = len(vocabulary.objects) + 1
    verbs = tuple(map(vocabulary.verb_name, range(len(vocabulary.verbs))))
    objects = (*map(vocabulary.object_name, range(len(vocabulary.objects))), "")
    names = tuple(f"{verb} {obj}".strip() for verb in verbs for obj in objects)
    return [
        Attribute("verb", verbs, rows.verb),
        Attribute("interaction", names, rows.verb * columns + rows.label % columns),  # no object is the last
    ]


def _rows(attribute: Attribute, rows: I64) -> Attribute:
    return Attribute(attribute.name, attribute.bins, attribute.bin_of[rows])
