"""The policy names nodes that exist, and a quantized graph follows the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest

from hoiclip.core.model_file import load_model_file
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.quantization.quantize import load_policy, to_openvino_int8
from tests.engine.untrained import CONFIG, untrained_model

pytestmark = pytest.mark.thorough

PADDED_HW = (64, 96)


@pytest.fixture(scope="module")
def fp32() -> Path:
    return exported_graph(load_model_file(untrained_model()), PADDED_HW)


@pytest.fixture(scope="module")
def int8(fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    rng = np.random.default_rng(0)
    clip_px = CONFIG.clip_image_px
    calibration = [
        {
            "images": rng.normal(size=(1, 3, *PADDED_HW)).astype(np.float32),
            "padding": np.zeros((1, *PADDED_HW), np.bool_),
            "clip_images": rng.normal(size=(1, 3, clip_px, clip_px)).astype(np.float32),
        }
        for _ in range(3)
    ]
    out = tmp_path_factory.mktemp("int8") / "model.xml"
    to_openvino_int8(fp32, calibration, out)
    return openvino.Core().read_model(out)


def test_nodes_are_named_by_their_place_and_names_are_unique(fp32: Path) -> None:
    names = [node.name for node in onnx.load(fp32).graph.node]
    assert len(set(names)) == len(names)
    assert "encoder.layers.0.attention/linear/MatMul" in names
    assert "interaction_decoder.layers.0/scaled_dot_product_attention/Softmax" in names
    assert "heads.hoi_classifier/linear/MatMul" in names


def test_weights_are_constants_where_they_are_used(fp32: Path) -> None:
    """Quantizers search the weight at the layer; sliced out of a packed one it would not be found."""
    graph = onnx.load(fp32).graph
    weights = {tensor.name for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    with_weight = [node.name for node in layers if weights.intersection(node.input)]
    without = [node.name for node in layers if node.name not in with_weight]
    assert with_weight
    assert all("scaled_dot_product_attention" in name for name in without)


def test_every_line_of_the_policy_names_a_node(fp32: Path) -> None:
    """A renamed module must not silently lose its protection."""
    import fnmatch

    graph = onnx.load(fp32)
    names = [node.name for node in graph.graph.node]
    operators = {node.op_type for node in graph.graph.node}
    for precision in ("int8", "fp16"):
        kept = load_policy(precision)  # type: ignore[arg-type]
        only_small = {"clip.stem.0/*", "position_projection/*"}  # parts that the official layout does not have
        assert [name for name in kept.names if name not in only_small and not fnmatch.filter(names, name)] == []
        assert set(kept.operators) <= operators


def test_int8_policy_keeps_attention_heads_and_first_layers(fp32: Path) -> None:
    graph = onnx.load(fp32)
    kept = set(load_policy("int8").nodes(graph))
    for node in graph.graph.node:
        attention = "scaled_dot_product_attention" in node.name and node.op_type == "MatMul"
        head = node.name.startswith("heads.") and node.op_type == "MatMul"
        first = node.name.startswith("backbone.bn/")
        if attention or head or first or node.op_type in ("LayerNormalization", "Softmax"):
            assert node.name in kept
    quantizable = {node.name for node in graph.graph.node if node.op_type in ("MatMul", "Conv")}
    assert len(quantizable - kept) > len(quantizable) / 2  # most of the work is still done in int8


def is_quantized(value: Any) -> bool:
    """Whether an input of a layer comes out of a FakeQuantize, or is a weight kept in int8."""
    source = value.get_source_output().get_node()
    while source.get_type_name() in ("Convert", "Multiply", "Subtract", "Reshape", "Transpose", "MaxPool"):
        source = source.input(0).get_source_output().get_node()
    kind = source.get_type_name()
    return kind == "FakeQuantize" or (kind == "Constant" and source.get_element_type() == openvino.Type.i8)


def depends_on_the_image(op: Any) -> bool:
    """The first decoder layer has learned queries: its products with them are constants, computed once."""
    return op.get_type_name() == "Parameter" or any(
        depends_on_the_image(value.get_source_output().get_node()) for value in op.inputs()
    )


def test_scales_are_where_the_policy_allows_them_and_nowhere_else(fp32: Path, int8: Any) -> None:
    kept = set(load_policy("int8").nodes(onnx.load(fp32)))
    layers = [op for op in int8.get_ordered_ops() if op.get_type_name() in ("MatMul", "Convolution")]
    depending = [op for op in layers if depends_on_the_image(op.input(0).get_source_output().get_node())]
    named = {op.get_friendly_name().removesuffix("/WithoutBiases"): op for op in depending}
    in_int8 = {name for name, op in named.items() if all(map(is_quantized, op.inputs()))}
    untouched = {name for name, op in named.items() if not any(map(is_quantized, op.inputs()))}
    assert in_int8 == set(named) - kept
    assert untouched == set(named) & kept
    assert {name for name in named if "scaled_dot_product" in name} <= untouched


def test_quantized_model_serves_any_padded_size_and_stays_close(fp32: Path, int8: Any) -> None:
    rng = np.random.default_rng(1)
    clip_px = CONFIG.clip_image_px
    inputs = {
        "images": rng.normal(size=(1, 3, 96, 128)).astype(np.float32),
        "padding": np.zeros((1, 96, 128), np.bool_),
        "clip_images": rng.normal(size=(1, 3, clip_px, clip_px)).astype(np.float32),
    }
    exact = openvino.Core().compile_model(fp32, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
    found = openvino.Core().compile_model(int8, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
    for name in ("hoi_logits", "object_logits", "human_boxes_cxcywh"):
        spread = float(exact[name].std())
        assert float(np.abs(found[name] - exact[name]).mean()) < 0.2 * spread  # int8 through some ten layers
        assert float(np.abs(found[name] - exact[name]).max()) > 0  # it was quantized at all
