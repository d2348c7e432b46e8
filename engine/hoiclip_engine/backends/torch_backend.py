"""Eager torch, fp32: the reference every other backend is compared with; on CUDA where there is one."""

from __future__ import annotations

from pathlib import Path

import torch

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip_engine.cpu import cpu_name
from hoiclip_engine.precision import Precision
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput


def library() -> str:
    return f"torch {torch.__version__}"


def device() -> str:
    """The GPU and its compute capability, or the CPU."""
    if not torch.cuda.is_available():
        return cpu_name()
    return (
        f"{torch.cuda.get_device_name()}, compute capability {'.'.join(map(str, torch.cuda.get_device_capability()))}"
    )


def fast_precisions() -> tuple[Precision, ...]:
    return ("fp16", "bf16") if torch.cuda.is_available() else ()


def load(model: ModelFile, canvas_hw: tuple[int, int], precision: Precision, graph: Path | None) -> TorchBackend:
    return TorchBackend(model, canvas_hw)


class TorchBackend:
    def __init__(self, model: ModelFile, canvas_hw: tuple[int, int]) -> None:
        self.name = "torch"
        self.canvas_hw = canvas_hw
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # the reference is fp32; TF32 convolutions keep 10 bits
        self._module = model.build().to(self._device)

    def __call__(self, model_input: ModelInput) -> RawOutput:
        arrays = (model_input.detector_bchw, model_input.mask_bhw, model_input.clip_bchw)
        with torch.inference_mode():
            out = self._module(*(torch.from_numpy(array).to(self._device) for array in arrays))
        return RawOutput(**{name: value.float().cpu().numpy() for name, value in out._asdict().items()})

    def close(self) -> None:
        del self._module
