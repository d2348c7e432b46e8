"""Two forms of the interaction decoder's graph, the same answers; and which of them a canvas gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip.model.config import ModelConfig
from hoiclip_engine.export import ABSORB_FROM, example_inputs, exported_graph, memory_form, write_graph
from hoiclip_engine.graph_form import INPUTS, GraphForm
from tests.engine.untrained import CONFIG, untrained_model


def test_the_canvas_decides_between_the_forms() -> None:
    official = ModelConfig()
    assert memory_form(official, None) == "projected"
    assert memory_form(official, (448, 640)) == "projected"  # 280 cells
    assert memory_form(official, (480, 640)) == "absorbed"
    assert 480 * 640 // official.stride_px**2 == ABSORB_FROM
    # Where all heads together ask as many questions as the memory is wide, absorbing saves nothing.
    assert memory_form(ModelConfig(queries=96), (800, 1088)) == "projected"


def test_canvases_of_one_form_share_a_file() -> None:
    pytest.importorskip("torch", reason="exporting needs it")
    model = load_model_file(untrained_model())
    graph = exported_graph(model, (128, 160))
    assert "projected" in graph.parent.name
    assert exported_graph(model, (64, 320)) == graph


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    model = load_model_file(untrained_model()).build()
    canvas = (320, 320)
    forms = [GraphForm(part="interaction", memory=memory, canvas_hw=canvas) for memory in ("projected", "absorbed")]  # type: ignore[arg-type]
    inputs = example_inputs(CONFIG, forms[0], seed=3)
    assert inputs["memory"].shape[1] == 100
    answers = []
    for form in forms:
        path = tmp_path / f"{form.memory}.onnx"
        write_graph(model, form, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {name: inputs[name].numpy() for name in INPUTS["interaction"]})[0])
    np.testing.assert_allclose(*answers, atol=2e-4)  # fp32, summed in another order
    sizes = [(tmp_path / f"{form.memory}.onnx").stat().st_size for form in forms]
    assert sizes[0] != sizes[1]
