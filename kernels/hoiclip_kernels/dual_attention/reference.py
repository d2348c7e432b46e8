"""dual_attention in plain torch: the meaning, slow and clear, and inputs to try it on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class DualAttentionArguments(NamedTuple):
    """What dual_attention is called with."""

    q: Tensor
    k1: Tensor
    v1: Tensor
    k2: Tensor
    v2: Tensor
    padding2: Tensor | None


def dual_attention(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, out: tuple[Tensor, Tensor]
) -> None:
    """The same queries attend to two memories, each with its own softmax of q kᵀ / sqrt(D).

    Args:
        q: (B, heads, Q, D).
        k1, v1: (B, heads, M1, D), the CLIP tokens.
        k2, v2: (B, heads, M2, D), the detector cells.
        padding2: (B, M2) bool, True where a cell of memory 2 is not attended to; or None.
        out: two tensors like q; every element is written. Where nothing can be attended to, zero.

    Source: docs/model.md, Interaction decoder.
    """
    out[0].copy_(_attend(q, k1, v1, None))
    out[1].copy_(_attend(q, k2, v2, padding2))


def _attend(q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None) -> Tensor:
    batch, _, _, depth = q.shape
    seen = torch.ones(batch, 1, 1, k.shape[2]) if padding is None else (~padding)[:, None, None, :]
    scores = (q.double() @ k.double().transpose(-2, -1)) / depth**0.5
    scores = scores.masked_fill(~seen.bool().to(q.device), float("-inf"))
    peak = scores.amax(-1, keepdim=True) if k.shape[2] else scores.new_zeros(*scores.shape[:-1], 1)
    weights = (scores - peak.masked_fill(peak.isinf(), 0)).exp()
    total = weights.sum(-1, keepdim=True)
    mixed: Tensor = (weights @ v.double()) / total.masked_fill(total == 0, 1)
    return mixed


def example_inputs(
    batch: int = 1,
    heads: int = 8,
    queries: int = 64,
    depth: int = 96,
    tokens: int = 50,
    cells: int = 300,
    *,
    padded: int | None = 0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> DualAttentionArguments:
    """Projected queries, keys and values, laid out in memory as the model's linear layers leave them.

    Args:
        padded: how many of the last cells of every other image are padding; None means no mask at all.
    """
    generator = torch.Generator().manual_seed(seed)

    def rows(count: int) -> Tensor:
        made = torch.randn(batch, count, heads, depth, generator=generator)
        return made.to(device, dtype).transpose(1, 2)

    padding = None
    if padded is not None:
        padding = torch.zeros(batch, cells, dtype=torch.bool)
        padding[::2, cells - padded :] = True
        padding = padding.to(device)
    return DualAttentionArguments(rows(queries), rows(tokens), rows(tokens), rows(cells), rows(cells), padding)
