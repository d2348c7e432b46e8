"""Savings on a video whose CLIP branch runs less often: the model in three graphs, two of which run every frame."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import openvino

from hoiclip.core.model_file import ModelFile
from hoiclip_engine.backends.base import Precision
from hoiclip_engine.backends.openvino_backend import options
from hoiclip_engine.export.graph_spec import INPUTS, GraphPart, GraphSpec, select_memory_form
from hoiclip_engine.export.onnx_export import build_module, interaction_inputs, write_graph
from hoiclip_engine.quantization.quantize import to_openvino_int8

PARTS: tuple[GraphPart, ...] = ("detector", "clip", "interaction")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def split_arms(
    model: ModelFile, inputs: dict[str, Any], padded_hw: tuple[int, int], folder: Path
) -> dict[str, Callable[[], object]]:
    """Per precision two calls on OpenVINO: all three graphs, and the two of a frame that keeps CLIP's last tokens.

    int8 is calibrated on the image itself: for its speed any image is as good.
    """
    module, core = build_module(model), openvino.Core()
    samples = {**inputs, **interaction_inputs(module, inputs)}
    for part in PARTS:
        spec = GraphSpec(part=part, memory=select_memory_form(model.config, padded_hw), padded_hw=padded_hw)
        write_graph(module, spec, folder / f"{part}.onnx")
        to_openvino_int8(
            folder / f"{part}.onnx", [{name: samples[name] for name in INPUTS[part]}], folder / f"{part}.xml"
        )
    calls: dict[str, Callable[[], object]] = {}
    for precision in PRECISIONS:
        suffix = "xml" if precision == "int8" else "onnx"
        compiled = {part: core.compile_model(folder / f"{part}.{suffix}", "CPU", options(precision)) for part in PARTS}
        requests = {part: model.create_infer_request() for part, model in compiled.items()}

        def infer(parts: tuple[GraphPart, ...], requests: dict[GraphPart, Any] = requests) -> None:
            tensors = dict(inputs)
            for part in PARTS:
                if part in parts:
                    requests[part].infer({name: tensors[name] for name in INPUTS[part]}, share_inputs=True)
                for output in requests[part].model_outputs:
                    tensors[output.any_name] = requests[part].get_tensor(output).data

        calls[f"openvino {precision} split, all"] = partial(infer, PARTS)
        calls[f"openvino {precision} split, CLIP kept"] = partial(infer, ("detector", "interaction"))
    return calls
