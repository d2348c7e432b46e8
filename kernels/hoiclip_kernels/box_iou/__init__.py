"""Intersection over union of every box of one list with every box of another. Meaning and shapes: reference.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoiclip_kernels.box_iou.reference import example_inputs
from hoiclip_kernels.dispatch import pick

__all__ = ["NUMBA_CELLS", "box_iou", "example_inputs"]

NUMBA_CELLS = 1 << 16
"""Results from which numba is used: 256 × 256 take numpy 2.7 ms and numba 0.3 ms (2-core x86), while importing and
loading it takes 0.4 s, which the few dozen boxes of a usual image (0.03 ms in numpy) never earn back."""


def box_iou(
    boxes_a_xyxy: NDArray[np.floating], boxes_b_xyxy: NDArray[np.floating], *, implementation: str | None = None
) -> NDArray[np.float64]:
    """(N, 4) and (M, 4) boxes to (N, M) overlaps in [0, 1]; see reference.box_iou."""
    small = len(boxes_a_xyxy) * len(boxes_b_xyxy) < NUMBA_CELLS
    module = pick("box_iou", implementation, "reference" if small else "numba")
    overlaps: NDArray[np.float64] = module.box_iou(boxes_a_xyxy, boxes_b_xyxy)
    return overlaps
