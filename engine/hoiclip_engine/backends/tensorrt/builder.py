"""One builder for TensorRT and TensorRT-RTX: an ONNX graph in, the bytes of an engine out.

Precision lies in the graph: networks are strongly typed, no flag allows another type. Run as a module this is the
subprocess of build_process.py: it reads the request from standard input and writes the engine to standard output, the
library's log to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip_engine.backends.tensorrt.library import (
    NO_REASON,
    LayerCounts,
    TensorRtLibrary,
    library_logger,
    library_version,
    load_library,
    load_plugins,
    network_layers,
    one_line,
)

Shape = tuple[int, ...]
ShapeProfile = Mapping[str, tuple[Shape, Shape, Shape]]
"""By input: the smallest, the usual and the largest shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuildRequest:
    """The graph to build, and the options of the builder."""

    library: TensorRtLibrary
    graph: Path
    profile: ShapeProfile
    plugins: tuple[Path, ...] = ()
    timing_cache: Path | None = None
    """TensorRT's measurements of earlier builds. TensorRT-RTX measures nothing when it builds, and needs none."""
    compute_capabilities: tuple[str, ...] = ()
    """TensorRT-RTX: GPUs to build for, as SM89; empty: the one of this machine."""
    optimization_level: int = 3
    workspace_mb: int | None = None
    """Largest scratch memory of a layer; None: all of the GPU."""
    tf32: bool = False
    """Whether products of fp32 may be rounded to 10 bits of mantissa."""

    def __post_init__(self) -> None:
        if not 0 <= self.optimization_level <= 5:
            raise ValueError(f"expected an optimization level of 0 to 5, got {self.optimization_level}")
        if self.workspace_mb is not None and self.workspace_mb < 1:
            raise ValueError(f"expected a workspace of at least 1 MB, got {self.workspace_mb}")
        for name, (least, usual, most) in self.profile.items():
            ordered = len(least) == len(usual) == len(most)
            if not ordered or not all(0 < a <= b <= c for a, b, c in zip(least, usual, most, strict=True)):
                raise ValueError(f"expected growing shapes of one length for {name}, got {least}, {usual}, {most}")

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> EngineBuildRequest:
        fields = json.loads(text)
        profile = {
            name: (tuple(least), tuple(usual), tuple(most))
            for name, (least, usual, most) in fields.pop("profile").items()
        }
        cache = fields.pop("timing_cache")
        return cls(
            graph=Path(fields.pop("graph")),
            profile=profile,
            plugins=tuple(map(Path, fields.pop("plugins"))),
            timing_cache=Path(cache) if cache else None,
            compute_capabilities=tuple(fields.pop("compute_capabilities")),
            **fields,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """A finished engine."""

    engine: bytes
    layers: LayerCounts
    """Of the network as parsed, before the builder fused them."""
    timing_cache: bytes = b""


def build_engine(trt: Any, request: EngineBuildRequest, on_line: Callable[[str], None] | None = None) -> BuiltEngine:
    """Builds in this process; the timing cache is read, and the new one returned.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        on_line: called with every line that the library logs.

    Raises:
        ModelError: the library cannot parse or build the graph, or the profile does not fit it.
        BackendMissing: a plugin library is missing.
    """
    log = library_logger(trt, on_line)
    before = len(log.errors)
    try:
        builder = trt.Builder(log)
    except (TypeError, RuntimeError) as error:  # pybind11's words for a null pointer
        why = log.errors[before] if len(log.errors) > before else one_line(error)
        raise ModelError(f"{request.library} cannot start: {why}") from error
    network = builder.create_network(_network_flags(trt))
    if request.plugins and not hasattr(network, "add_plugin_v3"):  # its parser aborts the process over a plugin's node
        raise ModelError(f"{request.library} has no plugins; export {request.graph} with plain attention")
    load_plugins(builder.get_plugin_registry(), request.plugins, log)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(request.graph)):
        raise ModelError(f"{request.library} cannot parse {request.graph}: {_parse_error(parser, request)}")
    config = _config(trt, builder, request)
    _add_profile(builder, config, network, request)
    cache = _timing_cache(config, request)
    before = len(log.errors)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise ModelError(f"{request.library} cannot build {request.graph}: {_build_error(log.errors[before:])}")
    timings = bytes(cache.serialize()) if cache is not None else b""
    return BuiltEngine(engine=bytes(serialized), layers=network_layers(network), timing_cache=timings)


