"""What a video saves whose CLIP branch looks less often: the model in three graphs, two of which run every frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip_engine.backends.openvino_backend import options
from hoiclip_engine.commands.export import interaction_inputs
from hoiclip_engine.export import build, memory_form, write_graph
from hoiclip_engine.graph_form import INPUTS, GraphForm, Part
from hoiclip_engine.precision import Precision
from hoiclip_engine.precision.nncf_int8 import quantised

PARTS: tuple[Part, ...] = ("detector", "clip", "interaction")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def split_arms(
    model: ModelFile, inputs: dict[str, Any], canvas_hw: tuple[int, int], room: Path
) -> dict[str, Callable[[], object]]:
    """Per precision two calls on OpenVINO: all three graphs, and the two of a frame that keeps CLIP's last tokens.

    8 bits are calibrated on the picture itself: for their speed any picture is as good.
    """
    module, core = build(model), openvino.Core()
    taken = {**inputs, **interaction_inputs(module, inputs)}
    for part in PARTS:
        form = GraphForm(part=part, memory=memory_form(model.config, canvas_hw), canvas_hw=canvas_hw)
        write_graph(module, form, room / f"{part}.onnx")
        quantised(room / f"{part}.onnx", [{name: taken[name] for name in INPUTS[part]}], room / f"{part}.xml")
    calls: dict[str, Callable[[], object]] = {}
    for precision in PRECISIONS:
        suffix = "xml" if precision == "int8" else "onnx"
        compiled = {part: core.compile_model(room / f"{part}.{suffix}", "CPU", options(precision)) for part in PARTS}
        requests = {part: one.create_infer_request() for part, one in compiled.items()}

        def every(parts: tuple[Part, ...], requests: dict[Part, Any] = requests) -> None:
            known = dict(inputs)
            for part in PARTS:
                if part in parts:
                    requests[part].infer({name: known[name] for name in INPUTS[part]}, share_inputs=True)
                for output in requests[part].model_outputs:
                    known[output.any_name] = requests[part].get_tensor(output).data

        calls[f"openvino {precision} split, all"] = lambda every=every: every(PARTS)
        calls[f"openvino {precision} split, CLIP kept"] = lambda every=every: every(("detector", "interaction"))
    return calls
