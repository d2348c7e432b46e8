"""dual_attention with torch's own fused attention, on any device; what training and plain exports are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dual_attention(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, out: tuple[Tensor, Tensor]
) -> None:
    """See reference.dual_attention."""
    for target, made in zip(out, attend_both(q, k1, v1, k2, v2, padding2), strict=True):
        target.copy_(made)


def attend_both(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Both attentions as new tensors; `dropout` is the fraction of attention weights dropped, for training."""
    mask = additive_mask(padding2, q.dtype)
    return attend(q, k1, v1, None, dropout), attend(q, k2, v2, mask, dropout)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """softmax(q kᵀ / sqrt(D) + mask) v.

    On the CPU the fused attention's backward is slower than that of plain products, so training takes those.
    """
    if not (q.requires_grad and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = (scores if mask is None else scores + mask).softmax(dim=-1)
    return F.dropout(weights, dropout) @ v


def additive_mask(padding_bn: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """(B, N), True on padding, to (B, 1, 1, N) holding 0 or -inf."""
    if padding_bn is None:
        return None
    if padding_bn.is_cuda:
        return _aligned_mask(padding_bn, dtype)
    zero = torch.zeros((), dtype=dtype, device=padding_bn.device)
    return zero.masked_fill(padding_bn, float("-inf"))[:, None, None, :]


def _aligned_mask(padding_bn: Tensor, dtype: torch.dtype) -> Tensor:
    """The same with rows that begin at multiples of 8, as torch's fused attention on CUDA wants them; others it copies.

    Source: preprocess_mask in torch's native/transformers/attention.cpp.
    """
    batch, cells = padding_bn.shape
    mask = torch.zeros(batch, 1, 1, -(-cells // 8) * 8, dtype=dtype, device=padding_bn.device)[..., :cells]
    return mask.masked_fill_(padding_bn[:, None, None, :], float("-inf"))
