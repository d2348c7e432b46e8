"""Runs an engine of TensorRT or TensorRT-RTX: own stream, own buffers on both sides, replayed as one CUDA graph.

Only bytes that engine_cache.py vouches for come here: an engine is native code.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import ModelError
from hoiclip_engine.cuda_runtime import checked, host_view
from hoiclip_engine.tensorrt_layers import Layers, engine_layers
from hoiclip_engine.tensorrt_library import load_plugins, messages, one_line, said_since

Shape = tuple[int, ...]
Arrays = Mapping[str, NDArray[Any]]
_log = logging.getLogger("hoiclip")
_TYPES = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64,
    "BOOL": np.bool_,
}  # fmt: skip
"""By the name of the library's DataType."""


class EngineRefused(ModelError):
    """The library does not take the bytes; another build might do."""


@dataclass(slots=True)
class _Buffer:
    """One input or output, as large as the profile allows."""

    name: str
    is_input: bool
    dtype: np.dtype[Any]
    largest: Shape
    shape: Shape
    """Of the present call."""
    device: int
    pinned_address: int
    pinned: NDArray[np.uint8]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def host(self) -> NDArray[Any]:
        return self.pinned[: self.size_bytes].view(self.dtype).reshape(self.shape)


class TensorRtRuntime:
    """An engine ready to run. Holds its own buffers; call it from one thread, and close it."""

    def __init__(
        self,
        trt: Any,
        cuda: Any,
        content: bytes,
        *,
        plugins: Iterable[Path] = (),
        profile: int = 0,
        capture: bool = True,
    ) -> None:
        """
        Args:
            trt: the module that built the engine.
            cuda: the module cuda.bindings.runtime.
            profile: which optimisation profile, of an engine with several.
            capture: whether to replay a CUDA graph, where the engine allows it.

        Raises:
            ModelError: the engine does not fit this machine, or the GPU has not enough memory.
            BackendMissing: a plugin library is missing.
        """
        self._trt, self._cuda, self._capture = trt, cuda, capture
        self._replay: Any = None
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._stream: Any = None
        self._buffers: list[_Buffer] = []
        self._freeing = ExitStack()
        try:
            self._log = messages(trt)
            self._before = len(self._log.errors)
            self._engine = self._deserialised(content, plugins)
            self._context = self._engine.create_execution_context()
            if self._context is None:
                raise ModelError(f"the engine cannot be run: {self._said()}")
            self._stream = self._call("a stream", "cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking)
            self._freeing.callback(cuda.cudaStreamDestroy, self._stream)
            if self._engine.num_optimization_profiles > 1:
                self._must(self._context.set_optimization_profile_async(profile, int(self._stream)), "the profile")
                self._synchronise()
            self._buffers = self._allocated(profile)
        except BaseException:
            self.close()
            raise

    @property
    def inputs(self) -> dict[str, tuple[Shape, np.dtype[Any]]]:
        """Largest shape and type by name."""
        return {one.name: (one.largest, one.dtype) for one in self._buffers if one.is_input}

    @property
    def outputs(self) -> dict[str, tuple[Shape, np.dtype[Any]]]:
        return {one.name: (one.largest, one.dtype) for one in self._buffers if not one.is_input}

    @property
    def captured(self) -> bool:
        """Whether the next call of the same shapes replays a CUDA graph."""
        return self._replay is not None

    def layers(self) -> Layers:
        """As they run, fused."""
        return engine_layers(self._trt, self._engine)

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs by name, in arrays of their own.

        Raises:
            ValueError: an input is missing or of another type, or too large.
            ModelError: the GPU failed.
        """
        self._take(inputs)
        if self._replay is not None:
            self._call("the CUDA graph", "cudaGraphLaunch", self._replay, self._stream)
            self._synchronise()
        else:
            self._enqueue()
            self._synchronise()
            if self._capture:  # from the second call on: the first of a shape allocates, which no graph can hold
                self._replay = self._captured()
        return {one.name: one.host.copy() for one in self._buffers if not one.is_input}

    def close(self) -> None:
        """Frees everything; more than once does no harm."""
        if self._context is not None and self._stream is not None:
            self._cuda.cudaStreamSynchronize(self._stream)
        self._forget_graph()
        self._context = self._engine = self._runtime = None  # before the memory they know of
        self._freeing.close()
        self._stream, self._buffers = None, []

    def __enter__(self) -> TensorRtRuntime:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _deserialised(self, content: bytes, plugins: Iterable[Path]) -> Any:
        try:
            self._runtime = self._trt.Runtime(self._log)
        except (TypeError, RuntimeError) as error:  # pybind11's words for a null pointer
            raise ModelError(f"{self._trt.__name__} cannot start: {self._said()}; {one_line(error)}") from error
        load_plugins(self._runtime.get_plugin_registry(), plugins, self._log)
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            why = self._said()
            kind = ModelError if "memory" in why.lower() else EngineRefused
            raise kind(f"{self._trt.__name__} {self._trt.__version__} cannot load the engine: {why}")
        return engine

    def _allocated(self, profile: int) -> list[_Buffer]:
        """Buffers for the largest shapes of the profile, which are also the first shapes."""
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        mode = self._trt.TensorIOMode
        are_inputs = {name: self._engine.get_tensor_mode(name) == mode.INPUT for name in names}
        for name in (name for name in names if are_inputs[name]):
            shape = tuple(self._engine.get_tensor_shape(name))
            if -1 in shape:
                shape = tuple(self._engine.get_tensor_profile_shape(name, profile)[2])
            self._must(self._context.set_input_shape(name, shape), f"shape {shape} of {name}")
        return [self._buffer(name, are_inputs[name]) for name in names]

    def _buffer(self, name: str, is_input: bool) -> _Buffer:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            raise ModelError(f"{name} of the engine is of type {kind}, expected one of {', '.join(_TYPES)}")
        dtype, shape = np.dtype(_TYPES[kind]), tuple(self._context.get_tensor_shape(name))
        if min(shape, default=1) < 1:
            raise ModelError(f"{name} of the engine has no size before it runs, but {shape}")
        size = math.prod(shape) * dtype.itemsize
        device = self._call(f"{size} bytes for {name}", "cudaMalloc", size)
        self._freeing.callback(self._cuda.cudaFree, device)
        pinned = self._call(f"{size} pinned bytes for {name}", "cudaMallocHost", size)
        self._freeing.callback(self._cuda.cudaFreeHost, pinned)
        self._must(self._context.set_tensor_address(name, int(device)), f"the address of {name}")
        view = host_view(int(pinned), size)
        return _Buffer(name, is_input, dtype, shape, shape, device, pinned, view)

    def _take(self, inputs: Arrays) -> None:
        """Copies the inputs into pinned memory, and tells the engine where their shapes changed."""
        taking = [one for one in self._buffers if one.is_input]
        if set(inputs) != {one.name for one in taking}:
            raise ValueError(f"expected the inputs {', '.join(one.name for one in taking)}, got {', '.join(inputs)}")
        for one in taking:
            given = inputs[one.name]
            fits = given.ndim == len(one.largest) and all(a <= b for a, b in zip(given.shape, one.largest, strict=True))
            if not fits or given.dtype != one.dtype:
                expected = f"{one.dtype} of at most {one.largest}"
                raise ValueError(f"expected {one.name} as {expected}, got {given.dtype} of {given.shape}")
        if any(inputs[one.name].shape != one.shape for one in taking):
            self._reshape({one.name: inputs[one.name].shape for one in taking})
        for one in taking:
            np.copyto(one.host, inputs[one.name])

    def _reshape(self, shapes: Mapping[str, Shape]) -> None:
        self._forget_graph()
        for name, shape in shapes.items():
            self._must(self._context.set_input_shape(name, shape), f"shape {shape} of {name}")
        for one in self._buffers:
            one.shape = tuple(self._context.get_tensor_shape(one.name))

    def _enqueue(self) -> None:
        """Puts a whole call on the stream: inputs over, engine, outputs back."""
        kinds = self._cuda.cudaMemcpyKind
        for one in self._buffers:
            if one.is_input:
                self._copy(one.device, one.pinned_address, one, kinds.cudaMemcpyHostToDevice)
        self._must(self._context.execute_async_v3(int(self._stream)), "the engine")
        for one in self._buffers:
            if not one.is_input:
                self._copy(one.pinned_address, one.device, one, kinds.cudaMemcpyDeviceToHost)

    def _copy(self, to: int, source: int, one: _Buffer, kind: Any) -> None:
        self._call(f"copying {one.name}", "cudaMemcpyAsync", to, source, one.size_bytes, kind, self._stream)

    def _captured(self) -> Any:
        """The executable graph of a call; None where the engine cannot be captured, which then is not tried again."""
        allowed = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX, and TensorRT from some 10.x on
        graph = None
        try:
            if allowed is not None and not allowed(int(self._stream)):
                raise ModelError("the engine does not allow it")
            mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may use the GPU
            self._call("capturing", "cudaStreamBeginCapture", self._stream, mode)
            try:
                self._enqueue()
            finally:  # else the stream stays useless
                error, graph = self._cuda.cudaStreamEndCapture(self._stream)
            checked(self._cuda, (error,), "the end of capturing")
            return self._call("the CUDA graph", "cudaGraphInstantiate", graph, 0)
        except ModelError as error:
            _log.debug("no CUDA graph of the engine, calls are enqueued one by one: %s", error)
            self._capture = False
            self._cuda.cudaGetLastError()  # a failed capture must not be found by the next call
            return None
        finally:
            if graph is not None and int(graph) != 0:
                self._cuda.cudaGraphDestroy(graph)

    def _forget_graph(self) -> None:
        if self._replay is not None:
            self._cuda.cudaGraphExecDestroy(self._replay)
            self._replay = None

    def _synchronise(self) -> None:
        self._call("waiting for the GPU", "cudaStreamSynchronize", self._stream)

    def _call(self, doing: str, name: str, *arguments: Any) -> Any:
        return checked(self._cuda, getattr(self._cuda, name)(*arguments), doing)

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise ModelError(f"{self._trt.__name__} refuses {what}: {self._said()}")

    def _said(self) -> str:
        """The first error since this engine was made."""
        return said_since(self._log, self._before)
