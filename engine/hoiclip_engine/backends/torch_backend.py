"""torch: in fp32 eager, the reference every other backend is compared with; in half precision one CUDA graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import UsageError
from hoiclip.model import HOICLIP
from hoiclip_engine.backends.capacity import ONE, Capacity
from hoiclip_engine.backends.torch_graph import GraphedModel
from hoiclip_engine.cpu import cpu_name
from hoiclip_engine.precision import Precision
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def library() -> str:
    return f"torch {torch.__version__}"


def device() -> str:
    """The GPU and its compute capability, or the CPU."""
    if not torch.cuda.is_available():
        return cpu_name()
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}"


def fast_precisions() -> tuple[Precision, ...]:
    return ("fp16", "bf16") if torch.cuda.is_available() else ()


def load(
    model: ModelFile, canvas_hw: tuple[int, int], precision: Precision, graph: Path | None, wanted: Capacity = ONE
) -> TorchBackend:
    return TorchBackend(model, canvas_hw, precision, wanted.batch)


class TorchBackend:
    def __init__(
        self, model: ModelFile, canvas_hw: tuple[int, int], precision: Precision = "fp32", batch: int = 1
    ) -> None:
        """On CUDA where there is one.

        Raises:
            UsageError: half precision without CUDA.
            ModelError: the file makes no model, or the precision cannot hold its weights.
        """
        self.name = "torch"
        self.canvas_hw, self.capacity = canvas_hw, Capacity(batch=batch)
        cuda = torch.cuda.is_available()
        if cuda:
            # The reference is fp32: TF32 convolutions keep 10 bits. Halves are multiplied, but summed in fp32.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        self._look: GraphedModel | EagerModel
        if precision == "fp32":
            self._look = EagerModel(model.build(), "cuda" if cuda else "cpu")
        elif cuda and precision in TYPES:
            self._look = GraphedModel(model.build(), canvas_hw, TYPES[precision], batch=batch)
        else:
            known = ", ".join(TYPES)
            raise UsageError(f"torch runs {known} on CUDA only, asked for {precision}; on a CPU take openvino")

    def __call__(self, model_input: ModelInput) -> RawOutput:
        return RawOutput(**self._look(model_input.detector_bchw, model_input.mask_bhw, model_input.clip_bchw))

    def close(self) -> None:
        del self._look


class EagerModel:
    """The module as it is."""

    def __init__(self, model: HOICLIP, device: str) -> None:
        self._device = device
        self._module = model.to(device)

    def __call__(self, *arrays: NDArray[np.generic]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            out = self._module(*(torch.from_numpy(array).to(self._device) for array in arrays))
        return {name: value.float().cpu().numpy() for name, value in out._asdict().items()}
