"""OpenVINO on the CPU; compiled engines are cached."""

from __future__ import annotations

import logging
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import ModelFile
from hoiclip.core.preprocess import ModelInput
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import SINGLE_IMAGE, Capacity, Precision
from hoiclip_engine.backends.cpu import cpu_flags
from hoiclip_engine.cache.artifacts import EngineKey, cached_engine, exported_graph, forget_engine, graph_sha256
from hoiclip_engine.export.graph_spec import MODEL_OUTPUTS

_log = logging.getLogger("hoiclip")


def library() -> str:
    return f"openvino {openvino.__version__}"


def device() -> str:
    """Name of the CPU, and the precisions that OpenVINO uses on it."""
    core = openvino.Core()
    return ", ".join((core.get_property("CPU", "FULL_DEVICE_NAME"), *_capabilities(core)))


def fast_precisions() -> tuple[Precision, ...]:
    """Precisions that this CPU has instructions for; OpenVINO itself computes int8 on any x86."""
    found: list[Precision] = []
    if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(cpu_flags()):
        found.append("int8")
    if "BF16" in _capabilities(openvino.Core()):
        found.append("bf16")
    return tuple(found)


def load(
    model: ModelFile,
    padded_hw: tuple[int, int],
    precision: Precision,
    graph: Path | None,
    capacity: Capacity = SINGLE_IMAGE,
) -> OpenVinoBackend:
    """bf16 computes the exported graph in half precision; int8 has a graph of its own, for one image."""
    if graph is not None:
        return OpenVinoBackend(model, padded_hw, precision, graph, Capacity(num_requests=capacity.num_requests))
    graph = exported_graph(model, padded_hw, capacity.batch)
    return OpenVinoBackend(model, padded_hw, precision, graph, capacity)


class OpenVinoBackend:
    def __init__(
        self,
        model: ModelFile,
        padded_hw: tuple[int, int],
        precision: Precision,
        graph: Path,
        capacity: Capacity = SINGLE_IMAGE,
    ) -> None:
        self.name = "openvino"
        self.padded_hw, self.capacity = padded_hw, capacity
        clip, b = model.config.clip_image_px, capacity.batch
        shapes = {"images": (b, 3, *padded_hw), "padding": (b, *padded_hw), "clip_images": (b, 3, clip, clip)}
        try:
            compiled = _compiled(graph, shapes, precision, capacity.num_requests)
            self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for _ in range(capacity.num_requests):
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
            return RawOutput(**{name: np.array(request.get_tensor(name).data) for name in MODEL_OUTPUTS})
        finally:
            self._requests.put(request)

    def close(self) -> None:
        del self._requests


def _capabilities(core: Any) -> list[str]:
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def options(precision: Precision, num_requests: int = 1) -> dict[str, str]:
    """Compiler options. One request is for latency: OpenVINO then takes the physical cores of one socket and pins its
    threads to them. Several requests share the cores: a small model gains more from a second image than from a second
    thread.
    """
    half = precision != "fp32" and "BF16" in _capabilities(openvino.Core())
    hint = (
        {"PERFORMANCE_HINT": "LATENCY"}
        if num_requests == 1
        else {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(num_requests)}
    )
    return {**hint, "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}


def _compiled(graph: Path, shapes: Mapping[str, tuple[int, ...]], precision: Precision, num_requests: int) -> Any:
    """Static shapes: the plugin then plans memory and picks kernels once."""
    core, compile_options = openvino.Core(), options(precision, num_requests)
    key = EngineKey(
        graph_sha256=graph_sha256(graph),
        library=library(),
        device=device(),
        precision=precision,
        shapes=shapes,
        options=compile_options,
    )

    compiled_now: Any = None

    def make() -> bytes:
        nonlocal compiled_now
        network = core.read_model(graph)
        network.reshape({name: list(shape) for name, shape in shapes.items()})
        compiled_now = core.compile_model(network, "CPU", compile_options)
        return bytes(compiled_now.export_model().getbuffer())

    cached = cached_engine(key, make)
    if compiled_now is not None:
        return compiled_now
    try:
        return core.import_model(cached, "CPU", compile_options)
    except RuntimeError as error:  # the key holds all that is known to matter; this is for the rest
        _log.warning("the openvino engine is compiled again: %s", str(error).splitlines()[-1].strip())
        forget_engine(key)
        cached_engine(key, make)
        return compiled_now
