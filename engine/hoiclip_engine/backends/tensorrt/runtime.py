"""Runs an engine of TensorRT or TensorRT-RTX: own stream, own buffers on both sides, replayed as one CUDA graph.

Only engines of the signed cache come here: an engine is native code. The CUDA runtime is called through cuda-bindings,
so that running an engine needs no torch; its errors become exceptions.
"""

from __future__ import annotations

import ctypes
import importlib
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

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip_engine.backends.tensorrt.library import (
    LayerCounts,
    engine_layers,
    first_error_since,
    library_logger,
    load_plugins,
    one_line,
)
from hoiclip_engine.cache.artifacts import KernelCache

Shape = tuple[int, ...]
Arrays = Mapping[str, NDArray[Any]]
_log = logging.getLogger("hoiclip")
_TYPES = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64,
    "BOOL": np.bool_,
}  # fmt: skip
"""By the name of the library's DataType."""


class EngineRefused(ModelError):
    """The library does not load the bytes; another build might."""


@dataclass(slots=True)
class _Buffer:
    """One input or output, as large as the profile allows."""

    name: str
    is_input: bool
    dtype: np.dtype[Any]
    largest: Shape
    shape: Shape
    """Of the current call."""
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
        kernels: KernelCache | None = None,
        profile: int = 0,
        capture: bool = True,
    ) -> None:
        """
        Args:
            trt: the module that built the engine.
            cuda: the module cuda.bindings.runtime.
            kernels: where TensorRT-RTX finds the kernels it compiled at an earlier start, and keeps them for the next;
                None for TensorRT, which compiles all of them when it builds.
            profile: index of the optimisation profile, of an engine with several.
            capture: whether to replay a CUDA graph, where the engine allows it.

        Raises:
            ModelError: the engine does not fit this machine, or the GPU has not enough memory.
            BackendMissing: a plugin library is missing.
        """
        self._trt, self._cuda, self._capture = trt, cuda, capture
        self._replay: Any = None
        self._context: Any = None
        self._compiled: Any = None
        self._new_kernels: KernelCache | None = None
        self._engine: Any = None
        self._runtime: Any = None
        self._stream: Any = None
        self._buffers: list[_Buffer] = []
        self._cleanup = ExitStack()
        try:
            self._log = library_logger(trt)
            self._errors_before = len(self._log.errors)
            self._engine = self._deserialize(content, plugins)
            self._stream = self._call("a stream", "cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking)
            self._cleanup.callback(cuda.cudaStreamDestroy, self._stream)
            self._context = self._create_context(kernels)
            if self._context is None:
                raise ModelError(f"the engine cannot be run: {self._reason()}")
            if self._engine.num_optimization_profiles > 1:
                self._require(self._context.set_optimization_profile_async(profile, int(self._stream)), "the profile")
                self._synchronize()
            self._buffers = self._allocate(profile)
        except BaseException:
            self.close()
            raise

    @property
    def inputs(self) -> dict[str, tuple[Shape, np.dtype[Any]]]:
        """Largest shape and type by name."""
        return {buffer.name: (buffer.largest, buffer.dtype) for buffer in self._buffers if buffer.is_input}

    @property
    def outputs(self) -> dict[str, tuple[Shape, np.dtype[Any]]]:
        return {buffer.name: (buffer.largest, buffer.dtype) for buffer in self._buffers if not buffer.is_input}

    @property
    def captured(self) -> bool:
        """Whether the next call of the same shapes replays a CUDA graph."""
        return self._replay is not None

    def layers(self) -> LayerCounts:
        """Layers as they run, fused."""
        return engine_layers(self._trt, self._engine)

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs by name, in arrays of their own.

        Raises:
            ValueError: an input is missing or of another type, or too large.
            ModelError: the GPU failed.
        """
        self._copy_inputs(inputs)
        if self._replay is not None:
            self._call("the CUDA graph", "cudaGraphLaunch", self._replay, self._stream)
            self._synchronize()
        else:
            self._enqueue()
            self._synchronize()
            if self._new_kernels is not None:
                self._keep_kernels(self._new_kernels)
            if self._capture:  # from the second call on: the first of a shape allocates, which no graph can hold
                self._replay = self._capture_graph()
        return {buffer.name: buffer.host.copy() for buffer in self._buffers if not buffer.is_input}

    def close(self) -> None:
        """Frees everything; may be called more than once."""
        if self._context is not None and self._stream is not None:
            self._cuda.cudaStreamSynchronize(self._stream)
        self._forget_graph()
        self._context = None  # before all that it refers to
        self._compiled = self._new_kernels = self._engine = self._runtime = None
        self._cleanup.close()
        self._stream, self._buffers = None, []

    def __enter__(self) -> TensorRtRuntime:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _deserialize(self, content: bytes, plugins: Iterable[Path]) -> Any:
        try:
            self._runtime = self._trt.Runtime(self._log)
        except (TypeError, RuntimeError) as error:  # pybind11's words for a null pointer
            raise ModelError(f"{self._trt.__name__} cannot start: {self._reason()}; {one_line(error)}") from error
        load_plugins(self._runtime.get_plugin_registry(), plugins, self._log)
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            why = self._reason()
            kind = ModelError if "memory" in why.lower() else EngineRefused
            raise kind(f"{self._trt.__name__} {self._trt.__version__} cannot load the engine: {why}")
        return engine

    def _create_context(self, kernels: KernelCache | None) -> Any:
        """The stream comes before: kernels are compared with the GPU of the current CUDA context."""
        if kernels is None:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        cache = None if config is None else config.create_runtime_cache()
        if cache is None:
            _log.warning("kernels are compiled at every start: %s has no cache for them: %s",
                         self._trt.__name__, self._reason())  # fmt: skip
            return self._engine.create_execution_context()
        kept = kernels.read()
        errors_before = len(self._log.errors)
        if not (kept and cache.deserialize(kept)):
            self._new_kernels = kernels
            if kept:
                reason = first_error_since(self._log, errors_before)
                _log.warning("the kernels of an earlier start are compiled again: %s refuses them: %s",
                             self._trt.__name__, reason)  # fmt: skip
        self._require(config.set_runtime_cache(cache), "its runtime cache")
        self._compiled = config, cache  # which the context refers to as long as it lives
        return self._engine.create_execution_context(runtime_config=config)

    def _keep_kernels(self, kernels: KernelCache) -> None:
        """After the first call, which has compiled them; a backend's shapes are fixed, so that no others follow."""
        self._new_kernels = None
        _, cache = self._compiled
        content = cache.serialize()
        if content is not None:
            kernels.keep(bytes(content))

    def _allocate(self, profile: int) -> list[_Buffer]:
        """Buffers for the largest shapes of the profile, which are also the first shapes."""
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        mode = self._trt.TensorIOMode
        are_inputs = {name: self._engine.get_tensor_mode(name) == mode.INPUT for name in names}
        for name in (name for name in names if are_inputs[name]):
            shape = tuple(self._engine.get_tensor_shape(name))
            if -1 in shape:
                shape = tuple(self._engine.get_tensor_profile_shape(name, profile)[2])
            self._require(self._context.set_input_shape(name, shape), f"shape {shape} of {name}")
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
        self._cleanup.callback(self._cuda.cudaFree, device)
        pinned = self._call(f"{size} pinned bytes for {name}", "cudaMallocHost", size)
        self._cleanup.callback(self._cuda.cudaFreeHost, pinned)
        self._require(self._context.set_tensor_address(name, int(device)), f"the address of {name}")
        view = _host_view(int(pinned), size)
        return _Buffer(name, is_input, dtype, shape, shape, device, pinned, view)

    def _copy_inputs(self, inputs: Arrays) -> None:
        """Copies the inputs into pinned memory, and sets the engine's shapes where they changed."""
        buffers = {buffer.name: buffer for buffer in self._buffers if buffer.is_input}
        if set(inputs) != set(buffers):
            raise ValueError(f"expected the inputs {', '.join(buffers)}, got {', '.join(inputs)}")
        for name, buffer in buffers.items():
            array, largest = inputs[name], buffer.largest
            fits = array.ndim == len(largest) and all(a <= b for a, b in zip(array.shape, largest, strict=True))
            if not fits or array.dtype != buffer.dtype:
                expected = f"{buffer.dtype} of at most {largest}"
                raise ValueError(f"expected {name} as {expected}, got {array.dtype} of {array.shape}")
        if any(inputs[name].shape != buffer.shape for name, buffer in buffers.items()):
            self._reshape({name: inputs[name].shape for name in buffers})
        for name, buffer in buffers.items():
            np.copyto(buffer.host, inputs[name])

    def _reshape(self, shapes: Mapping[str, Shape]) -> None:
        self._forget_graph()
        for name, shape in shapes.items():
            self._require(self._context.set_input_shape(name, shape), f"shape {shape} of {name}")
        for buffer in self._buffers:
            buffer.shape = tuple(self._context.get_tensor_shape(buffer.name))

    def _enqueue(self) -> None:
        """Puts a whole call on the stream: copies of the inputs, the engine, copies of the outputs."""
        kinds = self._cuda.cudaMemcpyKind
        for buffer in self._buffers:
            if buffer.is_input:
                self._copy(buffer.device, buffer.pinned_address, buffer, kinds.cudaMemcpyHostToDevice)
        self._require(self._context.execute_async_v3(int(self._stream)), "the engine")
        for buffer in self._buffers:
            if not buffer.is_input:
                self._copy(buffer.pinned_address, buffer.device, buffer, kinds.cudaMemcpyDeviceToHost)

    def _copy(self, target: int, source: int, buffer: _Buffer, kind: Any) -> None:
        self._call(f"copying {buffer.name}", "cudaMemcpyAsync", target, source, buffer.size_bytes, kind, self._stream)

    def _capture_graph(self) -> Any:
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
            check_cuda(self._cuda, (error,), "the end of capturing")
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

    def _synchronize(self) -> None:
        self._call("waiting for the GPU", "cudaStreamSynchronize", self._stream)

    def _call(self, doing: str, name: str, *arguments: Any) -> Any:
        return check_cuda(self._cuda, getattr(self._cuda, name)(*arguments), doing)

    def _require(self, done: bool, what: str) -> None:
        if not done:
            raise ModelError(f"{self._trt.__name__} refuses {what}: {self._reason()}")

    def _reason(self) -> str:
        """The first error since this engine was made."""
        return first_error_since(self._log, self._errors_before)


def load_cuda() -> Any:
    """The module cuda.bindings.runtime.

    Raises:
        BackendMissing: cuda-bindings is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise BackendMissing(
            "running TensorRT engines needs cuda-bindings; pip install 'hoiclip[tensorrt]' brings it"
        ) from error


def check_cuda(cuda: Any, result: tuple[Any, ...], doing: str) -> Any:
    """The values that a call of the runtime returned beside its error: none, one, or several.

    Raises:
        ModelError: the call failed.
    """
    error, *values = result
    if int(error) != int(cuda.cudaError_t.cudaSuccess):
        raise ModelError(f"CUDA failed at {doing}: {_error_text(cuda, error)}")
    return values[0] if len(values) == 1 else tuple(values) or None


def _error_text(cuda: Any, error: Any) -> str:
    _, text = cuda.cudaGetErrorString(error)
    return text.decode() if isinstance(text, bytes) else str(text)


def gpu_name(cuda: Any) -> str:
    """The GPU and its compute capability.

    Raises:
        BackendMissing: this driver and runtime find none.
    """
    error, device = cuda.cudaGetDevice()
    if int(error) == 0:
        error, properties = cuda.cudaGetDeviceProperties(device)
    if int(error) != 0:
        raise BackendMissing(f"found no NVIDIA GPU to use: {_error_text(cuda, error)}; see nvidia-smi")
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    return f"{name.rstrip(chr(0))}, compute capability {properties.major}.{properties.minor}"


def _host_view(address: int, size_bytes: int) -> NDArray[np.uint8]:
    """Memory of the host as an array; valid until it is freed."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))
