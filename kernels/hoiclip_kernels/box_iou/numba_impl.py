"""box_iou in numba: one pass, no temporaries. Meaning and shapes: reference.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)  # type: ignore[untyped-decorator]
def _area(box: Any) -> float:
    width = box[2] - box[0]
    height = box[3] - box[1]
    # Comparisons with nan are false, so a box that is not finite has no area here.
    if width > 0.0 and height > 0.0 and np.isfinite(width * height):
        return float(width * height)
    return 0.0


@njit(cache=True)  # type: ignore[untyped-decorator]
def _fill(a: Any, b: Any, out: Any) -> None:
    areas_b = np.empty(b.shape[0])
    for j in range(b.shape[0]):
        areas_b[j] = _area(b[j])
    for i in range(a.shape[0]):
        area_a = _area(a[i])
        for j in range(b.shape[0]):
            out[i, j] = 0.0
            if area_a > 0.0 and areas_b[j] > 0.0:
                width = min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0])
                height = min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1])
                if width > 0.0 and height > 0.0:
                    shared = width * height
                    out[i, j] = shared / (area_a + areas_b[j] - shared)


def box_iou(boxes_a_xyxy: NDArray[np.floating], boxes_b_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """See reference.box_iou."""
    a = np.ascontiguousarray(boxes_a_xyxy, np.float64).reshape(-1, 4)
    b = np.ascontiguousarray(boxes_b_xyxy, np.float64).reshape(-1, 4)
    out = np.empty((len(a), len(b)))
    _fill(a, b, out)
    return out
