"""Oracle gains: the mAP that would be if errors of one kind were mended and all others stayed.

After TIDE (Bolya et al., ECCV 2020), with the metric itself run again. Mending a kind makes two changes to predictions:
ground truth of that fate is predicted as it is, with the score of the prediction that explains it, and false positives
of that kind are gone. What is missed cannot be mended, as no prediction has a score for it: like TIDE, the oracle takes
it out of the ground truth. No gain is negative: a hit is added or a false positive removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.evaluation.analysis.classify import I64, Bool, FalsePositives, Fates
from hoiclip.evaluation.analysis.kinds import (
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
    codes,
)
from hoiclip.evaluation.hico import hico_of
from hoiclip.evaluation.matching import match_all
from hoiclip.evaluation.metrics import MetricName
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.truth import TruePairs
from hoiclip.evaluation.vcoco import vcoco_of
from hoiclip.vocabulary import Vocabulary

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
"""What is mended: fates that are found then, and kinds of false positives that are gone."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """One kind mended."""

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
        predictions: Sequence[PredictedPairs],
        truths: Sequence[TruePairs],
        fates: Fates,
        false: FalsePositives,
    ) -> None:
        self._metric, self._vocabulary = metric, vocabulary
        self._predictions, self._truths, self._fates, self._false = predictions, truths, fates, false
        findable = _findable(truths, by_label=metric == "vcoco")
        self._findable = findable[np.cumsum([0, *map(len, truths)])[fates.image] + fates.row]

    def gains(self, mean_ap: float) -> tuple[Oracle, ...]:
        """All of them.

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

    def _mean_ap(self, predictions: Sequence[PredictedPairs], truths: Sequence[TruePairs] | None = None) -> float:
        truths = self._truths if truths is None else truths
        if self._metric == "vcoco":
            return vcoco_of(predictions, truths, self._vocabulary).mean_ap
        return hico_of(predictions, truths, self._vocabulary, known_object=self._metric == "hico-ko").mean_ap

    def _mended(self, found: Bool, removed: Bool) -> list[PredictedPairs]:
        found = found & self._findable
        mended = list(self._predictions)
        for image, rows in _grouped(self._false.image, removed):
            kept = np.ones(len(mended[image]), np.bool_)
            kept[self._false.row[rows]] = False
            mended[image] = mended[image].rows(kept)
        for image, rows in _grouped(self._fates.image, found):
            mended[image] = _joined(mended[image], self._as_predicted(image, rows))
        return mended

    def _as_predicted(self, image: int, rows: I64) -> PredictedPairs:
        truth, row = self._truths[image], self._fates.row[rows]
        return PredictedPairs(
            human_boxes_xyxy=truth.human_boxes_xyxy[row],
            object_boxes_xyxy=truth.object_boxes_xyxy[row],
            label=truth.label[row],
            category=truth.category[row],
            score=self._fates.score[rows],
            query=np.arange(len(row)),  # the metrics of pairs do not ask
        )

    def _without_missed(self) -> list[TruePairs]:
        left = list(self._truths)
        for image, rows in _grouped(self._fates.image, np.isin(self._fates.fate, codes(FATES, *MISSED))):
            kept = np.ones(len(left[image]), np.bool_)
            kept[self._fates.row[rows]] = False
            left[image] = left[image].rows(kept)
        return left


def _findable(truths: Sequence[TruePairs], *, by_label: bool) -> Bool:
    """One per row of all images: whether a prediction just like it would hit it.

    Not so for the second of two that are alike to the pixel, and for a box turned inside out.
    """
    alike = [
        PredictedPairs(
            human_boxes_xyxy=one.human_boxes_xyxy,
            object_boxes_xyxy=one.object_boxes_xyxy,
            label=one.label,
            category=one.category,
            score=np.ones(len(one)),
            query=np.arange(len(one)),
        )
        for one in truths
    ]
    matches = match_all(alike, truths, labels_must_agree=by_label)
    found: Bool = matches.truth == matches.row
    return found


def _grouped(image: I64, chosen: Bool) -> list[tuple[int, I64]]:
    """Images and the chosen rows of each; rows are ordered by image."""
    rows = np.flatnonzero(chosen)
    images, starts = np.unique(image[rows], return_index=True)
    return list(zip(images.tolist(), np.split(rows, starts[1:]), strict=True)) if len(rows) else []


def _joined(a: PredictedPairs, b: PredictedPairs) -> PredictedPairs:
    return PredictedPairs(
        **{name: np.concatenate([getattr(a, name), getattr(b, name)]) for name in PredictedPairs.__slots__}
    )
