"""OpenVINO on the CPU; what it compiles is kept in the engine cache."""

from __future__ import annotations

import logging
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import ModelError
from hoiclip_engine.backends.capacity import ONE, Capacity
from hoiclip_engine.cpu import cpu_flags
from hoiclip_engine.engine_cache import EngineKey, engine, forget, graph_sha256
from hoiclip_engine.export import OUTPUTS, exported_graph
from hoiclip_engine.precision import Precision
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput

_log = logging.getLogger("hoiclip")


def library() -> str:
    return f"openvino {openvino.__version__}"


def device() -> str:
    """The CPU, and what OpenVINO makes use of."""
    core = openvino.Core()
    return ", ".join((core.get_property("CPU", "FULL_DEVICE_NAME"), *_capabilities(core)))


def fast_precisions() -> tuple[Precision, ...]:
    """What this CPU has instructions for, the fastest first; OpenVINO itself computes in 8 bits on any x86."""
    found: list[Precision] = []
    if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(cpu_flags()):
        found.append("int8")
    if "BF16" in _capabilities(openvino.Core()):
        found.append("bf16")
    return tuple(found)


def load(
    model: ModelFile, canvas_hw: tuple[int, int], precision: Precision, graph: Path | None, wanted: Capacity = ONE
) -> OpenVinoBackend:
    """bf16 computes the exported graph in half, int8 brings its own, which is of one picture."""
    if graph is not None:
        return OpenVinoBackend(model, canvas_hw, precision, graph, Capacity(lanes=wanted.lanes))
    graph = exported_graph(model, canvas_hw, wanted.batch)
    return OpenVinoBackend(model, canvas_hw, precision, graph, wanted)


class OpenVinoBackend:
    def __init__(
        self,
        model: ModelFile,
        canvas_hw: tuple[int, int],
        precision: Precision,
        graph: Path,
        capacity: Capacity = ONE,
    ) -> None:
        self.name = "openvino"
        self.canvas_hw, self.capacity = canvas_hw, capacity
        clip, b = model.config.clip_image_px, capacity.batch
        shapes = {"images": (b, 3, *canvas_hw), "padding": (b, *canvas_hw), "clip_images": (b, 3, clip, clip)}
        try:
            compiled = _compiled(graph, shapes, precision, capacity.lanes)
            self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for _ in range(capacity.lanes):
                self._requests.put(compiled.create_infer_request())
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise ModelError(
                f"OpenVINO cannot compile {graph}: {first}; delete that folder to make it again"
            ) from error

    def __call__(self, model_input: ModelInput) -> RawOutput:
        request = self._requests.get()
        try:
            request.infer(model_input.arrays(), share_inputs=True)
            return RawOutput(**{name: np.array(request.get_tensor(name).data) for name in OUTPUTS})
        finally:
            self._requests.put(request)

    def close(self) -> None:
        del self._requests


def _capabilities(core: Any) -> list[str]:
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def options(precision: Precision, lanes: int = 1) -> dict[str, str]:
    """One lane is for latency: OpenVINO then takes the physical cores of one socket and pins its threads to them.

    Several share the cores: a small model gains more from a second picture than from a second thread.
    """
    half = precision != "fp32" and "BF16" in _capabilities(openvino.Core())
    aim = (
        {"PERFORMANCE_HINT": "LATENCY"} if lanes == 1 else {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(lanes)}
    )
    return {**aim, "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}


def _compiled(graph: Path, shapes: Mapping[str, tuple[int, ...]], precision: Precision, lanes: int) -> Any:
    """Static shapes: the plugin then plans memory and picks kernels once."""
    core, chosen = openvino.Core(), options(precision, lanes)
    key = EngineKey(
        graph_sha256=graph_sha256(graph),
        library=library(),
        device=device(),
        precision=precision,
        shapes=shapes,
        options=chosen,
    )

    made: Any = None

    def make() -> bytes:
        nonlocal made
        network = core.read_model(graph)
        network.reshape({name: list(shape) for name, shape in shapes.items()})
        made = core.compile_model(network, "CPU", chosen)
        return bytes(made.export_model().getbuffer())

    kept = engine(key, make)
    if made is not None:
        return made
    try:
        return core.import_model(kept, "CPU", chosen)
    except RuntimeError as error:  # the key holds what is known to matter; this is for what is not
        _log.warning("the openvino engine is compiled again: %s", str(error).splitlines()[-1].strip())
        forget(key)
        engine(key, make)
        return made
