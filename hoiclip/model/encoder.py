"""Post-norm transformer encoder over the cells of the feature map."""

from __future__ import annotations

from torch import Tensor, nn

from hoiclip.model.attention import Attention, FeedForward


class EncoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.feedforward = FeedForward(width, inner)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor, position: Tensor, padding_bn: Tensor | None) -> Tensor:
        placed = x + position
        x = self.norm1(x + self.dropout(self.attention(placed, placed, x, padding_bn)))
        output: Tensor = self.norm2(x + self.dropout(self.feedforward(x)))
        return output


class Encoder(nn.Module):
    """(B, N, D) to (B, N, D); padded cells are computed but never attended to."""

    def __init__(self, layers: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner) for _ in range(layers))

    def forward(self, x: Tensor, position: Tensor, padding_bn: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, position, padding_bn)
        return x
