"""CLIP's vision transformer, which returns all its tokens, not only the class token."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip.model.attention import Attention
from hoiclip.model.config import ModelConfig


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

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, embed = config.clip_width, config.clip_embed
        scale = width**-0.5
        channels = (3, *config.clip_stem)
        self.stem = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(channels))
        patch = config.clip_patch_px // 2 ** len(config.clip_stem)
        self.patches = nn.Conv2d(channels[-1], width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(config.clip_tokens, width))
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ClipBlock(width, config.clip_heads) for _ in range(config.clip_layers))
        self.norm_post = nn.LayerNorm(width)
        self.projection = nn.Parameter(scale * torch.randn(width, embed))
        """(width, embed); used for the image embedding and, by the interaction decoder, for its own output."""

    def forward(self, images: Tensor) -> Tensor:
        for convolution in self.stem:
            images = F.relu(convolution(images))
        x = self.patches(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(x.shape[0], 1, -1)
        x = self.norm_pre(torch.cat((first, x), dim=1) + self.positional_embedding)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.norm_post(x)
        return output

    def embed(self, tokens: Tensor) -> Tensor:
        """(..., width) to (..., embed), not normalised; in the type of the projection."""
        return F.linear(tokens.to(self.projection.dtype), self.projection.T)
