"""ONNX graphs of a few nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCHES = {"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
"""A profile for convolution()."""


def write(path: Path, nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray]) -> Path:
    """From x to y, both fp32."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 3, 8, 8))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", "channels", "rows", "columns"))
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("hoiclip", 1)]
    graph = helper.make_graph(list(nodes), "g", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def convolution(path: Path) -> Path:
    """A convolution in fp32, of any batch."""
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", kernel_shape=[3, 3])
    return write(path, [node], {"w": kernel})


def quantized_convolution(path: Path) -> Path:
    """The same in int8, by explicit quantization of both sides."""
    kernel = np.random.default_rng(0).integers(-127, 127, size=(4, 3, 3, 3)).astype(np.int8)
    weights = {
        "w": kernel,
        "s": np.float32(0.1),
        "z": np.int8(0),
        "c": np.full(4, 0.01, np.float32),
        "k": np.zeros(4, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="dq"),
        helper.make_node("DequantizeLinear", ["w", "c", "k"], ["wd"], name="dqw", axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["y"], name="conv", kernel_shape=[3, 3]),
    ]
    return write(path, nodes, {name: np.asarray(value) for name, value in weights.items()})


def foreign(path: Path, operator: str, domain: str = "") -> Path:
    """A node that no library knows."""
    return write(path, [helper.make_node(operator, ["x"], ["y"], name="strange", domain=domain)], {})


def loud_normalisation(path: Path, gain: float) -> Path:
    """A layer norm of x times the gain."""
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["loud"], name="loud"),
        helper.make_node("LayerNormalization", ["loud", "scale", "bias"], ["y"], name="norm", axis=-1),
    ]
    weights = {"gain": np.full(1, gain, np.float32), "scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}
    return write(path, nodes, weights)
