"""ONNX Runtime on the CPU, fp32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnxruntime

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import ModelFile
from hoiclip.core.preprocess import ModelInput
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import SINGLE_IMAGE, Capacity, Precision
from hoiclip_engine.backends.cpu import cpu_count, cpu_name
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.export.graph_spec import MODEL_OUTPUTS


def library() -> str:
    return f"onnxruntime {onnxruntime.__version__}"


def device() -> str:
    return cpu_name()


def fast_precisions() -> tuple[Precision, ...]:
    """None: static int8 on the CPU is slower than OpenVINO's fp32 (benchmarks)."""
    return ()


def load(
    model: ModelFile,
    padded_hw: tuple[int, int],
    precision: Precision,
    graph: Path | None,
    capacity: Capacity = SINGLE_IMAGE,
) -> OnnxRuntimeBackend:
    if precision != "fp32":
        raise ModelError(
            f"onnxruntime computes in fp32, asked for {precision}; on x86 take openvino, which has faster precisions"
        )
    return OnnxRuntimeBackend(model, padded_hw, capacity)


class OnnxRuntimeBackend:
    def __init__(self, model: ModelFile, padded_hw: tuple[int, int], capacity: Capacity = SINGLE_IMAGE) -> None:
        self.name = "onnxruntime"
        self.padded_hw, self.capacity = padded_hw, replace(capacity, keeps_clip=False)
        graph = exported_graph(model, padded_hw, capacity.batch)
        options = onnxruntime.SessionOptions()
        if capacity.num_requests > 1:
            options.intra_op_num_threads = max(1, cpu_count() // capacity.num_requests)
        options.log_severity_level = 3  # errors only: its warnings speak of graph details
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # pybind exceptions of its own module
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"ONNX Runtime cannot load {graph}: {first}; delete that folder to export again"
            ) from error

    def __call__(self, model_input: ModelInput) -> RawOutput:
        outputs = self._session.run(
            MODEL_OUTPUTS,
            model_input.arrays(),
        )
        return RawOutput(**dict(zip(MODEL_OUTPUTS, outputs, strict=True)))

    def close(self) -> None:
        del self._session
