"""bias_relu in plain torch: the meaning, slow and clear, and inputs to try it on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class BiasReluArguments(NamedTuple):
    """What bias_relu is called with."""

    x: Tensor
    bias: Tensor
    added: Tensor | None
    valid: Tensor | None


def bias_relu(x: Tensor, bias: Tensor, added: Tensor | None, valid: Tensor | None) -> Tensor:
    """relu(x + bias + added) · valid, in the memory of `x`.

    Args:
        x: (B, C, H, W) what a convolution without bias gives.
        bias: (C,).
        added: (B, C, H, W) the other branch of a residual block; or None.
        valid: (B, 1, H, W) 1 on the image and 0 on padding; or None.

    Returns:
        `x`.
    """
    y = x.double() + bias.double()[:, None, None]
    if added is not None:
        y = y + added.double()
    y = y.clamp(min=0)
    return x.copy_(y if valid is None else y * valid.double())


def example_inputs(
    batch: int = 1,
    channels: int = 64,
    height: int = 9,
    width: int = 7,
    *,
    added: bool = True,
    padded: int | None = 2,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> BiasReluArguments:
    """Tensors whose channels come last in memory, as convolutions of such leave them.

    Args:
        padded: how many of the last columns are padding; None means no mask.
    """
    generator = torch.Generator().manual_seed(seed)

    def cells() -> Tensor:
        made = torch.randn(batch, channels, height, width, generator=generator)
        return made.to(device, dtype, memory_format=torch.channels_last)

    valid = None
    if padded is not None:
        valid = torch.ones(batch, 1, height, width, dtype=dtype)
        valid[..., width - padded :] = 0
        valid = valid.to(device)
    bias = torch.randn(channels, generator=generator).to(device, dtype)
    return BiasReluArguments(cells(), bias, cells() if added else None, valid)
