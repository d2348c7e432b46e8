"""Eager torch, fp32: the reference every other backend is compared with; on CUDA where there is one."""

from __future__ import annotations

import torch

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput


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
