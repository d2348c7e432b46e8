"""Two forms of the interaction decoder's cross-attention, equal up to rounding: project the memory, or absorb it.

Absorbed, q · (W_k m) becomes (W_kᵀ q) · m, and the values' projection comes after the weighted sum. The key bias adds
the same to every score of a query, so it drops out of the softmax. Nothing is made per cell: no keys, no values, and
the memory is read once for all heads. Products grow from D / heads to D columns, so few cells are better projected.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import linear

from hoiclip_kernels.dual_attention.torch_impl import additive_mask

Form = Literal["auto", "projected", "absorbed"]
ABSORB_FROM = 300
"""Cells of memory 2 from which the absorbed form is the faster one (benchmarks/results/kernels.jsonl)."""


class KeyValue(NamedTuple):
    """The projections of a memory (B, M, D): keys are linear(memory, key_weight, key_bias), values likewise."""

    key_weight: Tensor
    """(D, D), rows of one head together."""
    key_bias: Tensor
    value_weight: Tensor
    value_bias: Tensor


def chosen(form: Form, rows: int, width: int, cells: object) -> Form:
    """What "auto" means for so many cells; where they are not a number yet, as in an export of any size, projected.

    Args:
        rows: queries of all heads together; each is multiplied with `width` numbers of every cell when absorbed.
    """
    if form != "auto":
        return form
    worth = rows < width and isinstance(cells, int) and cells >= ABSORB_FROM
    return "absorbed" if worth else "projected"


def split_heads(x_bnd: Tensor, heads: int) -> Tensor:
    """(B, N, D) to (B, heads, N, D / heads)."""
    batch, count, width = x_bnd.shape
    return x_bnd.view(batch, count, heads, width // heads).transpose(1, 2)


def project(memory: Tensor, weights: KeyValue, heads: int) -> tuple[Tensor, Tensor]:
    """(B, M, D) to keys and values (B, heads, M, D / heads)."""
    keys = linear(memory, weights.key_weight, weights.key_bias)
    values = linear(memory, weights.value_weight, weights.value_bias)
    return split_heads(keys, heads), split_heads(values, heads)


def attend_absorbed(q: Tensor, memory: Tensor, weights: KeyValue, padding: Tensor | None) -> Tensor:
    """softmax(q Kᵀ / sqrt(D / heads)) V of a memory, without K and V.

    Args:
        q: (B, heads, Q, D / heads).
        memory: (B, M, D).
        padding: (B, M) bool, True where a cell is not attended to.

    Returns:
        (B, heads, Q, D / heads).
    """
    batch, heads, queries, depth = q.shape
    width = memory.shape[-1]
    per_head = (heads, depth, width)
    towards = (q * depth**-0.5) @ weights.key_weight.view(per_head)
    scores = towards.reshape(batch, heads * queries, width) @ memory.transpose(-2, -1)
    mask = additive_mask(padding, q.dtype)
    attended = (scores if mask is None else scores + mask[:, 0]).softmax(dim=-1) @ memory
    values = attended.view(batch, heads, queries, width) @ weights.value_weight.view(per_head).transpose(-2, -1)
    biased: Tensor = values + weights.value_bias.view(heads, 1, depth)
    return biased
