"""Sine position encoding of a feature map, normalised to the unpadded image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def sine_encoding(padding_bhw: Tensor, channels: int) -> Tensor:
    """(B, h, w), True on padding, to (B, h · w, channels) in float32: the first half encodes y, the second x.

    Source: docs/model.md, Positions and encoder (DETR).
    """
    valid = (~padding_bhw).to(torch.float32)
    y = valid.cumsum(1)
    x = valid.cumsum(2)
    y = y / (y[:, -1:, :] + 1e-6) * (2 * math.pi)
    x = x / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
    half = channels // 2
    index = torch.arange(half, dtype=torch.float32, device=padding_bhw.device)
    period = TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / half)

    def wave(position_bhw: Tensor) -> Tensor:
        angle = position_bhw[..., None] / period
        return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)

    return torch.cat((wave(y), wave(x)), dim=-1).flatten(1, 2)
