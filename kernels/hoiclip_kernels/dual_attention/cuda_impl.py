"""dual_attention in CUDA C++, called through its C interface with device pointers and the current stream.

The structures mirror dual_attention.h.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from hoiclip_kernels import cuda_library
from hoiclip_kernels.dispatch import KernelError

DEPTHS = (32, 64, 96, 128)
_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_SAID = {
    1: "a type that is none of float32, float16 and bfloat16",
    2: f"a head dimension that is none of {', '.join(map(str, DEPTHS))}",
    3: "a tensor whose rows do not begin at multiples of 16 bytes",
    4: "a negative size",
    5: "a launch that CUDA refused",
}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("batch_step", ctypes.c_longlong),
        ("head_step", ctypes.c_longlong),
        ("row_step", ctypes.c_longlong),
    )

    @staticmethod
    def of(tensor: Tensor) -> _Tensor:
        return _Tensor(tensor.data_ptr(), *tensor.stride()[:3])


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, _Tensor) for name in ("q", "k1", "v1", "k2", "v2", "out1", "out2")),
        ("padding2", ctypes.c_void_p),
        ("padding_step", ctypes.c_longlong),
        *((name, ctypes.c_int) for name in ("batch", "heads", "queries", "depth", "cells1", "cells2", "type")),
    )


def dual_attention(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, out: tuple[Tensor, Tensor]
) -> None:
    """See reference.dual_attention. One launch on the current stream; can be captured in a CUDA graph.

    Raises:
        KernelError: the library is not built, or it does not take these tensors.
    """
    function = cuda_library.load().hoiclip_dual_attention
    if any(one.stride(-1) != 1 for one in out):
        raise KernelError("dual_attention: the CUDA implementation writes only where the last dimension is contiguous")
    five = [one if one.stride(-1) == 1 else one.contiguous() for one in (q, k1, v1, k2, v2)]
    padding = None if padding2 is None else padding2.contiguous()
    batch, heads, queries, depth = q.shape
    call = _Call(
        *map(_Tensor.of, five),
        *map(_Tensor.of, out),
        None if padding is None else padding.data_ptr(),
        0 if padding is None else padding.stride(0),
        batch, heads, queries, depth, k1.shape[2], k2.shape[2], _TYPES.get(q.dtype, -1),
    )  # fmt: skip
    stream = torch.cuda.current_stream(q.device).cuda_stream if q.is_cuda else 0
    status = function(ctypes.byref(call), ctypes.c_void_p(stream))
    if status:
        raise KernelError(f"dual_attention: the CUDA implementation got {_SAID.get(status, f'error {status}')}")
