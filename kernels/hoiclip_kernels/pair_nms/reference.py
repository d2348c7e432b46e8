"""pair_nms in plain numpy: the meaning, slow and clear, and inputs to try it on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def box_iou(a_xyxy: F64, b_xyxy: F64) -> float:
    """Intersection over union where a box from pixel x1 to pixel x2 is x2 - x1 + 1 wide; 0 where nothing is common."""
    with np.errstate(invalid="ignore"):  # inf - inf: nothing is above NaN
        size = np.minimum(a_xyxy[2:], b_xyxy[2:]) - np.maximum(a_xyxy[:2], b_xyxy[:2]) + 1
        common = float(np.prod(np.maximum(size, 0)))
        union = float(np.prod(a_xyxy[2:] - a_xyxy[:2] + 1) + np.prod(b_xyxy[2:] - b_xyxy[:2] + 1)) - common
    return common / union if common > 0 and union > 0 else 0.0


def pair_nms(
    human_boxes_xyxy: F32,
    object_boxes_xyxy: F32,
    class_n: I64,
    score_n: F64,
    threshold: float,
    human_power: float,
    object_power: float,
) -> I64:
    """Which of N scored pairs stay when doubles of the same class go.

    Within a class, best score first (equal scores: earlier row first), a pair goes if its overlap
    IoU_human^human_power * IoU_object^object_power with a pair that stays is more than `threshold`.

    Args:
        human_boxes_xyxy: (N, 4) pixels.
        object_boxes_xyxy: (N, 4) pixels.
        class_n: (N,) only pairs of one class suppress each other.
        score_n: (N,) rows with a NaN come last in their class.

    Returns:
        Rows that stay: classes in the order in which they first appear among the rows, falling scores within a class.

    Source: docs/model.md, Scores. Overlaps are computed in float64.
    """
    humans, objects = human_boxes_xyxy.astype(np.float64), object_boxes_xyxy.astype(np.float64)
    kept: list[int] = []
    for klass in dict.fromkeys(class_n.tolist()):
        rows = np.flatnonzero(class_n == klass)
        kept_of_class: list[int] = []
        for row in rows[np.argsort(-score_n[rows], kind="stable")].tolist():
            overlaps = (
                box_iou(humans[row], humans[k]) ** human_power * box_iou(objects[row], objects[k]) ** object_power
                for k in kept_of_class
            )
            if not any(overlap > threshold for overlap in overlaps):
                kept_of_class.append(row)
        kept += kept_of_class
    return np.array(kept, np.int64)


def example_inputs(n: int, num_classes: int = 5, seed: int = 0) -> tuple[F32, F32, I64, F64]:
    """Everything but threshold and powers: jittered copies of a few pairs, so that some are doubles."""
    rng = np.random.default_rng(seed)

    def boxes() -> F32:
        corner = rng.uniform(0, 400, (4, 2))
        few = np.concatenate([corner, corner + rng.uniform(20, 200, (4, 2))], axis=1)
        return (few[rng.integers(0, 4, n)] + rng.normal(0, 5, (n, 4))).astype(np.float32)

    return boxes(), boxes(), rng.integers(0, num_classes, n), rng.uniform(0, 2, n)
