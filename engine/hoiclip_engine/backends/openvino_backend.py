"""OpenVINO on the CPU, fp32; what it compiles is kept in the engine cache."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from hoiclip.checkpoint.model_file import ModelFile, file_sha256
from hoiclip.errors import ModelError
from hoiclip_engine.engine_cache import EngineKey, engine
from hoiclip_engine.export import OUTPUTS, exported_graph
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput

_OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
_log = logging.getLogger("hoiclip")


class OpenVinoBackend:
    def __init__(self, model: ModelFile, canvas_hw: tuple[int, int]) -> None:
        self.name = "openvino"
        self.canvas_hw = canvas_hw
        graph = exported_graph(model, canvas_hw)
        clip = model.config.clip_image_px
        shapes = {"images": (1, 3, *canvas_hw), "padding": (1, *canvas_hw), "clip_images": (1, 3, clip, clip)}
        try:
            self._request = _compiled(graph, shapes).create_infer_request()
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise ModelError(f"OpenVINO cannot compile {graph}: {first}; delete that folder to export again") from error

    def __call__(self, model_input: ModelInput) -> RawOutput:
        self._request.infer(
            {
                "images": model_input.detector_bchw,
                "padding": model_input.mask_bhw,
                "clip_images": model_input.clip_bchw,
            },
            share_inputs=True,
        )
        return RawOutput(**{name: np.array(self._request.get_tensor(name).data) for name in OUTPUTS})

    def close(self) -> None:
        del self._request


def _compiled(graph: Path, shapes: dict[str, tuple[int, ...]]) -> Any:
    """Static shapes: the plugin then plans memory and picks kernels once."""
    core = openvino.Core()
    device = (core.get_property("CPU", "FULL_DEVICE_NAME"), *core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    key = EngineKey(
        graph_sha256=hashlib.sha256("".join(map(file_sha256, sorted(graph.parent.iterdir()))).encode()).hexdigest(),
        library=f"openvino {openvino.__version__}",
        device=", ".join(device),
        precision="fp32",
        shapes=shapes,
        options=_OPTIONS,
    )
    made: list[Any] = []

    def compile_now() -> Any:
        network = core.read_model(graph)
        network.reshape({name: list(shape) for name, shape in shapes.items()})
        return core.compile_model(network, "CPU", _OPTIONS)

    kept = engine(key, _remembering(made, compile_now))
    if made:
        return made[0]
    try:
        return core.import_model(kept, "CPU", _OPTIONS)
    except RuntimeError as error:  # the key holds what is known to matter; this is for what is not
        _log.warning("the openvino engine is compiled again: %s", str(error).splitlines()[-1].strip())
        return compile_now()


def _remembering(made: list[Any], compile_now: Callable[[], Any]) -> Callable[[], bytes]:
    """Compiles for the cache, and keeps the compiled model for now."""

    def make() -> bytes:
        made.append(compile_now())
        return bytes(made[0].export_model().getbuffer())

    return make
