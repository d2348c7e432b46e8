"""box_iou in plain numpy: the meaning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_iou(boxes_a_xyxy: NDArray[np.floating], boxes_b_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union with areas (x2 - x1) * (y2 - y1), without the +1 pixel of docs/model.md, Scores.

    Args:
        boxes_a_xyxy: (N, 4) corners in any unit.
        boxes_b_xyxy: (M, 4) in the same unit.

    Returns:
        (N, M) in [0, 1]; 0 wherever a box is empty, turned inside out or not finite.
    """
    a = np.asarray(boxes_a_xyxy, np.float64).reshape(-1, 1, 4)
    b = np.asarray(boxes_b_xyxy, np.float64).reshape(1, -1, 4)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        shared = _area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
        union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - shared
        return np.where((shared > 0) & np.isfinite(union), shared / union, 0.0)


def _area(low_xy: NDArray[np.float64], high_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.maximum(high_xy - low_xy, 0.0)
    area: NDArray[np.float64] = size[..., 0] * size[..., 1]
    return area


def example_inputs(n: int, m: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, 4) and (M, 4) boxes of a 640 × 480 image, many of them overlapping."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> NDArray[np.float32]:
        centre = rng.uniform((0, 0), (640, 480), (count, 2))
        half = rng.uniform(10, 150, (count, 2))
        return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)

    return boxes(n), boxes(m)
