"""The interaction decoder's two cross-attentions as one operator. Meaning: reference.py. Needs torch."""

from __future__ import annotations

import torch
from torch import Tensor

from hoiclip_kernels.dual_attention import op, torch_impl
from hoiclip_kernels.dual_attention.forms import Form, KeyValue, attend_absorbed, chosen, project, split_heads
from hoiclip_kernels.dual_attention.graph import exported_form
from hoiclip_kernels.dual_attention.reference import DualAttentionArguments, example_inputs
from hoiclip_kernels.dual_attention.torch_impl import additive_mask, attend

__all__ = [
    "DualAttentionArguments", "Form", "KeyValue", "additive_mask", "attend", "attend_memories", "dual_attention",
    "example_inputs", "op", "split_heads",
]  # fmt: skip


def dual_attention(
    q: Tensor,
    k1: Tensor,
    v1: Tensor,
    k2: Tensor,
    v2: Tensor,
    padding2: Tensor | None,
    *,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The same queries attend to two memories, each with its own softmax; see reference.dual_attention.

    Returns:
        Two new tensors like q.

    Raises:
        ValueError: shapes or types that do not belong together.
    """
    if torch.compiler.is_exporting() and (exported := exported_form()):
        return exported(q, k1, v1, k2, v2, padding2)
    if implementation is None and q.requires_grad and q.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch_impl.attend_both(q, k1, v1, k2, v2, padding2)  # keeps the weights for the backward pass
    made: tuple[Tensor, Tensor] = torch.ops.hoiclip.dual_attention(q, k1, v1, k2, v2, padding2, implementation or "")
    return made


def attend_memories(
    q: Tensor,
    memory1: Tensor,
    memory2: Tensor,
    weights: KeyValue,
    padding2: Tensor | None,
    *,
    form: Form = "auto",
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """dual_attention from the memories themselves, whose keys and values have the same projections.

    Args:
        q: (B, heads, Q, D / heads) projected.
        memory1: (B, M1, D).
        memory2: (B, M2, D).
        form: how memory 2 is attended to; memory 1 is always projected, it is small.
        dropout: fraction of the attention weights dropped; for training, which always projects.
    """
    heads = q.shape[1]
    k1, v1 = project(memory1, weights, heads)
    rows, width = heads * q.shape[2], memory2.shape[2]
    if dropout == 0.0 and chosen(form, rows, width, memory2.shape[1]) == "absorbed":
        return attend(q, k1, v1, None), attend_absorbed(q, memory2, weights, padding2)
    k2, v2 = project(memory2, weights, heads)
    if dropout > 0.0:
        return torch_impl.attend_both(q, k1, v1, k2, v2, padding2, dropout)
    return dual_attention(q, k1, v1, k2, v2, padding2)
