"""Instance decoder: humans and objects of pairs; human query i and object query i form pair i."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hoiclip.model.attention import Attention, FeedForward, groups_apart, groups_together


class InstanceDecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.feedforward = FeedForward(width, inner)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.0)

    def forward(self, t: Tensor, queries: Tensor, keys: Tensor, memory: Tensor, padding_bn: Tensor | None) -> Tensor:
        placed = groups_apart(t + queries)
        t = self.norm1(t + self.dropout(self.self_attention(placed, placed, groups_apart(t)).view_as(t)))
        found = self.cross_attention(groups_together(t + queries), keys, memory, padding_bn)
        t = self.norm2(t + self.dropout(found.view_as(t)))
        output: Tensor = self.norm3(t + self.dropout(self.feedforward(t)))
        return output


class InstanceDecoder(nn.Module):
    """Memory (B, N, D) to (L, B, 2Q, D): the first Q rows are humans, the last Q objects.

    Of G groups of queries (G, 2Q, D), as in training, to (L, B, G, 2Q, D).
    """

    def __init__(self, layers: int, width: int, heads: int, inner: int, queries: int) -> None:
        super().__init__()
        self.human_queries = nn.Parameter(torch.randn(queries, width))
        self.object_queries = nn.Parameter(torch.randn(queries, width))
        self.pair_queries = nn.Parameter(torch.rand(queries, width))
        self.layers = nn.ModuleList(InstanceDecoderLayer(width, heads, inner) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def queries(self) -> Tensor:
        """(2Q, D) the learned queries: humans, then objects."""
        return torch.cat((self.human_queries + self.pair_queries, self.object_queries + self.pair_queries))

    def forward(self, memory: Tensor, position: Tensor, padding_bn: Tensor | None, queries: Tensor) -> Tensor:
        """Queries (2Q, D) or (G, 2Q, D), the same for all images."""
        return torch.stack([self.norm(t) for t in self._states(memory, position, padding_bn, queries)])

    def last(self, memory: Tensor, position: Tensor, padding_bn: Tensor | None, queries: Tensor) -> Tensor:
        """forward(...)[-1], (B, 2Q, D), without the norms of the layers before."""
        output: Tensor = self.norm(self._states(memory, position, padding_bn, queries)[-1])
        return output

    def _states(self, memory: Tensor, position: Tensor, padding_bn: Tensor | None, queries: Tensor) -> list[Tensor]:
        t = torch.zeros_like(queries).expand(memory.shape[0], *queries.shape)
        keys = memory + position
        states = []
        for layer in self.layers:
            t = layer(t, queries, keys, memory, padding_bn)
            states.append(t)
        return states
