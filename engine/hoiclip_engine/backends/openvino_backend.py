"""OpenVINO on the CPU; what it compiles is kept in the engine cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import ModelError
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


def load(model: ModelFile, canvas_hw: tuple[int, int], precision: Precision, graph: Path | None) -> OpenVinoBackend:
    """bf16 computes the exported graph in half, int8 brings its own."""
    return OpenVinoBackend(model, canvas_hw, precision, graph or exported_graph(model, canvas_hw))


class OpenVinoBackend:
    def __init__(self, model: ModelFile, canvas_hw: tuple[int, int], precision: Precision, graph: Path) -> None:
        self.name = "openvino"
        self.canvas_hw = canvas_hw
        clip = model.config.clip_image_px
        shapes = {"images": (1, 3, *canvas_hw), "padding": (1, *canvas_hw), "clip_images": (1, 3, clip, clip)}
        try:
            self._request = _compiled(graph, shapes, precision).create_infer_request()
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise ModelError(
                f"OpenVINO cannot compile {graph}: {first}; delete that folder to make it again"
            ) from error

    def __call__(self, model_input: ModelInput) -> RawOutput:
        self._request.infer(
            model_input.arrays(),
            share_inputs=True,
        )
        return RawOutput(**{name: np.array(self._request.get_tensor(name).data) for name in OUTPUTS})

    def close(self) -> None:
        del self._request


def _capabilities(core: Any) -> list[str]:
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def options(precision: Precision) -> dict[str, str]:
    """One stream, for latency: OpenVINO then takes the physical cores of one socket and pins its threads to them."""
    half = precision != "fp32" and "BF16" in _capabilities(openvino.Core())
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}


def _compiled(graph: Path, shapes: Mapping[str, tuple[int, ...]], precision: Precision) -> Any:
    """Static shapes: the plugin then plans memory and picks kernels once."""
    core, chosen = openvino.Core(), options(precision)
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
