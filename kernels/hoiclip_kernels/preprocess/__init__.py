"""One frame to both inputs of the model, resized, normalised and padded. Meaning: reference.py; sizes: plan.py."""

from __future__ import annotations

from hoiclip_kernels.dispatch import pick
from hoiclip_kernels.preprocess.nv12 import Nv12
from hoiclip_kernels.preprocess.plan import Plan
from hoiclip_kernels.preprocess.reference import U8, Inputs, example_inputs

__all__ = ["Inputs", "Nv12", "Plan", "example_inputs", "preprocess"]


def preprocess(frame: U8 | Nv12, plan: Plan, out: Inputs | None = None, *, implementation: str | None = None) -> Inputs:
    """One frame as the model takes it; see reference.preprocess.

    Args:
        frame: (H, W, 3) uint8 RGB, or NV12, of the plan's source size.
        out: where to write; None makes new arrays.

    Raises:
        ValueError: the frame or `out` does not fit the plan.
    """
    _require_fit(frame, plan)
    if out is None:
        out = Inputs.empty(plan)
    elif tuple(one.shape for one in out) != tuple(one.shape for one in Inputs.empty(plan)):
        raise ValueError(f"expected arrays for {plan}, got {[one.shape for one in out]}")
    pick("preprocess", implementation, "numba").preprocess(frame, plan, out)
    return out


def _require_fit(frame: U8 | Nv12, plan: Plan) -> None:
    height, width = plan.source_hw
    if isinstance(frame, Nv12):
        expected = ((height, width), (-(-height // 2), -(-width // 2), 2))
        found = (frame.y_hw.shape, frame.uv_hw2.shape)
        if found != expected or frame.y_hw.dtype != "uint8" or frame.uv_hw2.dtype != "uint8":
            raise ValueError(f"expected NV12 planes {expected} uint8, got {found} {frame.y_hw.dtype}")
    elif frame.shape != (height, width, 3) or frame.dtype != "uint8":
        raise ValueError(f"expected an RGB picture {(height, width, 3)} uint8, got {frame.shape} {frame.dtype}")
