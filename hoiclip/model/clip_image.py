"""CLIP's vision transformer; all its tokens leave it, not only the class token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip.model.attention import Attention


class ClipBlock(nn.Module):
    """Pre-norm block with QuickGELU, x · sigmoid(1.702 x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y)
        y = self.mlp_in(self.norm2(x))
        output: Tensor = x + self.mlp_out(y * torch.sigmoid(1.702 * y))
        return output


class ClipImageTower(nn.Module):
    """(B, 3, S, S) to tokens (B, 1 + patches, width) after the last norm, before the projection."""

    def __init__(self, image_px: int, patch_px: int, width: int, layers: int, heads: int, embed: int) -> None:
        super().__init__()
        tokens = (image_px // patch_px) ** 2 + 1
        scale = width**-0.5
        self.patches = nn.Conv2d(3, width, patch_px, stride=patch_px, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(tokens, width))
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ClipBlock(width, heads) for _ in range(layers))
        self.norm_post = nn.LayerNorm(width)
        self.projection = nn.Parameter(scale * torch.randn(width, embed))
        """(width, embed); used for the image embedding and, by the interaction decoder, for its own output."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(x.shape[0], 1, -1)
        x = self.norm_pre(torch.cat((first, x), dim=1) + self.positional_embedding)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.norm_post(x)
        return output

    def embed(self, tokens: Tensor) -> Tensor:
        """(..., width) to (..., embed), not normalised."""
        return F.linear(tokens, self.projection.T)
