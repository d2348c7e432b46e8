"""One frame to both inputs of the model, resized, normalised and padded. Meaning: reference.py; sizes: plan.py."""

from __future__ import annotations

import numpy as np

from hoiclip_kernels.dispatch import pick
from hoiclip_kernels.preprocess.nv12 import Nv12
from hoiclip_kernels.preprocess.plan import Plan
from hoiclip_kernels.preprocess.reference import U8, Inputs, example_inputs
from hoiclip_kernels.preprocess.yuv420 import Yuv420

__all__ = ["Inputs", "Nv12", "Plan", "Yuv420", "example_inputs", "preprocess"]


def preprocess(
    frame: U8 | Nv12 | Yuv420, plan: Plan, out: Inputs | None = None, *, implementation: str | None = None
) -> Inputs:
    """One frame as the model takes it; see reference.preprocess.

    Args:
        frame: (H, W, 3) uint8 RGB, NV12, or planes of the host, of the plan's source size. Tensors of a GPU are worked
            on there.
        out: where to write, contiguous; None makes new arrays.

    Raises:
        ValueError: the frame or `out` does not fit the plan.
    """
    _require_fit(frame, plan)
    pixels = frame.y_hw if isinstance(frame, (Nv12, Yuv420)) else frame
    on_host = isinstance(pixels, np.ndarray)
    module = pick("preprocess", implementation, "numba" if on_host else "triton")
    if out is None:
        out = Inputs.empty(plan) if on_host else module.empty(plan, pixels.device)
    elif tuple(one.shape for one in out) != ((3, *plan.padded_hw), plan.padded_hw, (3, plan.clip_side, plan.clip_side)):
        raise ValueError(f"expected arrays for {plan}, got {[tuple(one.shape) for one in out]}")
    module.preprocess(frame, plan, out)
    return out


def _require_fit(frame: U8 | Nv12 | Yuv420, plan: Plan) -> None:
    height, width = plan.source_hw
    half_hw = -(-height // 2), -(-width // 2)
    if isinstance(frame, Yuv420):
        shapes = tuple(tuple(plane.shape) for plane in frame.planes)
        if shapes != (plan.source_hw, half_hw, half_hw) or not all(map(_bytes, frame.planes)):
            raise ValueError(f"expected planes of a 4:2:0 frame {plan.source_hw} uint8, got {shapes}")
    elif isinstance(frame, Nv12):
        expected = ((height, width), (*half_hw, 2))
        found = (tuple(frame.y_hw.shape), tuple(frame.uv_hw2.shape))
        if found != expected or not (_bytes(frame.y_hw) and _bytes(frame.uv_hw2)):
            raise ValueError(f"expected NV12 planes {expected} uint8, got {found} {frame.y_hw.dtype}")
    elif tuple(frame.shape) != (height, width, 3) or not _bytes(frame):
        raise ValueError(f"expected an RGB image {(height, width, 3)} uint8, got {tuple(frame.shape)} {frame.dtype}")


def _bytes(pixels: U8) -> bool:
    return str(pixels.dtype).endswith("uint8")  # of numpy or of torch
