"""Box maths of matching and losses, on tensors and with gradients.

Continuous coordinates without the "+1 pixel" of the evaluators; the runtime's overlaps live in hoiclip_kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST_AREA = 1e-12
"""Keeps two boxes without any area from dividing zero by zero; far below the area of a real box."""


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """(..., 4) to (..., 4)."""
    center, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat((center - 0.5 * size, center + 0.5 * size), dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) to (..., 4)."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def generalised_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Overlap in (-1, 1] that still tells how far apart two boxes are that do not touch.

    Args:
        a_xyxy, b_xyxy: (..., 4), broadcast against each other; a[:, None] and b[None] give all pairs.

    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.
    """
    shared = _area(torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2]), torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:]))
    hull = _area(torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2]), torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:]))
    union = _area(a_xyxy[..., :2], a_xyxy[..., 2:]) + _area(b_xyxy[..., :2], b_xyxy[..., 2:]) - shared
    hull, safe_union = hull.clamp(min=_SMALLEST_AREA), union.clamp(min=_SMALLEST_AREA)
    return shared / safe_union - (hull - union) / hull


def _area(low: Tensor, high: Tensor) -> Tensor:
    width, height = (high - low).clamp(min=0).unbind(-1)
    return width * height
