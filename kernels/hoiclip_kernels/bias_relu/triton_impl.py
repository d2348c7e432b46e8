"""bias_relu in Triton: one launch that reads and writes the convolution's result once, instead of up to four.

Channels come last in memory, so the place of an element says its channel and its cell.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hoiclip_kernels.dispatch import KernelError

BLOCK = 1024
MOST = 2**31 - BLOCK
"""Elements; their places are counted in 32 bits."""


@triton.jit
def kernel(
    x, bias, added, valid, count,
    HAS_ADDED: tl.constexpr, HAS_VALID: tl.constexpr, CHANNELS: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Grid: blocks of elements. Sums in fp32, rounds once."""
    place = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    inside = place < count
    value = tl.load(x + place, mask=inside, other=0.0)
    y = value.to(tl.float32) + tl.load(bias + place % CHANNELS).to(tl.float32)
    if HAS_ADDED:
        y += tl.load(added + place, mask=inside, other=0.0).to(tl.float32)
    y = tl.where(y < 0.0, 0.0, y)  # what is no number stays none, as in torch
    if HAS_VALID:
        y *= tl.load(valid + place // CHANNELS, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + place, y.to(value.dtype), mask=inside)


def bias_relu(x: Tensor, bias: Tensor, added: Tensor | None, valid: Tensor | None) -> Tensor:
    """See reference.bias_relu. One launch; can be captured in a CUDA graph.

    Raises:
        KernelError: channels of `x` do not come last in memory, or there are more than MOST elements.
    """
    if not x.is_contiguous(memory_format=torch.channels_last) or x.numel() > MOST:
        raise KernelError(
            f"bias_relu: the Triton implementation takes channels-last tensors of at most {MOST} elements, "
            f"got strides {x.stride()} and {x.numel()}; use torch"
        )
    if not x.numel():
        return x
    other = x if added is None else added.contiguous(memory_format=torch.channels_last)
    seen = x if valid is None else valid.contiguous()
    kernel[(triton.cdiv(x.numel(), BLOCK),)](
        x, bias, other, seen, x.numel(),
        HAS_ADDED=added is not None, HAS_VALID=valid is not None, CHANNELS=x.shape[1], BLOCK_SIZE=BLOCK,
    )  # fmt: skip
    return x
