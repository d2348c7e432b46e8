"""torch: in fp32 eager, the reference every other backend is compared with; in half precision one CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hoiclip.core.errors import UsageError
from hoiclip.core.model_file import ModelFile
from hoiclip.core.preprocess import ModelInput
from hoiclip.core.raw_output import RawOutput
from hoiclip.model import HOICLIP
from hoiclip_engine.backends.base import SINGLE_IMAGE, Capacity, ClipView, Precision
from hoiclip_engine.backends.cpu import cpu_name
from hoiclip_engine.backends.torch_cuda_graph import GraphedModel, as_tensors
from hoiclip_kernels.dispatch import triton_runs
from hoiclip_kernels.preprocess import Nv12, Plan, preprocess

HALF_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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


def takes_device_frames() -> bool:
    """Whether its models take frames from a decoder on the GPU: preprocessing there is a kernel of Triton's."""
    return torch.cuda.is_available() and triton_runs()


def load(
    model: ModelFile,
    padded_hw: tuple[int, int],
    precision: Precision,
    graph: Path | None,
    capacity: Capacity = SINGLE_IMAGE,
) -> TorchBackend | ClipKeepingTorchBackend:
    if capacity.keeps_clip and precision == "fp32":
        return ClipKeepingTorchBackend(model, padded_hw)
    return TorchBackend(model, padded_hw, precision, capacity.batch)


class TorchBackend:
    def __init__(
        self, model: ModelFile, padded_hw: tuple[int, int], precision: Precision = "fp32", batch: int = 1
    ) -> None:
        """Runs on CUDA where it is available.

        Raises:
            UsageError: half precision without CUDA.
            ModelError: the file makes no model, or the precision cannot hold its weights.
        """
        self.name = "torch"
        self.padded_hw, self.capacity = padded_hw, Capacity(batch=batch)
        self.takes_device_frames = takes_device_frames()
        cuda = torch.cuda.is_available()
        if cuda:
            # The reference is fp32: TF32 convolutions keep 10 bits. Halves are multiplied, but summed in fp32.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        self._model: GraphedModel | EagerModel
        if precision == "fp32":
            self._model = EagerModel(model.build(), "cuda" if cuda else "cpu")
        elif cuda and precision in HALF_DTYPES:
            self._model = GraphedModel(model.build(), padded_hw, HALF_DTYPES[precision], batch=batch)
        else:
            known = ", ".join(HALF_DTYPES)
            raise UsageError(f"torch runs {known} on CUDA only, asked for {precision}; on a CPU take openvino")

    def __call__(self, model_input: ModelInput) -> RawOutput:
        return RawOutput(**self._model(model_input.detector_bchw, model_input.mask_bhw, model_input.clip_bchw))

    def infer_frames(self, frames: Sequence[Nv12], plans: Sequence[Plan]) -> RawOutput:
        """See DeviceBackend."""
        return RawOutput(**self._model.infer_frames(frames, plans))

    def close(self) -> None:
        del self._model


class ClipKeepingTorchBackend:
    """Eager in fp32, part by part."""

    def __init__(self, model: ModelFile, padded_hw: tuple[int, int]) -> None:
        self.name = "torch"
        self.padded_hw, self.capacity = padded_hw, Capacity(keeps_clip=True)
        self._module = model.build().to("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, model_input: ModelInput) -> RawOutput:
        return self.infer(model_input, self.view(model_input))

    def view(self, model_input: ModelInput) -> ClipView:
        with torch.inference_mode():
            tokens, cls = self._module.view(self._tensor(model_input.clip_bchw))
        return {"clip_tokens": tokens.cpu().numpy(), "clip_cls": cls.cpu().numpy()}

    def infer(self, model_input: ModelInput, view: ClipView) -> RawOutput:
        with torch.inference_mode():
            detected = self._module.detect(
                self._tensor(model_input.detector_bchw), self._tensor(model_input.mask_bhw)
            )._asdict()
            pairs, memory, hidden_cells = (detected.pop(name) for name in ("pairs", "memory", "hidden_cells"))
            hoi_logits = self._module.interact(pairs, memory, hidden_cells, self._tensor(view["clip_tokens"]))
        found = {name: value.cpu().numpy() for name, value in detected.items()}
        return RawOutput(hoi_logits=hoi_logits.cpu().numpy(), clip_cls=view["clip_cls"], **found)

    def close(self) -> None:
        del self._module

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(next(self._module.parameters()).device)


class EagerModel:
    """The module as it is."""

    def __init__(self, model: HOICLIP, device: str) -> None:
        self._device = torch.zeros(0, device=device).device  # with its index
        self._module = model.to(device)

    def __call__(self, *arrays: NDArray[np.generic]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            return self._answer([torch.from_numpy(array).to(self._device) for array in arrays])

    def infer_frames(self, frames: Sequence[Nv12], plans: Sequence[Plan]) -> dict[str, NDArray[np.float32]]:
        """See DeviceBackend. All of it runs on the default stream, as the decoder's copies do."""
        with torch.inference_mode():
            inputs: list[Any] = [
                preprocess(as_tensors(frame, self._device), plan) for frame, plan in zip(frames, plans, strict=True)
            ]
            return self._answer([torch.stack(images) for images in zip(*inputs, strict=True)])

    def _answer(self, inputs: list[Tensor]) -> dict[str, NDArray[np.float32]]:
        out = self._module(*inputs)
        return {name: value.float().cpu().numpy() for name, value in out._asdict().items()}
