"""dual_attention in plain torch: the meaning."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dual_attention(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, mask2: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same queries look at two memories, each with its own softmax.

    Args:
        q: (B, heads, Q, D).
        k1, v1: (B, heads, M1, D), the CLIP tokens.
        k2, v2: (B, heads, M2, D), the detector cells.
        mask2: (B, 1, 1, M2) added to the scores of memory 2 (0 or -inf), or None.

    Returns:
        Two tensors (B, heads, Q, D).

    Source: SPEC.md §2.7, steps 2 and 3.
    """
    o1 = F.scaled_dot_product_attention(q, k1, v1)
    o2 = F.scaled_dot_product_attention(q, k2, v2, attn_mask=mask2)
    return o1, o2
