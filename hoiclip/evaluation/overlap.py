"""Intersection over union in float64, in two ways.

As HICO-DET and V-COCO count it (`pixel_iou`), a box from pixel x1 to pixel x2 is x2 - x1 + 1 wide; as the metrics of
trackers count it (`iou_matrix`), it is x2 - x1 wide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


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


def iou_matrix(a_xyxy: NDArray[np.floating], b_xyxy: NDArray[np.floating]) -> F64:
    """(N, 4) and (M, 4) to (N, M), without the extra pixel; 0 where nothing is common or an area is not finite."""
    common = common_area(a_xyxy[:, None], b_xyxy[None])
    with np.errstate(over="ignore", invalid="ignore"):
        union = area(a_xyxy)[:, None] + area(b_xyxy)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=(common > 0) & np.isfinite(union))


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
