"""Results of an evaluation: classes, summaries, and the matches behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import I64
from hoiclip.evaluation.average_precision import OFFICIAL_RECALL_LEVELS, RECALL_LEVELS, eleven_point
from hoiclip.evaluation.matching import TripletMatches
from hoiclip.evaluation.triplets import GroundTruthTriplets


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """One HOI class, verb or role."""

    name: str
    ap: float
    """NaN without ground truth."""
    num_gt: int
    hits: NDArray[np.bool_]
    """One per prediction, in the order of falling scores: everything a precision-recall curve needs."""

    @property
    def num_predictions(self) -> int:
        return len(self.hits)

    @property
    def num_hits(self) -> int:
        return int(self.hits.sum())

    @property
    def max_recall(self) -> float:
        return self.num_hits / self.num_gt if self.num_gt else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Numbers of one metric over one set of images."""

    metric: str
    official: bool
    """Whether the quirks of the official code were followed."""
    classes: tuple[ClassResult, ...]
    """All of them, also those without ground truth."""
    summaries: Mapping[str, Mapping[str, float]]
    """Name of a split to its numbers; the first is the main one. Fractions, not per cent."""
    matches: TripletMatches | None = None
    """None where people rather than pairs are matched (vcoco-official)."""
    ground_truth: tuple[GroundTruthTriplets, ...] = ()
    """Rows that the matches refer to, one per image."""
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> Mapping[str, float]:
        return next(iter(self.summaries.values()))

    @property
    def mean_ap(self) -> float:
        """Mean over the classes that have ground truth, whatever the splits: "mAP" of HICO-DET, "mAP_all" of V-COCO."""
        return mean([result.ap for result in self.classes if result.num_gt])

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values: NaN becomes null."""
        return {
            "schema": "hoiclip-eval/1",
            "metric": self.metric,
            "official": self.official,
            "notes": list(self.notes),
            "summaries": {
                split: {name: number(value) for name, value in summary.items()}
                for split, summary in self.summaries.items()
            },
            "classes": [
                {
                    "name": result.name,
                    "ap": number(result.ap),
                    "max_recall": number(result.max_recall),
                    "num_gt": result.num_gt,
                    "num_predictions": result.num_predictions,
                    "num_hits": result.num_hits,
                }
                for result in self.classes
            ],
        }


def number(value: float) -> float | None:
    """The value; None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def class_results(
    matches: TripletMatches, num_gt: I64, names: Sequence[str], *, official: bool
) -> tuple[ClassResult, ...]:
    """Eleven-point AP per class. Equal scores count in the order of images, then of rows."""
    order = np.lexsort((-matches.score, matches.category))
    hits = matches.hit[order]
    ends = np.searchsorted(matches.category[order], np.arange(len(names) + 1))
    levels = OFFICIAL_RECALL_LEVELS if official else RECALL_LEVELS
    results = []
    for index, name in enumerate(names):
        own = hits[ends[index] : ends[index + 1]]
        count = int(num_gt[index])
        ap = eleven_point(own, count, levels) if count else math.nan
        results.append(ClassResult(name=name, ap=ap, num_gt=count, hits=own))
    return tuple(results)


def mean(values: Sequence[float]) -> float:
    """Mean; NaN of an empty list."""
    return float(np.mean(values)) if len(values) else math.nan
