"""What becomes of hoiclip::dual_attention in an exported graph: plain operators, or one node for the TensorRT plugin.

Use: `program.run_decompositions(decompositions("plugin"))` before `torch.onnx.export`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from hoiclip_kernels.dual_attention import torch_impl
from hoiclip_kernels.dual_attention.forms import split_heads

Attention = Literal["plain", "plugin"]
NODE = "hoiclip::HoiclipDualAttention"


def decompositions(attention: Attention) -> dict[Any, Callable[..., Any]]:
    """The table for ExportedProgram.run_decompositions."""
    return {torch.ops.hoiclip.dual_attention.default: _plugin if attention == "plugin" else _plain}


def _plain(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, implementation: str
) -> tuple[Tensor, Tensor]:
    return torch_impl.attend_both(q, k1, v1, k2, v2, padding2)


def _plugin(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, implementation: str
) -> tuple[Tensor, Tensor]:
    """One node over (batch, rows, heads × depth), as plugin.cpp takes them; the transposes cancel those around it."""
    heads = q.shape[1]
    rows = [one.transpose(1, 2).flatten(2) for one in (q, k1, v1, k2, v2)]
    made = torch.onnx.ops.symbolic_multi_out(
        NODE,
        rows if padding2 is None else [*rows, padding2],
        {"heads": heads, "plugin_version": "1", "plugin_namespace": "hoiclip"},
        dtypes=(q.dtype, q.dtype),
        shapes=(rows[0].shape, rows[0].shape),
        version=1,
    )
    first, second = (split_heads(one, heads) for one in made)
    return first, second
