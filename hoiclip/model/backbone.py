"""ResNet with frozen batch norm, which returns the features of its last two stages.

Padding must not change a prediction: a convolution near the border of a padded image would otherwise see the shift of
batch norm on the padding, where an unpadded image ends in zeros. So padded cells are set to zero where a wide kernel
is about to read them.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip.model.config import ModelConfig
from hoiclip_kernels.bias_relu import bias_relu


class FrozenBatchNorm(nn.Module):
    """y = (x - mean) / sqrt(var + EPS) · weight + bias, all of them constants."""

    EPS = 1e-5

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.EPS)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The same as y = scale · x + shift, (C,) each, in float64."""
        weight, bias, mean, variance = (
            tensor.double() for tensor in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        scale = weight / (variance + self.EPS).sqrt()
        return scale, bias - mean * scale


class Shift(nn.Module):
    """The shift of a batch norm whose scale was folded into the convolution before it (gpu_inference.py)."""

    bias: Tensor

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("bias", bias)


def finish(norm: nn.Module, x: Tensor, *, added: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
    """relu(norm(x) + added) · valid: the operations after a convolution, in one launch where the norm is a Shift.

    Args:
        x: (B, C, H, W) a convolution's result; a shift overwrites it.
    """
    if isinstance(norm, Shift):
        return bias_relu(x, norm.bias, added, valid)
    y: Tensor = norm(x)
    y = F.relu(y if added is None else y + added)
    return y if valid is None else y * valid


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1; the input is added, through a 1x1 where its shape differs."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = FrozenBatchNorm(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        y = finish(self.bn1, self.conv1(x), valid=valid)
        y = finish(self.bn2, self.conv2(y))
        return finish(self.bn3, self.conv3(y), added=x if self.shortcut is None else self.shortcut(x))


class BasicBlock(nn.Module):
    """Two 3x3, the first with the stride; the input is added, through a 1x1 where its shape differs."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.shortcut = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        inner = valid
        if valid is not None:
            x = x * valid
            inner = every_second(valid) if self.conv1.stride[0] == 2 else valid
        y = finish(self.bn1, self.conv1(x), valid=inner)
        return finish(self.bn2, self.conv2(y), added=x if self.shortcut is None else self.shortcut(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), FrozenBatchNorm(out_channels)
    )


def every_second(valid: Tensor) -> Tensor:
    """Cells 0, 2, 4 ...; as a pooling, so that its size is the same expression as a strided convolution's."""
    return F.max_pool2d(valid, kernel_size=1, stride=2)


class Levels(NamedTuple):
    """Features of the last stage, and of the one before it at half its stride."""

    features: Tensor
    """(B, C, ceil(H / stride), ceil(W / stride))"""
    valid: Tensor | None
    """(B, 1, ...) 1 on the image and 0 on padding, at the same resolution; None: everything counts as image."""
    fine_features: Tensor
    fine_valid: Tensor | None


class Backbone(nn.Module):
    """(B, 3, H, W) to Levels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.backbone_widths
        self.pool = config.backbone_stem == "resnet"
        kernel = 7 if self.pool else 3
        self.conv = nn.Conv2d(3, widths[0], kernel, stride=2, padding=kernel // 2, bias=False)
        self.bn: nn.Module = FrozenBatchNorm(widths[0])
        self.stages = nn.ModuleList()
        channels = widths[0]
        for index, (depth, width) in enumerate(zip(config.backbone_depths, widths, strict=True)):
            stage = nn.ModuleList()
            for number in range(depth):
                stride = 2 if index and not number else 1
                block: nn.Module
                if config.backbone_block == "bottleneck":
                    block, out_channels = Bottleneck(channels, width, stride), 4 * width
                else:
                    block, out_channels = BasicBlock(channels, width, stride), width
                stage.append(block)
                channels = out_channels
            self.stages.append(stage)

    def forward(self, images: Tensor, valid: Tensor | None = None) -> Levels:
        """Coarse and fine features.

        Args:
            images: (B, 3, H, W), zero on padding.
            valid: (B, 1, H, W), 1 on the image and 0 on padding; None: everything counts as image.
        """
        if valid is not None:
            valid = every_second(valid)
        # After the ReLU zero is as good as the pooling's own -inf.
        x = finish(self.bn, self.conv(images), valid=valid if self.pool else None)
        if self.pool:
            if valid is not None:
                valid = every_second(valid)
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for index, stage in enumerate(self.stages):
            fine = x, valid
            for number, block in enumerate(cast(nn.ModuleList, stage)):
                x = block(x, valid)
                if valid is not None and index and not number:
                    valid = every_second(valid)
        return Levels(x, valid, *fine)
