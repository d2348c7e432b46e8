"""What follows a convolution whose batch norm was folded into it. Meaning and shapes: reference.py. Needs torch."""

from __future__ import annotations

import torch
from torch import Tensor

from hoiclip_kernels.bias_relu import torch_impl
from hoiclip_kernels.bias_relu.reference import BiasReluArguments, example_inputs
from hoiclip_kernels.dispatch import pick, triton_runs

__all__ = ["BiasReluArguments", "bias_relu", "example_inputs"]


def bias_relu(
    x: Tensor,
    bias: Tensor,
    added: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    implementation: str | None = None,
) -> Tensor:
    """See reference.bias_relu. Writes into `x` and returns it; for running only, there is no gradient.

    Raises:
        ValueError: shapes or types that do not belong together.
    """
    if torch.compiler.is_compiling():
        return torch_impl.bias_relu(x, bias, added, valid)  # compilers fuse plain operators themselves
    _require_fit(x, bias, added, valid)
    made: Tensor = pick("bias_relu", implementation, _choice(x)).bias_relu(x, bias, added, valid)
    return made


def _choice(x: Tensor) -> str:
    """Triton on CUDA where channels come last."""
    lies_well = x.is_cuda and x.is_contiguous(memory_format=torch.channels_last)
    return "triton" if lies_well and triton_runs() else "torch"


def _require_fit(x: Tensor, bias: Tensor, added: Tensor | None, valid: Tensor | None) -> None:
    batch, channels, height, width = x.shape
    expected = {"bias": (channels,), "added": tuple(x.shape), "valid": (batch, 1, height, width)}
    for name, one in (("bias", bias), ("added", added), ("valid", valid)):
        if one is not None and (tuple(one.shape) != expected[name] or one.dtype != x.dtype):
            raise ValueError(f"expected {name} {expected[name]} {x.dtype}, got {tuple(one.shape)} {one.dtype}")