def _network_flags(trt: Any) -> int:
    """From 11 on every TensorRT network is strongly typed, and the flag is deprecated."""
    if trt.__name__ == "tensorrt" and library_version(trt) >= (11, 0):
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _config(trt: Any, builder: Any, request: EngineBuildRequest) -> Any:
    config = builder.create_builder_config()
    config.builder_optimization_level = request.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else an inspector has names only
    if not request.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # TensorRT-RTX captures CUDA graphs only of such engines
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if request.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mb << 20)
    if request.compute_capabilities:
        known = getattr(trt, "ComputeCapability", None)
        targets = [getattr(known, name, None) for name in request.compute_capabilities]
        if None in targets:
            supported = ", ".join(known.__members__) if known is not None else "only the GPU of this machine"
            requested = ", ".join(request.compute_capabilities)
            raise ModelError(f"{request.library} cannot build for {requested}; it knows {supported}")
        config.num_compute_capabilities = len(targets)  # first: setting one beyond the count fails
        for index, target in enumerate(targets):
            config.set_compute_capability(target, index)
    return config


def _add_profile(builder: Any, config: Any, network: Any, request: EngineBuildRequest) -> None:
    """Checks the shapes first: the library checks them late and gives few reasons."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs}
    missing = [name for name, shape in shapes.items() if -1 in shape and name not in request.profile]
    unknown = [name for name in request.profile if name not in shapes]
    if missing or unknown:
        raise ModelError(
            f"expected shapes for the inputs {', '.join(shapes)} of {request.graph}, found {', '.join(request.profile)}"
        )
    for name, requested in request.profile.items():
        if any(len(shape) != len(shapes[name]) for shape in requested) or any(
            fixed not in (-1, size) for shape in requested for fixed, size in zip(shapes[name], shape, strict=True)
        ):
            raise ModelError(f"{request.graph} takes {name} of {shapes[name]}, requested shapes are {requested}")
    profile = builder.create_optimization_profile()
    for name, requested in request.profile.items():
        profile.set_shape(name, *requested)
    config.add_optimization_profile(profile)


def _timing_cache(config: Any, request: EngineBuildRequest) -> Any | None:
    """None where none is requested, or the library has no use for one."""
    if request.timing_cache is None or request.library == "tensorrt-rtx":
        return None
    earlier = request.timing_cache.read_bytes() if request.timing_cache.is_file() else b""
    cache = config.create_timing_cache(earlier)
    if cache is None or not config.set_timing_cache(cache, False):  # of another version or GPU, or damaged
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _parse_error(parser: Any, request: EngineBuildRequest) -> str:
    if not parser.num_errors:
        return NO_REASON
    error = parser.get_error(0)
    name, operator = error.node_name(), error.node_operator()
    where = f"node {name} ({operator}): " if operator else ""
    hint = ""
    if operator.startswith("Hoiclip") and not request.plugins:
        rtx = request.library == "tensorrt-rtx"
        hint = "; export with plain attention" if rtx else "; give its plugin library"
    return f"{where}{one_line(error.desc())}{hint}"


def _build_error(errors: list[str]) -> str:
    lowered = [(error, error.lower()) for error in errors]
    memory = [error for error, text in lowered if "memory" in text and ("out of" in text or "alloc" in text)]
    if memory:
        return f"out of memory: {memory[0]}; free some, or allow less workspace"
    return errors[0] if errors else NO_REASON


def main() -> int:
    """Answers one request of build_process.py."""
    end_with_parent(int(sys.argv[1]))
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print into the answer
    request = EngineBuildRequest.from_json(sys.stdin.read())
    try:
        built = build_engine(
            load_library(request.library), request, lambda line: print(line, file=sys.stderr, flush=True)
        )
    except (ModelError, BackendMissing) as error:
        answer.write(json.dumps({"error": str(error), "missing": isinstance(error, BackendMissing)}).encode() + b"\n")
    else:
        head = {"engine": len(built.engine), "layers": built.layers}
        answer.write(json.dumps(head).encode() + b"\n" + built.engine + built.timing_cache)
    answer.flush()
    os._exit(0)  # the answer is out; the library's destructors have crashed before


def end_with_parent(parent: int) -> None:
    """Linux ends this process when the one that started it has ended, even if killed."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
