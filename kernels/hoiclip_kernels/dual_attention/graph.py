"""What becomes of hoiclip::dual_attention in an exported graph: plain operators, or one node for the TensorRT plugin.

Use: `with exported_as("plugin"): torch.export.export(...)`. Decided while the program is traced: to decompose it
afterwards traces it once more, a quarter of the time of an export.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from hoiclip_kernels.dual_attention import torch_impl
from hoiclip_kernels.dual_attention.forms import split_heads

Attention = Literal["plain", "plugin"]
NODE = "hoiclip::HoiclipDualAttention"


_Form = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
_this_thread = threading.local()


@contextlib.contextmanager
def exported_as(attention: Attention) -> Iterator[None]:
    """What dual_attention becomes in the programs that this thread exports meanwhile. Models that run are the same."""
    before = exported_form()
    _this_thread.form = torch_impl.attend_both if attention == "plain" else _plugin
    try:
        yield
    finally:
        _this_thread.form = before


def exported_form() -> _Form | None:
    """None outside of exported_as: the operator itself."""
    return getattr(_this_thread, "form", None)


def _plugin(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None
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
