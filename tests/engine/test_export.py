"""The two memory forms of the interaction decoder's graph: equal outputs, and the form of each padded size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hoiclip.core.model_file import load_model_file
from hoiclip.model.config import ModelConfig
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.export.graph_spec import ABSORB_FROM_CELLS, INPUTS, GraphSpec, select_memory_form
from hoiclip_engine.export.onnx_export import example_inputs, write_graph
from tests.engine.untrained import CONFIG, untrained_model

pytestmark = pytest.mark.thorough


def test_memory_form_depends_on_padded_size() -> None:
    official = ModelConfig()
    assert select_memory_form(official, None) == "projected"
    assert select_memory_form(official, (448, 640)) == "projected"  # 280 cells
    assert select_memory_form(official, (480, 640)) == "absorbed"
    assert 480 * 640 // official.stride_px**2 == ABSORB_FROM_CELLS
    # Where all heads together have as many queries as the memory is wide, absorbing saves nothing.
    assert select_memory_form(ModelConfig(queries=96), (800, 1088)) == "projected"


def test_padded_sizes_of_one_memory_form_share_a_graph() -> None:
    pytest.importorskip("torch", reason="exporting needs it")
    model = load_model_file(untrained_model())
    graph = exported_graph(model, (128, 160))
    assert "projected" in graph.parent.name
    assert exported_graph(model, (64, 320)) == graph


def test_memory_forms_give_the_same_outputs(tmp_path: Path) -> None:
    model = load_model_file(untrained_model()).build()
    padded_hw = (320, 320)
    specs = [GraphSpec(part="interaction", memory=memory, padded_hw=padded_hw) for memory in ("projected", "absorbed")]  # type: ignore[arg-type]
    inputs = example_inputs(CONFIG, specs[0], seed=3)
    assert inputs["memory"].shape[1] == 100
    answers = []
    for spec in specs:
        path = tmp_path / f"{spec.memory}.onnx"
        write_graph(model, spec, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {name: inputs[name].numpy() for name in INPUTS["interaction"]})[0])
    np.testing.assert_allclose(*answers, atol=2e-4)  # fp32, summed in another order
    sizes = [(tmp_path / f"{spec.memory}.onnx").stat().st_size for spec in specs]
    assert sizes[0] != sizes[1]
