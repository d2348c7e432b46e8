"""Matching of predictions with ground truth, image by image, and the IoU behind it (docs/model.md, Evaluation).

A prediction is compared with ground-truth pairs of its own category only, takes the one it overlaps best (IoU of at
least 0.5 on both boxes), and hits if no better prediction has taken that pair. There is no second choice: neither
upstream nor the HICO-DET evaluation in MATLAB (as VOC) tries another pair, so this is the definition and no quirk.

IoU is in float64. As HICO-DET and V-COCO count it (`pixel_iou`), a box from pixel x1 to pixel x2 is x2 - x1 + 1 wide;
as the metrics of trackers count it (`hoiclip_kernels.box_iou`), it is x2 - x1 wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F64, I64, Bool
from hoiclip.core.vocabulary import NO_OBJECT
from hoiclip.evaluation.triplets import GroundTruthTriplets, PredictedTriplets

MIN_OVERLAP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TripletMatches:
    """M predictions of all images, each with its ground-truth pair and whether it hits."""

    image: I64
    """(M,) number of the image."""
    row: I64
    """(M,) row among the image's predictions."""
    category: I64
    score: F64
    overlap: F64
    """(M,) smaller IoU of both boxes with the best ground-truth pair of the category; 0 without one."""
    gt_row: I64
    """(M,) row of that ground-truth pair in the image; -1 where the overlap is too small."""
    hit: Bool

    def __len__(self) -> int:
        return int(self.score.shape[0])

    def rows(self, index: I64 | Bool) -> TripletMatches:
        """Rows of an index or a mask."""
        return TripletMatches(**{name: getattr(self, name)[index] for name in self.__slots__})


def match_all(
    predictions: Sequence[PredictedTriplets],
    ground_truth: Sequence[GroundTruthTriplets],
    *,
    labels_must_agree: bool = False,
) -> TripletMatches:
    """Matches every prediction of every image.

    Args:
        labels_must_agree: whether an object of another class overlaps by nothing, as in V-COCO.
    """
    matches_by_image = [
        _match(predicted, gt, image, labels_must_agree)
        for image, (predicted, gt) in enumerate(zip(predictions, ground_truth, strict=True))
    ]
    return TripletMatches(
        **{
            name: np.concatenate([getattr(matches, name) for matches in matches_by_image])
            if matches_by_image
            else np.zeros(0, {"hit": np.bool_, "score": np.float64, "overlap": np.float64}.get(name, np.int64))
            for name in TripletMatches.__slots__
        }
    )


def triplet_overlaps(predicted: PredictedTriplets, gt: GroundTruthTriplets, *, labels_must_agree: bool) -> F64:
    """(N, G) the smaller IoU of both boxes, whatever the categories; that of the humans where there is no object."""
    human_iou = pixel_iou_matrix(predicted.human_boxes_xyxy, gt.human_boxes_xyxy)
    object_iou = pixel_iou_matrix(predicted.object_boxes_xyxy, gt.object_boxes_xyxy)
    if labels_must_agree:
        object_iou = np.where(predicted.label[:, None] == gt.label[None], object_iou, 0.0)
    return np.minimum(human_iou, np.where(gt.label[None] == NO_OBJECT, 1.0, object_iou))


def _match(
    predicted: PredictedTriplets, gt: GroundTruthTriplets, image: int, labels_must_agree: bool
) -> TripletMatches:
    n = len(predicted)
    best, overlap = np.zeros(n, np.int64), np.zeros(n)
    if len(gt) and n:
        overlaps = triplet_overlaps(predicted, gt, labels_must_agree=labels_must_agree)
        overlaps = np.where(predicted.category[:, None] == gt.category[None], np.nan_to_num(overlaps), 0.0)
        best = overlaps.argmax(axis=1)
        overlap = overlaps.max(axis=1)
    gt_row = np.where(overlap >= MIN_OVERLAP, best, -1)
    by_score = np.argsort(-predicted.score, kind="stable")
    claims = by_score[gt_row[by_score] >= 0]
    hit = np.zeros(n, np.bool_)
    hit[claims[np.unique(gt_row[claims], return_index=True)[1]]] = True
    return TripletMatches(
        image=np.full(n, image, np.int64),
        row=np.arange(n),
        category=predicted.category,
        score=predicted.score,
        overlap=overlap,
        gt_row=gt_row,
        hit=hit,
    )


def pixel_iou(a_xyxy: NDArray[np.floating], b_xyxy: NDArray[np.floating]) -> F64:
    """(..., 4) with (..., 4) to (...), broadcast; float64. 0 where nothing is common or a box is so large that its area
    is not finite, NaN at most where a box itself is not finite."""
    a, b = np.asarray(a_xyxy, np.float64), np.asarray(b_xyxy, np.float64)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        common_wh = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1, 0)
        common = common_wh.prod(axis=-1)
        union = (a[..., 2:] - a[..., :2] + 1).prod(axis=-1) + (b[..., 2:] - b[..., :2] + 1).prod(axis=-1) - common
        iou: F64 = np.where((common == 0) | np.isinf(common), 0.0, common / union)
    return iou


def pixel_iou_matrix(a_xyxy: NDArray[np.floating], b_xyxy: NDArray[np.floating]) -> F64:
    """(N, 4) and (M, 4) to (N, M)."""
    return pixel_iou(a_xyxy[:, None], b_xyxy[None])


def common_area(a_xyxy: NDArray[np.floating], b_xyxy: NDArray[np.floating]) -> F64:
    """(..., 4) with (..., 4) to (...), broadcast: square pixels in both boxes."""
    a, b = np.asarray(a_xyxy, np.float64), np.asarray(b_xyxy, np.float64)
    return area(np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=-1))


def area(boxes_xyxy: NDArray[np.floating]) -> F64:
    """(..., 4) to (...); 0 of an inverted box, infinite of one that is too large to be counted."""
    boxes = np.asarray(boxes_xyxy, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        product: F64 = np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1)
    return product
