"""Which predictions hit: matched with ground truth picture by picture, by the rule of SPEC.md §7.

A prediction looks at true pairs of its own category only, takes the one it overlaps best (IoU of at least 0.5 on both
boxes), and hits if no better prediction has taken that pair. There is no second choice: neither upstream nor the
HICO-DET evaluation in MATLAB (as VOC) tries another pair, so this is the definition and no quirk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.evaluation.overlap import pixel_iou_matrix
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.truth import TruePairs
from hoiclip.vocabulary import NO_OBJECT

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

MIN_OVERLAP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """M predictions of all pictures, and what became of each."""

    image: I64
    """(M,) number of the picture."""
    row: I64
    """(M,) row among the picture's predictions."""
    category: I64
    score: F64
    overlap: F64
    """(M,) smaller IoU of both boxes with the best true pair of the category; 0 without one."""
    truth: I64
    """(M,) row of that true pair in the picture; -1 where the overlap is too small."""
    hit: Bool

    def __len__(self) -> int:
        return int(self.score.shape[0])

    def rows(self, index: I64 | Bool) -> Matches:
        """Some of the rows."""
        return Matches(**{name: getattr(self, name)[index] for name in self.__slots__})


def match_all(
    predictions: Sequence[PredictedPairs], truths: Sequence[TruePairs], *, labels_must_agree: bool = False
) -> Matches:
    """Every prediction of every picture.

    Args:
        labels_must_agree: whether an object of another class overlaps by nothing, as in V-COCO.
    """
    parts = [
        _match(predicted, true, image, labels_must_agree)
        for image, (predicted, true) in enumerate(zip(predictions, truths, strict=True))
    ]
    return Matches(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            if parts
            else np.zeros(0, {"hit": np.bool_, "score": np.float64, "overlap": np.float64}.get(name, np.int64))
            for name in Matches.__slots__
        }
    )


def pair_overlaps(predicted: PredictedPairs, true: TruePairs, *, labels_must_agree: bool) -> F64:
    """(N, G) the smaller IoU of both boxes, whatever the categories; that of the humans where there is no object."""
    human = pixel_iou_matrix(predicted.human_boxes_xyxy, true.human_boxes_xyxy)
    thing = pixel_iou_matrix(predicted.object_boxes_xyxy, true.object_boxes_xyxy)
    if labels_must_agree:
        thing = np.where(predicted.label[:, None] == true.label[None], thing, 0.0)
    return np.minimum(human, np.where(true.label[None] == NO_OBJECT, 1.0, thing))


def _match(predicted: PredictedPairs, true: TruePairs, image: int, labels_must_agree: bool) -> Matches:
    n = len(predicted)
    best, overlap = np.zeros(n, np.int64), np.zeros(n)
    if len(true) and n:
        overlaps = pair_overlaps(predicted, true, labels_must_agree=labels_must_agree)
        overlaps = np.where(predicted.category[:, None] == true.category[None], np.nan_to_num(overlaps), 0.0)
        best = overlaps.argmax(axis=1)
        overlap = overlaps.max(axis=1)
    truth = np.where(overlap >= MIN_OVERLAP, best, -1)
    by_score = np.argsort(-predicted.score, kind="stable")
    claims = by_score[truth[by_score] >= 0]
    hit = np.zeros(n, np.bool_)
    hit[claims[np.unique(truth[claims], return_index=True)[1]]] = True
    return Matches(
        image=np.full(n, image, np.int64),
        row=np.arange(n),
        category=predicted.category,
        score=predicted.score,
        overlap=overlap,
        truth=truth,
        hit=hit,
    )
