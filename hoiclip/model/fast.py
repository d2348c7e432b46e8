"""A model made ready for running on a GPU: batch norms folded, channels last, weights in a half type.

Every tensor has its type from the start; there is no autocast, whose casts are launches of their own. What a half type
would spoil stays fp32: heads and projection into CLIP's space (boxes, unit vectors, logit scales) by their weights,
positions by how they are computed (position.py), sums inside norms, softmax and products by their kernels.
"""

from __future__ import annotations

import itertools

import torch

from hoiclip.errors import ModelError
from hoiclip.model.attention import Attention
from hoiclip.model.detector import HOICLIP
from hoiclip.model.fold import fold_batch_norms

FP32 = ("heads.", "clip.projection", "hoi_rows", "object_rows", "verb_rows")
"""Where the names of tensors begin that keep their type."""


@torch.no_grad()
def fast_module(model: HOICLIP, dtype: torch.dtype, device: torch.device | str) -> HOICLIP:
    """Takes the model over and changes it; it takes pictures of `dtype` and gives an fp32 prediction.

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
    for part in model.modules():
        if isinstance(part, Attention):
            part.packed = True
    # The fused kernel wants keys and values; absorbed, scores would be sums of 768 halves instead of 96.
    model.interaction_decoder.form = "projected"
    return model.requires_grad_(False).eval()
