"""One builder for TensorRT and TensorRT-RTX: an ONNX graph in, the bytes of an engine out.

Precision is what the graph says: networks are strongly typed, no flag allows another type. Run as a module this is the
process apart that tensorrt_process.py starts: the request comes in on standard input, the engine goes out on standard
output, what the library says on standard error.
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

from hoiclip.errors import BackendMissing, ModelError
from hoiclip_engine.tensorrt_layers import Layers, network_layers
from hoiclip_engine.tensorrt_library import Library, load_library, load_plugins, messages, one_line, version

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""By input: the smallest, the usual and the largest shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build, and with what."""

    library: Library
    graph: Path
    profile: Profile
    plugins: tuple[Path, ...] = ()
    timing_cache: Path | None = None
    """What TensorRT measured in earlier builds. TensorRT-RTX measures nothing when it builds, and needs none."""
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
    def from_json(cls, text: str) -> BuildRequest:
        said = json.loads(text)
        profile = {
            name: (tuple(least), tuple(usual), tuple(most))
            for name, (least, usual, most) in said.pop("profile").items()
        }
        cache = said.pop("timing_cache")
        return cls(
            graph=Path(said.pop("graph")),
            profile=profile,
            plugins=tuple(map(Path, said.pop("plugins"))),
            timing_cache=Path(cache) if cache else None,
            compute_capabilities=tuple(said.pop("compute_capabilities")),
            **said,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A finished engine."""

    engine: bytes
    layers: Layers
    """Of the network as parsed, before the builder fused them."""
    timing_cache: bytes = b""


def build(trt: Any, request: BuildRequest, say: Callable[[str], None] | None = None) -> Built:
    """Builds in this process; the timing cache is read, and what became of it returned.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        say: gets every line the library logs.

    Raises:
        ModelError: the library cannot parse or build the graph, or the profile does not fit it.
        BackendMissing: a plugin library is missing.
    """
    log = messages(trt, say)
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
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise ModelError(f"{request.library} cannot build {request.graph}: {_build_error(log.errors[before:])}")
    measured = bytes(cache.serialize()) if cache is not None else b""
    return Built(engine=bytes(serialised), layers=network_layers(network), timing_cache=measured)


def _network_flags(trt: Any) -> int:
    """From 11 on every TensorRT network is strongly typed, and the flag is deprecated."""
    if trt.__name__ == "tensorrt" and version(trt) >= (11, 0):
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _config(trt: Any, builder: Any, request: BuildRequest) -> Any:
    config = builder.create_builder_config()
    config.builder_optimization_level = request.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else an inspector knows names only
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
            there = ", ".join(known.__members__) if known is not None else "only the GPU of this machine"
            asked = ", ".join(request.compute_capabilities)
            raise ModelError(f"{request.library} cannot build for {asked}; it knows {there}")
        config.num_compute_capabilities = len(targets)  # first: setting one beyond the count fails
        for index, target in enumerate(targets):
            config.set_compute_capability(target, index)
    return config


def _add_profile(builder: Any, config: Any, network: Any, request: BuildRequest) -> None:
    """Checked here: the library checks shapes late and says little."""
    shapes = {one.name: tuple(one.shape) for one in (network.get_input(at) for at in range(network.num_inputs))}
    missing = [name for name, shape in shapes.items() if -1 in shape and name not in request.profile]
    unknown = [name for name in request.profile if name not in shapes]
    if missing or unknown:
        raise ModelError(
            f"expected shapes for the inputs {', '.join(shapes)} of {request.graph}, found {', '.join(request.profile)}"
        )
    for name, asked in request.profile.items():
        if any(len(one) != len(shapes[name]) for one in asked) or any(
            fixed not in (-1, size) for one in asked for fixed, size in zip(shapes[name], one, strict=True)
        ):
            raise ModelError(f"{request.graph} takes {name} of {shapes[name]}, shapes asked for are {asked}")
    profile = builder.create_optimization_profile()
    for name, asked in request.profile.items():
        profile.set_shape(name, *asked)
    config.add_optimization_profile(profile)


def _timing_cache(config: Any, request: BuildRequest) -> Any | None:
    """None where none is asked for, or the library has no use for one."""
    if request.timing_cache is None or request.library == "tensorrt-rtx":
        return None
    kept = request.timing_cache.read_bytes() if request.timing_cache.is_file() else b""
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, False):  # of another version or GPU, or damaged
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _parse_error(parser: Any, request: BuildRequest) -> str:
    if not parser.num_errors:
        return "it does not say why"
    error = parser.get_error(0)
    name, operator = error.node_name(), error.node_operator()
    where = f"node {name} ({operator}): " if operator else ""
    hint = ""
    if operator.startswith("Hoiclip") and not request.plugins:
        rtx = request.library == "tensorrt-rtx"
        hint = "; export with plain attention" if rtx else "; give its plugin library"
    return f"{where}{one_line(error.desc())}{hint}"


def _build_error(errors: list[str]) -> str:
    memory = [one for one in errors if "memory" in one.lower() and ("out of" in one.lower() or "alloc" in one.lower())]
    if memory:
        return f"out of memory: {memory[0]}; free some, or allow less workspace"
    return errors[0] if errors else "it does not say why"


def main() -> int:
    """Answers one request; see tensorrt_process.py for who asks."""
    _end_with(int(sys.argv[1]))
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print into the answer
    request = BuildRequest.from_json(sys.stdin.read())
    try:
        built = build(load_library(request.library), request, lambda line: print(line, file=sys.stderr, flush=True))
    except (ModelError, BackendMissing) as error:
        answer.write(json.dumps({"error": str(error), "missing": isinstance(error, BackendMissing)}).encode() + b"\n")
    else:
        head = {"engine": len(built.engine), "layers": built.layers}
        answer.write(json.dumps(head).encode() + b"\n" + built.engine + built.timing_cache)
    answer.flush()
    os._exit(0)  # the answer is out; the library's destructors have crashed before


def _end_with(parent: int) -> None:
    """Linux ends this process when whoever asked is gone, even if killed."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
