"""8 bits for TensorRT: explicit quantisation around the layers with weights, where the policy lets it.

ModelOpt finds the ranges with ONNX Runtime on the CPU: one symmetric scale per activation, one per output channel of a
weight. Everything else runs in the high precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from hoiclip.errors import ModelError
from hoiclip_engine.precision.modelopt_fp16 import Inputs, exactly, modelopt, require_standard, to_fp16

LAYERS = ("Conv", "MatMul", "Gemm")
"""What has kernels of 8 bits."""


def to_int8(
    graph: Path,
    out: Path,
    keep: Sequence[str],
    calibration: Iterable[Inputs],
    high: Literal["fp32", "fp16"],
    fp32: Sequence[str] = (),
) -> None:
    """Writes a graph of the same inputs and outputs, in the same types, with explicit quantisation in it.

    Args:
        graph: fp32 ONNX.
        keep: names of nodes that stay in the high precision.
        calibration: inputs to find ranges with; looked at once.
        high: what everything else computes in.
        fp32: where that is fp16, names of nodes that stay in 32 bits all the same.

    Raises:
        BackendMissing: ModelOpt, or what its ONNX parts need, is not installed.
        ModelError: the graph cannot be quantised or written, or there is nothing to find ranges with.
    """
    samples = iter(calibration)
    first = next(samples, None)
    if first is None:
        raise ModelError(f"expected pictures to calibrate {graph} with, found none")
    with modelopt(graph, "8 bits"), tempfile.TemporaryDirectory(prefix="hoiclip-") as room:
        import onnx
        from modelopt.onnx.quantization import quantize

        require_standard(graph)
        layers = _layers(graph, keep)
        if not layers:  # ModelOpt would take that for all
            raise ModelError(f"nothing in {graph} may be quantised; the policy keeps all of it")
        quantised = Path(room, "quantised.onnx")  # ModelOpt makes more files beside it on the way
        quantize(
            str(graph),
            quantize_mode="int8",
            calibration_method="max",
            calibration_data_reader=_reader(first, samples),
            calibration_eps=["cpu"],
            op_types_to_quantize=list(LAYERS),
            nodes_to_quantize=exactly(layers),
            disable_mha_qdq=True,
            enable_gemv_detection_for_trt=False,  # the policy decides, not the shapes of one sample
            high_precision_dtype="fp32",
            output_path=str(quantised),
            log_level="ERROR",
        )
        model = onnx.load(quantised)
        _only_into(layers, model.graph)
        onnx.save(model, out if high == "fp32" else quantised)
        if high == "fp16":
            to_fp16(quantised, out, fp32, first)


def _layers(graph: Path, keep: Sequence[str]) -> list[str]:
    """Names of the layers with weights that the policy lets be quantised."""
    import onnx

    content = onnx.load(graph, load_external_data=False).graph
    weights, kept = {one.name for one in content.initializer}, set(keep)
    return [
        node.name
        for node in content.node
        if node.op_type in LAYERS and node.name not in kept and weights.intersection(node.input[:2])
    ]


def _only_into(layers: Sequence[str], graph: Any) -> None:
    """ModelOpt hands the rounded tensor to all who take it: a residual connection would lose what the layer added."""
    exact = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    rounded = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    into = set(layers)
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name in rounded and node.name not in into:
                node.input[at] = exact[rounded[name]]


def _reader(first: Inputs, rest: Iterable[Inputs]) -> Any:
    """ModelOpt also asks for the first sample alone."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._samples = chain([first], rest)

        def get_next(self) -> dict[str, Any] | None:
            sample = next(self._samples, None)
            return dict(sample) if sample is not None else None

        def get_first(self) -> dict[str, Any]:
            return dict(first)

    return Reader()
