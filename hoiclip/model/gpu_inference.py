"""Preparation of a model for inference on a GPU: batch norms folded, channels last, weights in fp16 or bf16.

Every tensor has its type from the start; there is no autocast, whose casts would be extra launches. fp32 stays
where half precision would change results: heads and projection into CLIP's space (boxes, unit vectors, logit scales),
positions (position.py), and sums inside norms, softmax and products.

The scale of a batch norm goes into the weights of the convolution before it and the shift becomes a bias, so that one
operation follows a convolution (`finish` of backbone.py). Padding is zeroed after the shift, before a wide kernel.
"""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from hoiclip.core.errors import ModelError
from hoiclip.model.attention import Attention
from hoiclip.model.backbone import Backbone, BasicBlock, Bottleneck, FrozenBatchNorm, Shift
from hoiclip.model.hoiclip import HOICLIP

FP32 = ("heads.", "clip.projection", "hoi_rows", "object_rows", "verb_rows")
"""Prefixes of the names of tensors that stay fp32."""


@torch.no_grad()
def prepare_for_gpu(model: HOICLIP, dtype: torch.dtype, device: torch.device | str) -> HOICLIP:
    """Changes the model in place; it then takes images of `dtype` and returns an fp32 prediction.

    Raises:
        ModelError: `dtype` cannot hold a weight.
    """
    fold_batch_norms(model.backbone)
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        kept = torch.float32 if name.startswith(FP32) else dtype
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        tensor.data = tensor.data.to(device, kept).contiguous(memory_format=layout)
        if not tensor.isfinite().all():
            raise ModelError(f"{name} has weights beyond {dtype}; take another precision: bf16, or fp32")
    for module in model.modules():
        if isinstance(module, Attention):
            module.packed = True
    # The fused kernel wants keys and values; absorbed, scores would be sums of 768 halves instead of 96.
    model.interaction_decoder.form = "projected"
    return model.requires_grad_(False).eval()


@torch.no_grad()
def fold_batch_norms(backbone: Backbone) -> None:
    """Changes the backbone in place; its results stay the same, up to rounding."""
    backbone.bn = _shift(_folded(backbone.conv, backbone.bn), backbone.conv)
    for block in (block for stage in backbone.stages for block in cast(nn.ModuleList, stage)):
        _fold_block(cast(Bottleneck | BasicBlock, block))


def _fold_block(block: Bottleneck | BasicBlock) -> None:
    """Folds all norms of a block; the shift of the shortcut is added to that of the last norm."""
    numbers = (1, 2, 3) if isinstance(block, Bottleneck) else (1, 2)
    shifts = {n: _folded(getattr(block, f"conv{n}"), getattr(block, f"bn{n}")) for n in numbers}
    if block.shortcut is not None:
        convolution, norm = block.shortcut
        shifts[numbers[-1]] += _folded(convolution, norm)
        block.shortcut = nn.Sequential(convolution)
    for n, shift in shifts.items():
        setattr(block, f"bn{n}", _shift(shift, getattr(block, f"conv{n}")))


def _folded(convolution: nn.Module, norm: nn.Module) -> Tensor:
    """Scales the weights; returns the shift that remains, in float64."""
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, FrozenBatchNorm)
    scale, shift = norm.scale_and_shift()
    weight = convolution.weight
    weight.copy_(weight.double() * scale[:, None, None, None])
    return shift


def _shift(shift: Tensor, convolution: nn.Module) -> Shift:
    return Shift(shift.to(cast(Tensor, convolution.weight).dtype))
