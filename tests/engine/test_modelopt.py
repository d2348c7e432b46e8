"""Graphs for TensorRT in fp16 and int8: their types and their quantization follow the policy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip.core.model_file import load_model_file
from hoiclip_engine.backends.tensorrt.build_process import build_in_subprocess
from hoiclip_engine.backends.tensorrt.builder import EngineBuildRequest
from hoiclip_engine.backends.tensorrt.library import TensorRtLibrary
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.quantization.modelopt import QUANTIZABLE_OPERATORS, to_fp16, to_int8
from hoiclip_engine.quantization.quantize import load_policy
from tests.engine import onnx_graphs
from tests.engine.untrained import CONFIG, untrained_model

pytestmark = pytest.mark.thorough

PADDED_HW = (64, 96)
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


def sample(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    clip_px = CONFIG.clip_image_px
    return {
        "images": rng.normal(size=(1, 3, *PADDED_HW)).astype(np.float32),
        "padding": np.zeros((1, *PADDED_HW), np.bool_),
        "clip_images": rng.normal(size=(1, 3, clip_px, clip_px)).astype(np.float32),
    }


class Graph(NamedTuple):
    path: Path
    model: Any
    """With the types of all tensors."""

    def types(self, names: Any) -> set[int]:
        """Float types among the named tensors."""
        graph = self.model.graph
        known = {
            value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)
        }
        known |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        return {known[name] for name in names if name} & FLOATS

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Its optimiser breaks int8 amid fp16: logits are off by 5, and by 0.1 where the graph runs as written.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"]).run(
            None, inputs
        )


def read(path: Path) -> Graph:
    onnx.checker.check_model(str(path))
    return Graph(path, onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True))


@pytest.fixture(scope="module")
def fp32() -> Graph:
    return read(exported_graph(load_model_file(untrained_model()), PADDED_HW))


@pytest.fixture(scope="module")
def fp16(modelopt: None, fp32: Graph, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    out = tmp_path_factory.mktemp("fp16") / "model.onnx"
    to_fp16(fp32.path, out, load_policy("fp16").nodes(fp32.model), sample())
    return read(out)


@pytest.fixture(scope="module")
def int8(modelopt: None, fp32: Graph, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    out = tmp_path_factory.mktemp("int8") / "model.onnx"
    kept = {precision: load_policy(precision).nodes(fp32.model) for precision in ("int8", "fp16")}  # type: ignore[arg-type]
    to_int8(fp32.path, out, kept["int8"], map(sample, range(3)), "fp16", kept["fp16"])
    return read(out)


@pytest.mark.parametrize("made", ["fp16", "int8"])
def test_inputs_and_outputs_of_the_graph_keep_their_types(
    made: str, fp32: Graph, request: pytest.FixtureRequest
) -> None:
    def ends(graph: Graph) -> list[tuple[str, int]]:
        ends = (*graph.model.graph.input, *graph.model.graph.output)
        return [(value.name, value.type.tensor_type.elem_type) for value in ends]

    assert ends(request.getfixturevalue(made)) == ends(fp32)


@pytest.mark.parametrize("made", ["fp16", "int8"])
def test_nodes_of_the_policy_are_fp32_and_the_others_fp16(
    made: str, fp32: Graph, request: pytest.FixtureRequest
) -> None:
    graph: Graph = request.getfixturevalue(made)
    kept = set(load_policy("fp16").nodes(fp32.model))
    nodes = {node.name: node for node in graph.model.graph.node}
    computing = [
        node
        for node in fp32.model.graph.node
        if node.op_type in (*QUANTIZABLE_OPERATORS, "Softmax", "LayerNormalization", "Sigmoid")
    ]
    assert len([node for node in computing if node.name in kept]) > 20
    for node in computing:
        expected = TensorProto.FLOAT if node.name in kept else TensorProto.FLOAT16
        found = nodes[node.name]
        assert graph.types([*found.input, *found.output]) == {expected}, node.name


def test_fp16_changes_little(fp32: Graph, fp16: Graph) -> None:
    for wide, narrow in zip(fp32.run(sample(9)), fp16.run(sample(9)), strict=True):
        # 11 bits of mantissa through 20 layers; the largest logits here are 15.
        np.testing.assert_allclose(narrow, wide, atol=0.02)


def test_quantization_is_around_every_layer_with_weights_but_the_kept(fp32: Graph, int8: Graph) -> None:
    weights = {tensor.name for tensor in fp32.model.graph.initializer}
    kept = set(load_policy("int8").nodes(fp32.model))
    layers = [
        node
        for node in fp32.model.graph.node
        if node.op_type in QUANTIZABLE_OPERATORS and weights.intersection(node.input)
    ]
    expected = {node.name for node in layers} - kept
    graph = int8.model.graph
    makers = {output: node for node in graph.node for output in node.output}

    def dequantized(node: Any) -> list[bool]:
        return [getattr(makers.get(name), "op_type", None) == "DequantizeLinear" for name in node.input[:2]]

    assert len(expected) > 40
    assert {
        node.name for node in graph.node if all(dequantized(node)) and node.op_type in QUANTIZABLE_OPERATORS
    } == expected
    assert not [node.name for node in graph.node if any(dequantized(node)) and node.name not in expected]


def test_products_of_attention_are_not_quantized(int8: Graph) -> None:
    graph = int8.model.graph
    makers = {output: node for node in graph.node for output in node.output}
    products = [node for node in graph.node if node.op_type == "MatMul" and "dot_product" in node.name]
    assert len(products) > 10
    for node in products:
        assert not {makers[name].op_type for name in node.input} & {"DequantizeLinear", "QuantizeLinear"}, node.name


def test_scales_are_symmetric_and_one_per_output_channel(int8: Graph) -> None:
    graph = int8.model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {name: value.shape for name, value in constants.items()}
    found = {"weights": 0, "activations": 0}
    for node in graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        value, scale, zero = node.input
        assert not constants[zero].any()
        assert constants[zero].dtype == np.int8
        assert (constants[scale] > 0).all()
        if value in shapes:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            assert shapes[scale] == (shapes[value][axis],)
            assert axis == (0 if len(shapes[value]) == 4 else 1)
        else:
            assert constants[scale].size == 1
        found["weights" if value in shapes else "activations"] += 1
    assert min(found.values()) > 20


def test_int8_changes_the_outputs_but_not_much(fp32: Graph, int8: Graph) -> None:
    difference = [np.abs(a - b).max() for a, b in zip(fp32.run(sample(9)), int8.run(sample(9)), strict=True)]
    assert 1e-3 < difference[0] < 0.5  # logits of random weights, up to 15


def test_layer_norm_of_large_values_does_not_overflow(modelopt: None, tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, size=(2, 3, 8, 8)).astype(np.float32)
    with np.errstate(over="ignore"):
        assert np.isinf(np.float16(3e4) ** 2)  # what a variance in fp16 would meet
    beyond = {"x": x}  # 1e6 does not fit fp16 at all, which only a sample shows
    for gain, checked in ((3e4, None), (1e6, beyond)):
        graph = read(onnx_graphs.loud_normalisation(tmp_path / "g.onnx", gain))
        to_fp16(graph.path, tmp_path / "half.onnx", ["norm"], checked)
        half = read(tmp_path / "half.onnx")
        [norm] = [node for node in half.model.graph.node if node.op_type == "LayerNormalization"]
        assert half.types([*norm.input, *norm.output]) == {TensorProto.FLOAT}
        np.testing.assert_allclose(half.run({"x": x})[0], graph.run({"x": x})[0], atol=5e-3)


def test_graph_that_cannot_be_converted_is_one_error_line(tmp_path: Path, modelopt: None) -> None:
    plugin = onnx_graphs.foreign(tmp_path / "p.onnx", "HoiclipDualAttention", "hoiclip")
    with pytest.raises(ModelError, match="found HoiclipDualAttention; export with plain attention"):
        to_fp16(plugin, tmp_path / "out.onnx", [])
    graph = onnx_graphs.convolution(tmp_path / "g.onnx")
    with pytest.raises(ModelError, match="expected images to calibrate"):
        to_int8(graph, tmp_path / "out.onnx", [], [], "fp32")
    with pytest.raises(ModelError, match=r"nothing in .* may be quantized"):
        to_int8(graph, tmp_path / "out.onnx", ["conv"], [{"x": np.zeros((1, 3, 8, 8), np.float32)}], "fp32")
    graph.write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"cannot be converted to fp16: .*; report it"):
        to_fp16(graph, tmp_path / "out.onnx", [])
    assert not (tmp_path / "out.onnx").exists()


def test_missing_modelopt_is_an_error_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelopt.onnx.autocast", None)
    with pytest.raises(BackendMissing, match=r"pip install 'hoiclip\[quantize-trt\]'"):
        to_fp16(onnx_graphs.convolution(tmp_path / "g.onnx"), tmp_path / "out.onnx", [])


@pytest.mark.parametrize("made", ["fp16", "int8"])
def test_tensorrt_rtx_builds_the_graph_as_typed(
    made: str, rtx: TensorRtLibrary, request: pytest.FixtureRequest
) -> None:
    graph: Graph = request.getfixturevalue(made)
    profile = {name: (value.shape,) * 3 for name, value in sample().items()}
    built = build_in_subprocess(
        EngineBuildRequest(library=rtx, graph=graph.path, profile=profile, compute_capabilities=("SM89",))
    )
    assert set(built.layers["NORMALIZATION"]) == {"float"}
    assert set(built.layers["SOFTMAX"]) == {"half"}
    # Two first convolutions see images; what shapes positions and logits stays in fp32.
    assert built.layers["CONVOLUTION"] == ({"half": 19} if made == "fp16" else {"half": 2, "int8": 17})
    assert built.layers["MATRIX_MULTIPLY"]["half"] > built.layers["MATRIX_MULTIPLY"]["float"]
