"""Batch norms folded into the convolutions before them; for running only.

The scale goes into the weights and the shift becomes a bias, so that what follows a convolution is one operation
(`finish` of backbone.py). Padding is put to zero where it was: after the shift, before the next wide kernel.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from hoiclip.model.backbone import Backbone, BasicBlock, Bottleneck, FrozenBatchNorm, Shift


@torch.no_grad()
def fold_batch_norms(backbone: Backbone) -> None:
    """Changes the backbone; it gives what it gave, up to rounding."""
    backbone.bn = _shift(_folded(backbone.conv, backbone.bn), backbone.conv)
    for block in (block for stage in backbone.stages for block in cast(nn.ModuleList, stage)):
        _fold_block(cast(Bottleneck | BasicBlock, block))


def _fold_block(block: Bottleneck | BasicBlock) -> None:
    """The shift of the shortcut joins that of the last norm, which it is added to."""
    numbers = (1, 2, 3) if isinstance(block, Bottleneck) else (1, 2)
    shifts = {n: _folded(getattr(block, f"conv{n}"), getattr(block, f"bn{n}")) for n in numbers}
    if block.shortcut is not None:
        convolution, norm = block.shortcut
        shifts[numbers[-1]] += _folded(convolution, norm)
        block.shortcut = nn.Sequential(convolution)
    for n, shift in shifts.items():
        setattr(block, f"bn{n}", _shift(shift, getattr(block, f"conv{n}")))


def _folded(convolution: nn.Module, norm: nn.Module) -> Tensor:
    """Scales the weights; what remains to be added, in float64."""
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, FrozenBatchNorm)
    scale, shift = norm.scale_and_shift()
    weight = convolution.weight
    weight.copy_(weight.double() * scale[:, None, None, None])
    return shift


def _shift(shift: Tensor, convolution: nn.Module) -> Shift:
    return Shift(shift.to(cast(Tensor, convolution.weight).dtype))
