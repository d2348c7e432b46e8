"""Fakes of `tensorrt` 10.3, 10.16 and 11, and of `tensorrt_rtx`, with the part of each that we use, and nothing else.

A name that a version does not know raises AttributeError, also when set, as pybind11's classes do. Engines are the
graph itself; ONNX Runtime computes it, on the memory of a fake CUDA.

Source: TensorRT Python API of 10.x and 11.0, "Python APIs Added in 10.x", "Removed Python APIs" of 11.x, and
tensorrt_rtx 1.7.1 itself. Of what we use, 10.16 has what 10.3 has.
"""

from __future__ import annotations

import json
import weakref
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.engine.fake_cuda import FakeCuda

VERSIONS = ("10.3.0", "10.16.1.11", "11.0.0.114", "rtx")
_TYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL"}
_NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
_LAYERS = {
    "Conv": "CONVOLUTION",
    "MatMul": "MATRIX_MULTIPLY",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Transpose": "SHUFFLE",
    "Reshape": "SHUFFLE",
    "Softmax": "SOFTMAX",
    "LayerNormalization": "NORMALIZATION",
}
_REMOVED_IN_11 = ("FP16", "BF16", "INT8", "FP8", "INT4", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")
_FLAGS = ("DEBUG", "REFIT", "DISABLE_TIMING_CACHE", "TF32", "SPARSE_WEIGHTS", "VERSION_COMPATIBLE", "STRIP_PLAN")


class _Strict:
    """Only what is named can be set."""

    _can_set: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and name not in self._can_set:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)


def _enum(name: str, *members: str) -> Any:
    return IntEnum(name, {member: index for index, member in enumerate(members)})


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def __init__(self) -> None: ...


class HostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


