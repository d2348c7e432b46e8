"""Box maths in continuous coordinates: usable boxes in numpy; conversions and overlaps with gradients in torch.

Without the "+1 pixel" of the official evaluators (hoiclip.evaluation.overlap). Runtime overlaps: hoiclip_kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import Bool

if TYPE_CHECKING:
    from torch import Tensor

MAX_COORDINATE_PX = 1e9
"""No image reaches this far. Boxes beyond it are finite, and still overflow when they are subtracted or multiplied."""
_MIN_SIDE_PX = 1e-9
"""A side below this has no logarithm, and an area that arithmetic rounds to zero."""
_SMALLEST_AREA = 1e-12
"""Keeps two boxes without any area from dividing zero by zero; far below the area of a real box."""


def within_reach(boxes_xyxy: NDArray[np.floating]) -> Bool:
    """(N,) whether all corners of a box (N, 4) are coordinates that can be computed with; false for NaN."""
    return np.asarray((np.abs(boxes_xyxy) < MAX_COORDINATE_PX).all(axis=1))


def usable_boxes(boxes_xyxy: NDArray[np.floating]) -> Bool:
    """(N,) whether a box (N, 4) lies within reach and has an area."""
    reached = within_reach(boxes_xyxy)
    boxes = np.where(reached[:, None], boxes_xyxy, 0.0)
    return np.asarray(reached & (boxes[:, 2:] - boxes[:, :2] > _MIN_SIDE_PX).all(axis=1))


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """(..., 4) to (..., 4)."""
    import torch

    center, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat((center - 0.5 * size, center + 0.5 * size), dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) to (..., 4)."""
    import torch

    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def generalised_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Overlap in (-1, 1] that is negative, by their distance, for boxes that do not touch.

    Args:
        a_xyxy, b_xyxy: (..., 4), broadcast against each other; a[:, None] and b[None] give all pairs.

    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.
    """
    import torch

    common = _area(torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2]), torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:]))
    hull = _area(torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2]), torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:]))
    union = _area(a_xyxy[..., :2], a_xyxy[..., 2:]) + _area(b_xyxy[..., :2], b_xyxy[..., 2:]) - common
    hull, safe_union = hull.clamp(min=_SMALLEST_AREA), union.clamp(min=_SMALLEST_AREA)
    return common / safe_union - (hull - union) / hull


def _area(low: Tensor, high: Tensor) -> Tensor:
    width, height = (high - low).clamp(min=0).unbind(-1)
    return width * height
