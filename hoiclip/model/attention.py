"""Multi-head attention with packed input projection, batch first, and the two-layer block behind it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip_kernels.dual_attention import KeyValue, additive_mask, attend, split_heads


def merge_heads(x_bhnd: Tensor) -> Tensor:
    """Inverse of split_heads."""
    return x_bhnd.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """softmax(q kᵀ / sqrt(head width)) v per head. Rows of in_proj: 0..D queries, D..2D keys, 2D..3D values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.0)
        self.packed = False
        """Whether self-attention projects by one product; it affects speed only, on a GPU."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out.bias)

    @property
    def dropped(self) -> float:
        """Current dropout probability of the attention weights."""
        return self.dropout.p if self.training else 0.0

    def project(self, x_bnd: Tensor, part: int) -> Tensor:
        """Part 0 queries, 1 keys, 2 values: (B, N, D) to (B, heads, N, D / heads)."""
        return split_heads(F.linear(x_bnd, *self._part(part)), self.heads)

    def _part(self, part: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of one projection."""
        width = self.in_proj_weight.shape[1]
        rows = slice(part * width, (part + 1) * width)
        return self.in_proj_weight[rows], self.in_proj_bias[rows]

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        if not self.packed or query is not key:
            return self.project(query, 0), self.project(key, 1), self.project(value, 2)
        parts = 3 if value is key else 2
        rows = slice(parts * self.in_proj_weight.shape[1])
        together = F.linear(query, self.in_proj_weight[rows], self.in_proj_bias[rows]).chunk(parts, dim=-1)
        made = tuple(split_heads(projected, self.heads) for projected in together)
        return made if value is key else (*made, self.project(value, 2))

    def key_value(self) -> KeyValue:
        """The projections of keys and values."""
        return KeyValue(*self._part(1), *self._part(2))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding_bn: Tensor | None = None) -> Tensor:
        """(B, N, D), (B, M, D), (B, M, D) to (B, N, D); padding (B, M) is True for keys that get no attention."""
        q, k, v = self._projected(query, key, value)
        mixed = attend(q, k, v, additive_mask(padding_bn, q.dtype), self.dropped)
        output: Tensor = self.out(merge_heads(mixed))
        return output


def groups_apart(x: Tensor) -> Tensor:
    """(B, G, N, D) to (B · G, N, D), for attention within groups of queries; (B, N, D) as it is."""
    return x.flatten(0, 1) if x.dim() == 4 else x


def groups_together(x: Tensor) -> Tensor:
    """(B, G, N, D) to (B, G · N, D), for attention of all groups to the same memory; (B, N, D) as it is."""
    return x.flatten(1, 2) if x.dim() == 4 else x


class FeedForward(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return output


def set_dropout(module: nn.Module, probability: float) -> None:
    """Sets the dropout of all transformer layers below a module. A model has none until training sets it."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = probability
