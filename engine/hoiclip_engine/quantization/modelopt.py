"""Graphs in fp16 and int8 for TensorRT, made by ModelOpt. Its networks are strongly typed: types lie in the graph.

fp16: AutoCast types every tensor of the graph, and the policy's nodes stay in fp32.
int8: explicit quantization around the layers with weights, where the policy allows it. ModelOpt finds the ranges with
ONNX Runtime on the CPU: one symmetric scale per activation, one per output channel of a weight. Everything else runs in
the high precision.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip_engine.export.onnx_export import quiet_libraries

GraphInputs = Mapping[str, NDArray[Any]]
"""Arrays by the name of the graph's input."""
LARGEST_FP16_VALUE = float(np.finfo(np.float16).max) / 8
"""A node with a larger input or output on the sample stays in fp32: on other images it may grow."""
QUANTIZABLE_OPERATORS = ("Conv", "MatMul", "Gemm")
"""Operators with int8 kernels."""


def to_fp16(graph: Path, out: Path, keep: Sequence[str], sample: GraphInputs | None = None) -> None:
    """Writes a graph of the same inputs and outputs, in the same types.

    Args:
        graph: fp32 ONNX, perhaps with int8 quantization in it.
        keep: names of nodes that stay in fp32.
        sample: inputs to find large values with; None: only large weights are found.

    Raises:
        BackendMissing: ModelOpt, or a package that its ONNX parts need, is not installed.
        ModelError: the graph cannot be converted or written.
    """
    with _quiet_modelopt(graph, "fp16"), tempfile.TemporaryDirectory(prefix="hoiclip-") as folder:
        import onnx
        from modelopt.onnx.autocast import convert_to_mixed_precision

        _require_plain_operators(graph)
        inputs = Path(folder, "sample.npz")
        if sample is not None:
            np.savez(inputs, allow_pickle=False, **sample)
        converted = convert_to_mixed_precision(
            str(graph),
            low_precision_type="fp16",
            nodes_to_exclude=_name_patterns(keep),
            keep_io_types=True,
            data_max=LARGEST_FP16_VALUE if sample is not None else np.inf,
            calibration_data=str(inputs) if sample is not None else None,
            providers=["cpu"],
        )
        onnx.save(converted, out)


def to_int8(
    graph: Path,
    out: Path,
    keep: Sequence[str],
    calibration: Iterable[GraphInputs],
    high: Literal["fp32", "fp16"],
    fp32: Sequence[str] = (),
) -> None:
    """Writes a graph of the same inputs and outputs, in the same types, with explicit quantization in it.

    Args:
        graph: fp32 ONNX.
        keep: names of nodes that stay in the high precision.
        calibration: inputs to find ranges with; read once.
        high: precision of everything that is not quantized.
        fp32: where that is fp16, names of nodes that stay in fp32 all the same.

    Raises:
        BackendMissing: ModelOpt, or a package that its ONNX parts need, is not installed.
        ModelError: the graph cannot be quantized or written, or there is nothing to find ranges with.
    """
    samples = iter(calibration)
    first = next(samples, None)
    if first is None:
        raise ModelError(f"expected images to calibrate {graph} with, found none")
    with _quiet_modelopt(graph, "int8"), tempfile.TemporaryDirectory(prefix="hoiclip-") as folder:
        import onnx
        from modelopt.onnx.quantization import quantize

        _require_plain_operators(graph)
        layers = _quantizable_layers(graph, keep)
        if not layers:  # ModelOpt would quantize all layers
            raise ModelError(f"nothing in {graph} may be quantized; the policy keeps all of it")
        quantized = Path(folder, "quantized.onnx")  # ModelOpt makes more files beside it on the way
        quantize(
            str(graph),
            quantize_mode="int8",
            calibration_method="max",
            calibration_data_reader=_calibration_reader(first, samples),
            calibration_eps=["cpu"],
            op_types_to_quantize=list(QUANTIZABLE_OPERATORS),
            nodes_to_quantize=_name_patterns(layers),
            disable_mha_qdq=True,
            enable_gemv_detection_for_trt=False,  # the policy decides, not the shapes of one sample
            high_precision_dtype="fp32",
            output_path=str(quantized),
            log_level="ERROR",
        )
        model = onnx.load(quantized)
        _restrict_quantization(layers, model.graph)
        onnx.save(model, out if high == "fp32" else quantized)
        if high == "fp16":
            to_fp16(quantized, out, fp32, first)


@contextlib.contextmanager
def _quiet_modelopt(graph: Path, precision: str) -> Iterator[None]:
    """Imports and runs ModelOpt quietly; every exception of it becomes one line."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("modelopt.onnx", "modelopt.onnx.autocast"))]
    for logger in loggers:
        logger.addFilter(drop)
    try:
        with quiet_libraries():
            yield
    except ImportError as error:
        missing = error.name
        raise BackendMissing(
            f"{precision} for TensorRT needs {missing}; pip install 'hoiclip[quantize-trt]'"
        ) from error
    except OSError as error:
        raise ModelError(f"{precision} of {graph} cannot be written: {error.strerror}; is the disk full?") from error
    except (BackendMissing, ModelError):
        raise
    except Exception as error:  # classes of ModelOpt, onnx, ONNX Runtime and numpy
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{graph} cannot be converted to {precision}: {first}; report it") from error
    finally:
        for logger in loggers:
            logger.removeFilter(drop)


def _name_patterns(names: Sequence[str]) -> list[str]:
    """ModelOpt takes regular expressions for the start of a name. One for all names: Python keeps few compiled."""
    return [f"(?:{'|'.join(map(re.escape, names))})$"] if names else []


def _require_plain_operators(graph: Path) -> None:
    """Raises ModelError: a node is of no ONNX operator, and ModelOpt would query TensorRT itself for its types."""
    import onnx

    foreign = {node.op_type for node in onnx.load(graph, load_external_data=False).graph.node if node.domain}
    if foreign:
        raise ModelError(
            f"expected plain operators in {graph}, found {', '.join(sorted(foreign))}; export with plain attention"
        )


def _quantizable_layers(graph: Path, keep: Sequence[str]) -> list[str]:
    """Names of the layers with weights that the policy allows to quantize."""
    import onnx

    content = onnx.load(graph, load_external_data=False).graph
    weights, kept = {tensor.name for tensor in content.initializer}, set(keep)
    return [
        node.name
        for node in content.node
        if node.op_type in QUANTIZABLE_OPERATORS and node.name not in kept and weights.intersection(node.input[:2])
    ]


def _restrict_quantization(layers: Sequence[str], graph: Any) -> None:
    """Gives rounded tensors to the named layers alone.

    ModelOpt gives a rounded tensor to all nodes that read it: a residual connection would lose the layer's addition.
    """
    exact = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    rounded = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    quantized = set(layers)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in rounded and node.name not in quantized:
                node.input[index] = exact[rounded[name]]


def _calibration_reader(first: GraphInputs, rest: Iterable[GraphInputs]) -> Any:
    """Reads samples for ModelOpt, which also takes the first sample alone."""
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
