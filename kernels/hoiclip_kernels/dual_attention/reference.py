"""dual_attention in plain torch: the meaning."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dual_attention(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, mask2: Tensor | None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The same queries look at two memories, each with its own softmax.

    Args:
        q: (B, heads, Q, D).
        k1, v1: (B, heads, M1, D), the CLIP tokens.
        k2, v2: (B, heads, M2, D), the detector cells.
        mask2: (B, 1, 1, M2) added to the scores of memory 2 (0 or -inf), or None.
        dropout: share of the attention weights dropped; for training only.

    Returns:
        Two tensors (B, heads, Q, D).

    Source: SPEC.md §2.7, steps 2 and 3.
    """
    return attend(q, k1, v1, None, dropout), attend(q, k2, v2, mask2, dropout)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """softmax(q kᵀ / sqrt(D) + mask) v.

    On the CPU the fused attention's backward is slower than that of plain products, so training takes those.
    """
    if not (q.requires_grad and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = (scores if mask is None else scores + mask).softmax(dim=-1)
    return F.dropout(weights, dropout) @ v
