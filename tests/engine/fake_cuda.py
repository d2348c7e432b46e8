"""The part of `cuda.bindings.runtime` that our runtime uses, on host memory: the same tuples, the same order of work.

Work on a stream waits for a synchronisation, as on a GPU; work that a capture records does not run. Every call but
malloc and free on freed or unknown memory is an error.

Source: cuda-bindings 12.9 and 13, module runtime.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np

Work = Callable[[], None]


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorIllegalState = 401
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class _Handle:
    def __init__(self, number: int) -> None:
        self._number = number

    def __int__(self) -> int:
        return self._number


class cudaDeviceProp:
    name = b"Fake GPU"
    major, minor = 8, 9


_OK = cudaError_t.cudaSuccess
_BAD = cudaError_t.cudaErrorInvalidValue


class FakeCuda:
    """Stands for the module."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1

    def __init__(self, *, device_bytes: int = 1 << 30, captures: bool = True) -> None:
        self.device_bytes = device_bytes
        self.captures = captures
        """Whether a capture survives to its end."""
        self.memory: dict[int, ctypes.Array[Any]] = {}
        self.pinned: dict[int, ctypes.Array[Any]] = {}
        self.streams: dict[int, list[Work]] = {}
        self.capturing: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.calls: list[str] = []
        self._number = 100

    def held(self) -> int:
        """Number of allocations and handles that are not freed."""
        return sum(map(len, (self.memory, self.pinned, self.streams, self.graphs, self.executables)))

    def enqueue(self, stream: object, work: Work) -> None:
        number = int(stream)  # type: ignore[call-overload]
        (self.capturing[number] if number in self.capturing else self.streams[number]).append(work)

    def _new(self) -> int:
        self._number += 1
        return self._number

    def cudaGetDevice(self) -> tuple[cudaError_t, int]:
        return _OK, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[cudaError_t, cudaDeviceProp]:
        return _OK, cudaDeviceProp()

    def cudaGetErrorString(self, error: cudaError_t) -> tuple[cudaError_t, bytes]:
        return _OK, {cudaError_t.cudaErrorMemoryAllocation: b"out of memory"}.get(error, b"invalid argument")

    def cudaMalloc(self, size: int) -> tuple[cudaError_t, int | None]:
        if sum(map(len, self.memory.values())) + size > self.device_bytes:
            return cudaError_t.cudaErrorMemoryAllocation, None
        block = (ctypes.c_ubyte * size)(*([0xAB] * min(size, 64)))
        self.memory[ctypes.addressof(block)] = block
        return _OK, ctypes.addressof(block)

    def cudaFree(self, pointer: int) -> tuple[cudaError_t]:
        return (_OK if self.memory.pop(pointer, None) is not None else _BAD,)

    def cudaMallocHost(self, size: int) -> tuple[cudaError_t, int]:
        block = (ctypes.c_ubyte * size)()
        self.pinned[ctypes.addressof(block)] = block
        return _OK, ctypes.addressof(block)

    def cudaFreeHost(self, pointer: int) -> tuple[cudaError_t]:
        return (_OK if self.pinned.pop(pointer, None) is not None else _BAD,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[cudaError_t, _Handle]:
        number = self._new()
        self.streams[number] = []
        return _OK, _Handle(number)

    def cudaStreamDestroy(self, stream: _Handle) -> tuple[cudaError_t]:
        return (_OK if self.streams.pop(int(stream), None) is not None else _BAD,)

    def cudaStreamSynchronize(self, stream: _Handle) -> tuple[cudaError_t]:
        self.calls.append("synchronize")
        if int(stream) in self.capturing or int(stream) not in self.streams:
            return (_BAD,)
        waiting = self.streams[int(stream)]
        while waiting:
            waiting.pop(0)()
        return (_OK,)

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: _Handle
    ) -> tuple[cudaError_t]:
        to_device = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
        host, device = (src, dst) if to_device else (dst, src)
        if host not in self.pinned or device not in self.memory:
            return (_BAD,)
        if count > len(self.pinned[host]) or count > len(self.memory[device]):
            return (_BAD,)
        self.calls.append("to device" if to_device else "to host")
        self.enqueue(stream, lambda: ctypes.memmove(dst, src, count) and None)
        return (_OK,)

    def cudaStreamBeginCapture(self, stream: _Handle, mode: cudaStreamCaptureMode) -> tuple[cudaError_t]:
        self.calls.append("begin capture")
        self.capturing[int(stream)] = []
        return (_OK,)

    def cudaStreamEndCapture(self, stream: _Handle) -> tuple[cudaError_t, _Handle | None]:
        self.calls.append("end capture")
        work = self.capturing.pop(int(stream))
        if not self.captures:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        number = self._new()
        self.graphs[number] = work
        return _OK, _Handle(number)

    def cudaGraphInstantiate(self, graph: _Handle, flags: int) -> tuple[cudaError_t, _Handle]:
        number = self._new()
        self.executables[number] = list(self.graphs[int(graph)])
        return _OK, _Handle(number)

    def cudaGraphDestroy(self, graph: _Handle) -> tuple[cudaError_t]:
        return (_OK if self.graphs.pop(int(graph), None) is not None else _BAD,)

    def cudaGraphExecDestroy(self, executable: _Handle) -> tuple[cudaError_t]:
        return (_OK if self.executables.pop(int(executable), None) is not None else _BAD,)

    def cudaGraphLaunch(self, executable: _Handle, stream: _Handle) -> tuple[cudaError_t]:
        self.calls.append("launch")
        self.streams[int(stream)].extend(self.executables[int(executable)])
        return (_OK,)

    def cudaGetLastError(self) -> tuple[cudaError_t]:
        return (_OK,)

    def array(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """A view of device memory."""
        block = self.memory[address]
        count = int(np.prod(shape))
        return np.frombuffer(block, dtype, count).reshape(shape)
