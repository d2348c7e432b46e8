"""ONNX Runtime on the CPU, fp32."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import ModelError
from hoiclip_engine.backends.capacity import ONE, Capacity
from hoiclip_engine.cpu import cpu_count, cpu_name
from hoiclip_engine.export import OUTPUTS, exported_graph
from hoiclip_engine.precision import Precision
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput


def library() -> str:
    return f"onnxruntime {onnxruntime.__version__}"


def device() -> str:
    return cpu_name()


def fast_precisions() -> tuple[Precision, ...]:
    """Static 8 bits on the CPU are slower than OpenVINO's fp32 (README, benchmarks)."""
    return ()


def load(
    model: ModelFile, canvas_hw: tuple[int, int], precision: Precision, graph: Path | None, wanted: Capacity = ONE
) -> OnnxRuntimeBackend:
    if precision != "fp32":
        raise ModelError(f"onnxruntime computes in fp32, asked for {precision}; on x86 openvino is faster in less")
    return OnnxRuntimeBackend(model, canvas_hw, wanted)


class OnnxRuntimeBackend:
    def __init__(self, model: ModelFile, canvas_hw: tuple[int, int], capacity: Capacity = ONE) -> None:
        self.name = "onnxruntime"
        self.canvas_hw, self.capacity = canvas_hw, capacity
        graph = exported_graph(model, canvas_hw, capacity.batch)
        options = onnxruntime.SessionOptions()
        if capacity.lanes > 1:
            options.intra_op_num_threads = max(1, cpu_count() // capacity.lanes)
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
            OUTPUTS,
            model_input.arrays(),
        )
        return RawOutput(**dict(zip(OUTPUTS, outputs, strict=True)))

    def close(self) -> None:
        del self._session
