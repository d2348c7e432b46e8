"""Oracle gains: the mAP that would be if errors of one kind were mended and all others stayed.

After TIDE (Bolya et al., ECCV 2020), with the metric itself run again. Mending a kind makes two changes to predictions:
ground truth of that fate is predicted as it is, with the score of the prediction that explains it, and false positives
of that kind are removed. Missed pairs cannot be mended, as no prediction has a score for them: like TIDE, the oracle
takes them out of the ground truth. No gain is negative: a hit is added or a false positive removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.core.array_types import I64, Bool
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.error_analysis.classify import (
    BACKGROUND,
    DUPLICATE,
    FALSE_KINDS,
    FATES,
    FOUND,
    LOOSE,
    MERGED,
    MISSED,
    WRONG_BOTH,
    WRONG_LABEL,
    WRONG_PAIRING,
    WRONG_VERB,
    FalsePositives,
    Fates,
    codes,
)
from hoiclip.evaluation.hico import evaluate_hico_triplets
from hoiclip.evaluation.matching import match_all
from hoiclip.evaluation.metrics import MetricName
from hoiclip.evaluation.triplets import GroundTruthTriplets, PredictedTriplets
from hoiclip.evaluation.vcoco import evaluate_vcoco_triplets

MISSED_LEFT_OUT = "missed pairs left out"
MENDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "boxes right": (LOOSE, LOOSE),
    "verbs right": ((WRONG_VERB,), (WRONG_VERB,)),
    "labels right": ((WRONG_LABEL,), (WRONG_LABEL,)),
    "labels and verbs right": ((WRONG_BOTH,), (WRONG_BOTH,)),
    "pairing right": ((WRONG_PAIRING,), (WRONG_PAIRING,)),
    "merged pairs apart": ((MERGED,), ()),
    "duplicates removed": ((), (DUPLICATE,)),
    "background removed": ((), (BACKGROUND,)),
    "everything but missed": (tuple(kind for kind in FATES if kind not in (FOUND, *MISSED)), FALSE_KINDS),
}
"""Oracle to the fates that it turns into found, and the kinds of false positives that it removes."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """The metric with one kind of error mended."""

    mended: str
    mean_ap: float
    gain: float
    """Above the mAP as it is; NaN where there is no ground truth."""


class Oracles:
    """Runs the metric again on mended predictions."""

    def __init__(
        self,
        metric: MetricName,
        vocabulary: Vocabulary,
        predictions: Sequence[PredictedTriplets],
        ground_truth: Sequence[GroundTruthTriplets],
        fates: Fates,
        false: FalsePositives,
    ) -> None:
        self._metric, self._vocabulary = metric, vocabulary
        self._predictions, self._ground_truth, self._fates, self._false = predictions, ground_truth, fates, false
        findable = _findable(ground_truth, by_label=metric == "vcoco")
        self._findable = findable[np.cumsum([0, *map(len, ground_truth)])[fates.image] + fates.row]

    def gains(self, mean_ap: float) -> tuple[Oracle, ...]:
        """Gains of all oracles.

        Args:
            mean_ap: as it is.
        """
        mended = {
            name: self._mean_ap(self._mended(np.isin(self._fates.fate, codes(FATES, *found)), removed))
            for name, (found, kinds) in MENDED.items()
            for removed in [np.isin(self._false.kind, codes(FALSE_KINDS, *kinds))]
        }
        mended[MISSED_LEFT_OUT] = self._mean_ap(self._predictions, self._without_missed())
        return tuple(Oracle(name, value, value - mean_ap) for name, value in mended.items())

    def _mean_ap(
        self, predictions: Sequence[PredictedTriplets], ground_truth: Sequence[GroundTruthTriplets] | None = None
    ) -> float:
        ground_truth = self._ground_truth if ground_truth is None else ground_truth
        if self._metric == "vcoco":
            return evaluate_vcoco_triplets(predictions, ground_truth, self._vocabulary).mean_ap
        return evaluate_hico_triplets(
            predictions, ground_truth, self._vocabulary, known_object=self._metric == "hico-ko"
        ).mean_ap

    def _mended(self, found: Bool, removed: Bool) -> list[PredictedTriplets]:
        found = found & self._findable
        mended = list(self._predictions)
        for image, rows in _grouped(self._false.image, removed):
            kept = np.ones(len(mended[image]), np.bool_)
            kept[self._false.row[rows]] = False
            mended[image] = mended[image].rows(kept)
        for image, rows in _grouped(self._fates.image, found):
            mended[image] = _joined(mended[image], self._as_predicted(image, rows))
        return mended

    def _as_predicted(self, image: int, rows: I64) -> PredictedTriplets:
        gt, row = self._ground_truth[image], self._fates.row[rows]
        return PredictedTriplets(
            human_boxes_xyxy=gt.human_boxes_xyxy[row],
            object_boxes_xyxy=gt.object_boxes_xyxy[row],
            label=gt.label[row],
            category=gt.category[row],
            score=self._fates.score[rows],
            query=np.arange(len(row)),  # the metrics of pairs do not ask
        )

    def _without_missed(self) -> list[GroundTruthTriplets]:
        left = list(self._ground_truth)
        for image, rows in _grouped(self._fates.image, np.isin(self._fates.fate, codes(FATES, *MISSED))):
            kept = np.ones(len(left[image]), np.bool_)
            kept[self._fates.row[rows]] = False
            left[image] = left[image].rows(kept)
        return left


def _findable(ground_truth: Sequence[GroundTruthTriplets], *, by_label: bool) -> Bool:
    """Whether a prediction equal to it would hit it, for each row of all images.

    Not so for the second of two equal rows, and for an inverted box.
    """
    alike = [
        PredictedTriplets(
            human_boxes_xyxy=gt.human_boxes_xyxy,
            object_boxes_xyxy=gt.object_boxes_xyxy,
            label=gt.label,
            category=gt.category,
            score=np.ones(len(gt)),
            query=np.arange(len(gt)),
        )
        for gt in ground_truth
    ]
    matches = match_all(alike, ground_truth, labels_must_agree=by_label)
    found: Bool = matches.gt_row == matches.row
    return found


def _grouped(image: I64, chosen: Bool) -> list[tuple[int, I64]]:
    """Images and the chosen rows of each; rows are ordered by image."""
    rows = np.flatnonzero(chosen)
    images, starts = np.unique(image[rows], return_index=True)
    return list(zip(images.tolist(), np.split(rows, starts[1:]), strict=True)) if len(rows) else []


def _joined(a: PredictedTriplets, b: PredictedTriplets) -> PredictedTriplets:
    return PredictedTriplets(
        **{name: np.concatenate([getattr(a, name), getattr(b, name)]) for name in PredictedTriplets.__slots__}
    )
