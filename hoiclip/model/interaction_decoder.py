"""Interaction decoder: queries of pairs attend to CLIP's tokens and to the detector's memory.

Both attentions share their weights and their norm (docs/model.md, Interaction decoder).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hoiclip.model.attention import Attention, FeedForward, groups_apart, groups_together, merge_heads
from hoiclip_kernels.dual_attention import Form, attend_memories


class InteractionDecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.feedforward = FeedForward(width, inner)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.0)

    def forward(
        self, t: Tensor, clip_tokens: Tensor | None, memory: Tensor, padding_bn: Tensor | None, form: Form
    ) -> Tensor:
        apart = groups_apart(t)
        t = self.norm1(t + self.dropout(self.self_attention(apart, apart, apart).view_as(t)))
        cross, queries = self.cross_attention, groups_together(t)
        if clip_tokens is None:
            attended = cross(queries, memory, memory, padding_bn).view_as(t)
            return self._finish(self.norm2(t + self.dropout(attended)))
        from_clip, from_memory = attend_memories(
            cross.project(queries, 0),
            clip_tokens,
            memory,
            cross.key_value(),
            padding_bn,
            form=form,
            dropout=cross.dropped,
        )
        a = self.norm2(t + self.dropout(cross.out(merge_heads(from_clip)).view_as(t)))
        b = self.norm2(t + self.dropout(cross.out(merge_heads(from_memory)).view_as(t)))
        return self._finish(a + b)

    def _finish(self, t: Tensor) -> Tensor:
        output: Tensor = self.norm3(t + self.dropout(self.feedforward(t)))
        return output


class InteractionDecoder(nn.Module):
    """(B, Q, D), CLIP tokens (B, T, D) or None, memory (B, N, D) to (L, B, Q, D); of groups (B, G, Q, D) likewise."""

    def __init__(self, layers: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(InteractionDecoderLayer(width, heads, inner) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.form: Form = "auto"
        """Form of the attention to the detector's memory; it affects speed only. Training always projects it."""

    def forward(self, t: Tensor, clip_tokens: Tensor | None, memory: Tensor, padding_bn: Tensor | None) -> Tensor:
        return torch.stack([self.norm(t) for t in self._states(t, clip_tokens, memory, padding_bn)])

    def last(self, t: Tensor, clip_tokens: Tensor | None, memory: Tensor, padding_bn: Tensor | None) -> Tensor:
        """forward(...)[-1], (B, Q, D), without the norms of the layers before."""
        output: Tensor = self.norm(self._states(t, clip_tokens, memory, padding_bn)[-1])
        return output

    def _states(self, t: Tensor, clip_tokens: Tensor | None, memory: Tensor, padding_bn: Tensor | None) -> list[Tensor]:
        form: Form = "projected" if self.training else self.form
        states = []
        for layer in self.layers:
            t = layer(t, clip_tokens, memory, padding_bn, form)
            states.append(t)
        return states
