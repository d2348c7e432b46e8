"""pair_nms in numba: rows sorted once by (class, score), then one pass. Meaning and shapes: reference.py."""

from __future__ import annotations

import numpy as np
from numba import njit

from hoiclip_kernels.pair_nms.reference import F32, F64, I64


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _box_iou(a: F32, b: F32) -> float:
    ax1, ay1, ax2, ay2 = np.float64(a[0]), np.float64(a[1]), np.float64(a[2]), np.float64(a[3])
    bx1, by1, bx2, by2 = np.float64(b[0]), np.float64(b[1]), np.float64(b[2]), np.float64(b[3])
    width = min(ax2, bx2) - max(ax1, bx1) + 1
    height = min(ay2, by2) - max(ay1, by1) + 1
    if not (width > 0 and height > 0):
        return 0.0
    common = width * height
    union = (ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1) - common
    return float(common / union) if union > 0 else 0.0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _keep(
    humans: F32, objects: F32, order: I64, group_n: I64, threshold: float, human_power: float, object_power: float
) -> I64:
    """The rows of `order` (groups one after the other, best first) that no kept row of their group suppresses."""
    kept = np.empty(order.shape[0], np.int64)
    count, group_start = 0, 0
    for i in range(order.shape[0]):
        row = order[i]
        if count > 0 and group_n[kept[count - 1]] != group_n[row]:
            group_start = count
        stays = True
        for j in range(group_start, count):
            human_iou = _box_iou(humans[row], humans[kept[j]])
            object_iou = _box_iou(objects[row], objects[kept[j]])
            if human_iou**human_power * object_iou**object_power > threshold:
                stays = False
                break
        if stays:
            kept[count] = row
            count += 1
    return kept[:count]


def pair_nms(
    human_boxes_xyxy: F32,
    object_boxes_xyxy: F32,
    class_n: I64,
    score_n: F64,
    threshold: float,
    human_power: float,
    object_power: float,
) -> I64:
    """See reference.pair_nms."""
    if len(score_n) == 0:
        return np.empty(0, np.int64)
    _, first, inverse = np.unique(class_n, return_index=True, return_inverse=True)
    group_n = np.ascontiguousarray(first[inverse], np.int64)  # a class is named by the row where it first appears
    order = np.lexsort((-score_n, group_n))
    kept: I64 = _keep(
        np.ascontiguousarray(human_boxes_xyxy, np.float32),
        np.ascontiguousarray(object_boxes_xyxy, np.float32),
        order,
        group_n,
        float(threshold),
        float(human_power),
        float(object_power),
    )
    return kept
