"""OpenVINO on the CPU, fp32."""

from __future__ import annotations

import numpy as np
import openvino

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import ModelError
from hoiclip_engine.export import OUTPUTS, exported_graph
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput


class OpenVinoBackend:
    def __init__(self, model: ModelFile, canvas_hw: tuple[int, int]) -> None:
        self.name = "openvino"
        self.canvas_hw = canvas_hw
        core = openvino.Core()
        graph = exported_graph(model, canvas_hw)
        clip = model.config.clip_image_px
        try:
            network = core.read_model(graph)
            # Static shapes: the plugin then plans memory and picks kernels once.
            network.reshape(
                {"images": [1, 3, *canvas_hw], "padding": [1, *canvas_hw], "clip_images": [1, 3, clip, clip]}
            )
            options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
            self._request = core.compile_model(network, "CPU", options).create_infer_request()
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
