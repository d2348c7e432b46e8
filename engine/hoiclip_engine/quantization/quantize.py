"""Quantized graphs: NNCF for OpenVINO, ModelOpt for TensorRT, each by the one policy of policy.toml.

NNCF collects the value ranges of a layer's inputs and puts its scales around the layer, where the policy allows it.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from hoiclip.core.errors import BackendMissing, ModelError, UsageError
from hoiclip.core.model_file import ModelFile
from hoiclip_engine.backends.base import BackendName, Precision
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.export.onnx_export import graph_session, quiet_libraries
from hoiclip_engine.quantization.modelopt import GraphInputs, to_fp16, to_int8

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TargetRuntime = Literal["openvino", "tensorrt"]
TARGET_RUNTIMES: tuple[TargetRuntime, ...] = get_args(TargetRuntime)
TARGET_OF_BACKEND: Mapping[BackendName, TargetRuntime] = {
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt",
}
"""The runtime whose quantized graphs a backend takes."""
QUANTIZED_PRECISIONS: Mapping[TargetRuntime, tuple[Precision, ...]] = {
    "openvino": ("int8",),
    "tensorrt": ("fp16", "int8"),
}
"""Precisions with a graph of their own; OpenVINO computes the fp32 graph in bf16 by itself."""
QuantizedPrecision = Literal["int8", "fp16"]
PRODUCT_OPERATORS = ("MatMul", "Gemm")


@dataclass(frozen=True, slots=True)
class PrecisionPolicy:
    """Nodes that one precision leaves as they are."""

    products_of_activations: bool
    operators: tuple[str, ...]
    names: tuple[str, ...]

    def nodes(self, graph: Any) -> list[str]:
        """Names of the kept nodes.

        Args:
            graph: an onnx.ModelProto whose nodes are named by export/onnx_export.py.
        """
        weights = {tensor.name for tensor in graph.graph.initializer}
        weights |= {node.output[0] for node in graph.graph.node if node.op_type == "Constant"}
        return [node.name for node in graph.graph.node if self._keeps(node, weights)]

    def _keeps(self, node: Any, weights: set[str]) -> bool:
        if node.op_type in self.operators or any(fnmatch.fnmatchcase(node.name, name) for name in self.names):
            return True
        is_product = node.op_type in PRODUCT_OPERATORS and not weights.intersection(node.input)
        return self.products_of_activations and is_product


def require_quantizable(target: TargetRuntime, precision: Precision) -> None:
    """Raises UsageError: the runtime has no graph of this precision."""
    if precision not in QUANTIZED_PRECISIONS[target]:
        known = ", ".join(QUANTIZED_PRECISIONS[target])
        raise UsageError(f"expected one of {known} for {target}, got {precision}; name another --precision or --for")


def quantize_for(
    backend: BackendName,
    precision: Precision,
    model: ModelFile,
    padded_hw: tuple[int, int],
    samples: Sequence[GraphInputs],
    folder: Path,
) -> Path | None:
    """The graph of a build, in a folder; None where the backend takes the fp32 graph, or the module, and does the rest.

    Args and raises as `quantize_graph`.
    """
    target = TARGET_OF_BACKEND.get(backend)
    if target is None or precision not in QUANTIZED_PRECISIONS[target]:
        return None
    return quantize_graph(exported_graph(model, padded_hw), target, precision, samples, folder)


def quantize_graph(
    graph: Path, target: TargetRuntime, precision: Precision, samples: Sequence[GraphInputs], folder: Path
) -> Path:
    """Writes the graph into a folder, under the name of the fp32 graph; inputs and outputs keep names and types.

    Args:
        graph: fp32 ONNX, nodes named by export/onnx_export.py; not in `folder`.
        samples: inputs of the graph; int8 finds its scales with all of them, fp16 finds large values with the first.

    Raises:
        UsageError: the runtime has no graph of this precision.
        BackendMissing: the library that makes it is not installed.
        ModelError: it cannot be made.
    """
    require_quantizable(target, precision)
    if target == "openvino":
        out = folder / f"{graph.stem}.xml"
        to_openvino_int8(graph, samples, out)
        return out
    import onnx

    out, content = folder / graph.name, onnx.load(graph, load_external_data=False)
    kept_in_fp32 = load_policy("fp16").nodes(content)
    if precision == "fp16":
        to_fp16(graph, out, kept_in_fp32, samples[0])
    else:
        to_int8(graph, out, load_policy("int8").nodes(content), samples, "fp16", kept_in_fp32)
    return out


def to_openvino_int8(graph: Path, calibration: Sequence[GraphInputs], out: Path) -> None:
    """Writes OUT (.xml, its weights beside it as .bin), an OpenVINO model of the graph's inputs and outputs.

    Args:
        graph: fp32 ONNX, nodes named by export/onnx_export.py.
        calibration: inputs of one batch each, all of one size; read more than once.

    Raises:
        BackendMissing: nncf or onnx is not installed.
        ModelError: the graph cannot be quantized or written.
    """
    try:
        import nncf
        import onnx
        import openvino
    except ImportError as error:
        raise BackendMissing(
            f"int8 for openvino needs {error.name}; pip install 'hoiclip[quantize]' brings it"
        ) from error
    kept = load_policy("int8").nodes(onnx.load(graph, load_external_data=False))
    # A convolution with a bias becomes two operations of OpenVINO; the second has the node's name.
    names = [f"{name}{tail}" for name in kept for tail in ("", "/WithoutBiases")]
    try:
        with quiet_libraries():
            nncf.set_log_level(logging.ERROR)
            model = nncf.quantize(
                openvino.Core().read_model(graph),
                nncf.Dataset(calibration, dict),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(calibration),
                ignored_scope=nncf.IgnoredScope(names=names, validate=False),
            )
        openvino.save_model(model, out, compress_to_fp16=False)
    except RuntimeError as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{graph} cannot be quantized: {first}; report it") from error


def quantizer_version(target: TargetRuntime) -> str:
    """Name and version of the library that makes graphs for a runtime."""
    name = "nncf" if target == "openvino" else "nvidia-modelopt"
    return f"{name} {importlib.metadata.version(name)}"


def max_errors_to_fp32(
    exact: Path, quantized: Path, inputs: dict[str, Any], outputs: tuple[str, ...]
) -> dict[str, float]:
    """Largest difference of each fp32 output to the exact graph."""
    import numpy as np

    expected = graph_session(exact).run(outputs, inputs)
    if quantized.suffix == ".xml":
        import openvino

        answer = openvino.Core().compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
        found = [answer[name] for name in outputs]
    else:
        found = graph_session(quantized, optimised=False).run(outputs, inputs)
    return {
        name: float(np.abs(ours.astype(np.float32) - theirs).max())
        for name, ours, theirs in zip(outputs, found, expected, strict=True)
        if theirs.dtype == np.float32
    }


@cache
def load_policy(precision: QuantizedPrecision) -> PrecisionPolicy:
    """The project's policy for a precision."""
    table = tomllib.loads(policy_text())[precision]
    return PrecisionPolicy(table["products_of_activations"], tuple(table["operators"]), tuple(table["names"]))


def policy_text() -> str:
    """The text of the file: a graph made by another policy is another graph."""
    return resources.files(__package__).joinpath("policy.toml").read_text(encoding="utf-8")
