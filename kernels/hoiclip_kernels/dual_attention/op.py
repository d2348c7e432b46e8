"""hoiclip::dual_attention, the operator as torch knows it: opaque to compilers and exporters, differentiable.

Which implementation runs is decided when it runs, so a compiled or exported model can be configured as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hoiclip_kernels.dispatch import pick, triton_runs

_SCHEMA = (
    "(Tensor q, Tensor k1, Tensor v1, Tensor k2, Tensor v2, Tensor? padding2, str implementation) -> (Tensor, Tensor)"
)


@torch.library.custom_op("hoiclip::dual_attention", mutates_args=(), schema=_SCHEMA)
def _dual_attention(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, implementation: str
) -> tuple[Tensor, Tensor]:
    _require_fit(q, k1, v1, k2, v2, padding2)
    out = torch.empty_like(q), torch.empty_like(q)
    if q.numel():
        module = pick("dual_attention", implementation or None, _choice(q))
        module.dual_attention(q, k1, v1, k2, v2, padding2, out)
    return out


def _choice(q: Tensor) -> str:
    """Triton on CUDA in half precision; its fp32 products spill registers there."""
    half = q.dtype in (torch.float16, torch.bfloat16)
    return "triton" if q.device.type == "cuda" and half and triton_runs() else "torch"


def _require_fit(q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None) -> None:
    batch, heads, _, depth = q.shape
    for name, one in (("k1", k1), ("v1", v1), ("k2", k2), ("v2", v2)):
        if one.ndim != 4 or (*one.shape[:2], one.shape[3]) != (batch, heads, depth) or one.dtype != q.dtype:
            raise ValueError(
                f"expected {name} ({batch}, {heads}, any, {depth}) {q.dtype}, got {tuple(one.shape)} {one.dtype}"
            )
    if k1.shape != v1.shape or k2.shape != v2.shape:
        raise ValueError(f"expected a value per key, got {k1.shape} {v1.shape} {k2.shape} {v2.shape}")
    if padding2 is not None and (padding2.shape != (batch, k2.shape[2]) or padding2.dtype != torch.bool):
        raise ValueError(
            f"expected padding2 ({batch}, {k2.shape[2]}) bool, got {tuple(padding2.shape)} {padding2.dtype}"
        )


@_dual_attention.register_fake
def _(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, implementation: str
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(q)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6])


def _gradients(ctx: Any, grad1: Tensor, grad2: Tensor) -> tuple[Tensor | None, ...]:
    q, k1, v1, k2, v2, padding2 = ctx.saved_tensors
    dq1, dk1, dv1 = _gradients_of_one(q, k1, v1, None, grad1)
    dq2, dk2, dv2 = _gradients_of_one(q, k2, v2, padding2, grad2)
    return dq1 + dq2, dk1, dv1, dk2, dv2, None, None


def _gradients_of_one(
    q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of out = softmax(q kᵀ / sqrt(D)) v; the weights are computed again instead of kept, in fp32 at least."""
    dtype, scale = q.dtype, q.shape[-1] ** -0.5
    if dtype in (torch.float16, torch.bfloat16):
        q, k, v, grad = (one.float() for one in (q, k, v, grad))
    scores = (q * scale) @ k.transpose(-2, -1)
    if padding is not None:
        scores = scores.masked_fill(padding[:, None, None, :], float("-inf"))
    weights = scores.softmax(dim=-1).nan_to_num(0.0)  # nothing to attend to: the output is zero whatever q is
    towards = grad @ v.transpose(-2, -1)
    inner = weights * (towards - (towards * weights).sum(-1, keepdim=True))
    dq, dk, dv = inner @ k * scale, inner.transpose(-2, -1) @ (q * scale), weights.transpose(-2, -1) @ grad
    return dq.to(dtype), dk.to(dtype), dv.to(dtype)


_dual_attention.register_autograd(_gradients, setup_context=_remember)