def fake_tensorrt(version: str, cuda: FakeCuda | None = None) -> Any:
    """The module; `calls` holds the calls made, `trouble` the calls that shall fail, each with the line it logs."""
    rtx = version == "rtx"
    major = 10 if rtx else int(version.split(".")[0])
    new = rtx or major >= 11
    trt: Any = SimpleNamespace(
        __name__="tensorrt_rtx" if rtx else "tensorrt",
        __version__="1.7.1.116" if rtx else version,
        calls=[],
        trouble={},
        plugins=[],
        ILogger=ILogger,
        DataType=_enum("DataType", *_TYPES.values()),
        TensorIOMode=_enum("TensorIOMode", "NONE", "INPUT", "OUTPUT"),
        ProfilingVerbosity=_enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "DETAILED", "NONE"),
        MemoryPoolType=_enum("MemoryPoolType", "WORKSPACE", "TACTIC_DRAM"),
        LayerInformationFormat=_enum("LayerInformationFormat", "ONELINE", "JSON"),
        BuilderFlag=_enum(
            "BuilderFlag",
            *_FLAGS,
            *(() if new else _REMOVED_IN_11),
            *(("REQUIRE_USER_ALLOCATION",) if rtx else ()),
        ),
        NetworkDefinitionCreationFlag=_enum(
            "NetworkDefinitionCreationFlag", *(() if new else ("EXPLICIT_BATCH",)), "STRONGLY_TYPED"
        ),
    )
    if rtx:
        trt.ComputeCapability = _enum("ComputeCapability", "NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120")

    loggers: list[Any] = []

    def called(*what: object) -> None:
        trt.calls.append(what)

    def registered(logger: Any) -> Any:
        """The first logger stays in use, whatever is passed later."""
        if logger is not None:
            loggers.append(logger)
        return loggers[0]

    def fails(step: str, log: Any) -> bool:
        if step not in trt.trouble:
            return False
        if trt.trouble[step]:
            log.log(Severity.ERROR, trt.trouble[step])
        return True

    class Registry(_Strict):
        def __init__(self, log: Any) -> None:
            self._log = log

        def load_library(self, plugin_path: str) -> object | None:
            called("load_library", plugin_path)
            if fails("load_library", self._log):
                return None
            if plugin_path in trt.plugins:
                self._log.log(Severity.ERROR, "Cannot register the library as plugin creator of X exists already.")
                return None
            trt.plugins.append(plugin_path)
            return object()

    class TimingCache(_Strict):
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> HostMemory:
            return HostMemory(b"timings" + self._content)

    class Config(_Strict):
        _can_set = ("builder_optimization_level", "profiling_verbosity", "num_compute_capabilities")
        if not new:
            _can_set = ("builder_optimization_level", "profiling_verbosity", "int8_calibrator")

        def __init__(self) -> None:
            self._flags: set[Any] = {trt.BuilderFlag.TF32}
            self._profiles: list[Any] = []
            self._capabilities: list[Any] = []

        def set_flag(self, flag: Any) -> None:
            self._flags.add(trt.BuilderFlag(flag))

        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(trt.BuilderFlag(flag))

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            called("set_memory_pool_limit", trt.MemoryPoolType(pool).name, size)

        def add_optimization_profile(self, profile: Any) -> int:
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
            assert not rtx, "deprecated, does nothing"
            return TimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            called("set_timing_cache", cache._content)
            return b"damaged" not in cache._content

    if rtx:

        def set_compute_capability(self: Any, compute_capability: Any, index: int) -> bool:
            if not index < getattr(self, "num_compute_capabilities", 0):
                return False
            called("set_compute_capability", compute_capability.name)
            return True

        Config.set_compute_capability = set_compute_capability  # type: ignore[attr-defined]

    class Profile(_Strict):
        def __init__(self) -> None:
            self._shapes: dict[str, Any] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            self._shapes[input] = [list(min), list(opt), list(max)]

    class Builder(_Strict):
        def __init__(self, logger: Any) -> None:
            self._log = registered(logger)
            if fails("Builder", logger):
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def get_plugin_registry(self) -> Registry:
            return Registry(self._log)

        def create_network(self, flags: int = 0) -> Any:
            called("create_network", flags)
            return Network()

        def create_builder_config(self) -> Config:
            config = Config()
            called("config", config)
            return config

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Any, config: Config) -> HostMemory | None:
            called("build_serialized_network", sorted(flag.name for flag in config._flags))
            if fails("build_serialized_network", self._log):
                return None
            profiles = [profile._shapes for profile in config._profiles]
            capturable = not rtx or trt.BuilderFlag.REQUIRE_USER_ALLOCATION in config._flags
            return HostMemory(
                json.dumps({"graph": network._graph, "profiles": profiles, "capturable": capturable}).encode()
            )

    class Network(_Strict):
        _graph = ""

        def _take(self, path: str) -> None:
            model = onnx.load(path)
            self._graph = path
            typed = onnx.shape_inference.infer_shapes(model).graph
            types = {
                value.name: value.type.tensor_type.elem_type
                for value in (*typed.value_info, *typed.input, *typed.output)
            }
            types |= {tensor.name: tensor.data_type for tensor in typed.initializer}

            def tensor(name: str) -> Any:
                kind = trt.DataType[_TYPES.get(types.get(name, 1), "FLOAT")]
                return SimpleNamespace(name=name, dtype=kind)

            self._inputs = [
                SimpleNamespace(
                    name=value.name, shape=tuple(d.dim_value or -1 for d in value.type.tensor_type.shape.dim)
                )
                for value in model.graph.input
            ]
            self._layers = [_layer(node, tensor) for node in typed.node]

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_layers(self) -> int:
            return len(self._layers)

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        def get_layer(self, index: int) -> Any:
            return self._layers[index]

    if not rtx:
        Network.add_plugin_v3 = lambda self, inputs, shape_inputs, plugin: None  # type: ignore[attr-defined]

    class Parser(_Strict):
        def __init__(self, network: Network, logger: Any) -> None:
            self._network = network
            self._errors: list[Any] = []

        def parse_from_file(self, model: str) -> bool:
            called("parse_from_file", model)
            if not Path(model).is_file():
                self._errors.append(_parser_error("Input file cannot be found", "", ""))
                return False
            self._network._take(model)
            for node in onnx.load(model).graph.node:
                if node.domain and not trt.plugins:
                    self._errors.append(_parser_error("Plugin not found", node.name, node.op_type))
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

    class Runtime(_Strict):
        _can_set = ("engine_host_code_allowed",)

        def __init__(self, logger: Any) -> None:
            self._log = registered(logger)

        def get_plugin_registry(self) -> Registry:
            return Registry(self._log)

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any | None:
            if fails("deserialize_cuda_engine", self._log):
                return None
            return Engine(json.loads(bytes(serialized_engine)))

    class Engine(_Strict):
        def __init__(self, content: Any) -> None:
            self._content = content
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(content["graph"], options, providers=["CPUExecutionProvider"])
            names = {
                "tensor(float)": "FLOAT",
                "tensor(float16)": "HALF",
                "tensor(bool)": "BOOL",
                "tensor(int64)": "INT64",
            }
            self._tensors = {
                value.name: (mode, names[value.type], tuple(d if isinstance(d, int) else -1 for d in value.shape))
                for mode, several in (("INPUT", self._session.get_inputs()), ("OUTPUT", self._session.get_outputs()))
                for value in several
            }

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        @property
        def num_optimization_profiles(self) -> int:
            return len(self._content["profiles"])

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode[self._tensors[name][0]]

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType[self._tensors[name][1]]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._tensors[name][2]

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
            return self._content["profiles"][profile_index][name]

        def create_execution_context(self) -> Any | None:
            return None if "create_execution_context" in trt.trouble else Context(self)

        def _create_with_kernels(self, runtime_config: Any = None) -> Any | None:
            if "create_execution_context" in trt.trouble:
                return None
            return Context(self, runtime_config and runtime_config._cache)

        def create_engine_inspector(self) -> Any:
            half = {"Format/Datatype": "Half"} if major < 11 else {"Format": "Row major linear", "DataType": "Half"}
            layers = [
                {"Name": "conv", "LayerType": "CaskConvolution", "Outputs": [half]},
                {"Name": "n", "LayerType": "NoOp"},
            ]
            return SimpleNamespace(get_engine_information=lambda format: json.dumps({"Layers": layers}))

    class RuntimeCache(_Strict):
        _content = b""

        def deserialize(self, blob: bytes) -> bool:
            """Compared with the current environment, which takes a CUDA context: the stream exists."""
            assert cuda is not None
            assert cuda.held() > 0
            if bytes(blob) != trt.kernels_of:
                loggers[0].log(Severity.ERROR, "The runtime cache is of another GPU.")
                return False
            self._content = bytes(blob)
            return True

        def serialize(self) -> HostMemory:
            return HostMemory(self._content)

    class RuntimeConfig(_Strict):
        _cache: RuntimeCache | None = None

        def create_runtime_cache(self) -> RuntimeCache:
            return RuntimeCache()

        def set_runtime_cache(self, cache: RuntimeCache) -> bool:
            self._cache = cache
            return True

    class Context(_Strict):
        def __init__(self, engine: Engine, kernels: Any = None) -> None:
            self._engine = engine
            self._kernels = None if kernels is None else weakref.proxy(kernels)  # its owner has to keep it
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._warm = False

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            called("set_optimization_profile_async", profile_index)
            return profile_index < self._engine.num_optimization_profiles

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._warm = False
            self._shapes[name] = tuple(shape)
            return True

        def infer_shapes(self) -> list[str]:
            return [n for n, (mode, _, _) in self._engine._tensors.items() if mode == "INPUT" and n not in self._shapes]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            mode, _, shape = self._engine._tensors[name]
            if mode == "INPUT":
                return self._shapes.get(name, shape)
            batch = next(iter(self._shapes.values()))[0]
            return tuple(batch if size == -1 else size for size in shape)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return name in self._engine._tensors

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert cuda is not None
            assert set(self._addresses) == set(self._engine._tensors), "an address is missing"
            called("execute_async_v3")
            if "execute_async_v3" in trt.trouble:
                return False
            if stream_handle in cuda.capturing and not self._warm:
                return False  # the first call allocates, which a capture cannot hold
            self._warm = True
            if self._kernels is not None and not self._kernels._content:
                called("compile")
                self._kernels._content = trt.kernels_of
            cuda.enqueue(stream_handle, self._compute)
            return True

        def _compute(self) -> None:
            assert cuda is not None
            arrays = {
                name: cuda.array(self._addresses[name], self.get_tensor_shape(name), _NUMPY[kind])
                for name, (_, kind, _) in self._engine._tensors.items()
            }
            modes = {name: mode for name, (mode, _, _) in self._engine._tensors.items()}
            outputs = [name for name, mode in modes.items() if mode == "OUTPUT"]
            found = self._engine._session.run(outputs, {n: arrays[n] for n, mode in modes.items() if mode == "INPUT"})
            for name, value in zip(outputs, found, strict=True):
                arrays[name][...] = value

    if rtx:

        def is_stream_capturable(self: Any, stream: int) -> bool:
            return bool(self._engine._content["capturable"])

        def freed(self: Any) -> None:
            if self._kernels is not None:
                called("context freed, its kernels live", self._kernels._content)  # ReferenceError: they do not

        Context.is_stream_capturable = is_stream_capturable  # type: ignore[attr-defined]
        Context.__del__ = freed  # type: ignore[attr-defined]
        Engine.create_execution_context = Engine._create_with_kernels  # type: ignore[assignment, method-assign]
        Engine.create_runtime_config = lambda self: RuntimeConfig()  # type: ignore[attr-defined]
        trt.IRuntimeConfig, trt.IRuntimeCache, trt.kernels_of = RuntimeConfig, RuntimeCache, b"kernels of this GPU"

    trt.Builder, trt.OnnxParser, trt.Runtime = Builder, Parser, Runtime
    return trt


def _layer(node: Any, tensor: Any) -> Any:
    inputs, outputs = list(map(tensor, node.input)), list(map(tensor, node.output))
    return SimpleNamespace(
        name=node.name,
        type=SimpleNamespace(name=_LAYERS.get(node.op_type, "ELEMENTWISE")),
        num_inputs=len(inputs),
        num_outputs=len(outputs),
        get_input=lambda at: inputs[at],
        get_output=lambda at: outputs[at],
    )


def _parser_error(desc: str, name: str, operator: str) -> Any:
    return SimpleNamespace(desc=lambda: desc, node_name=lambda: name, node_operator=lambda: operator)
