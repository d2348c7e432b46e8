"""Turns a picture into the model's two inputs, bit for bit like the official evaluation.

How the two pictures are made is the operator `preprocess` of hoiclip_kernels, whose reference training shares; here
they get their sizes and become a batch. Nothing here needs torch or keeps buffers: call it from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hoiclip_kernels.preprocess as kernel
from hoiclip_engine.graph_form import SMALLEST_CELLS
from hoiclip_kernels.preprocess.plan import Size, fitted, resized_hw
from hoiclip_kernels.preprocess.reference import F32, U8


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessConfig:
    """Sizes of the two inputs."""

    short_side_px: int = 800
    """Short side of the detector picture."""
    max_side_px: int = 1333
    """Where the long side would exceed this, the short side shrinks."""
    clip_side_px: int = 224
    """Both sides of the CLIP picture."""
    canvas_hw: Size | None = None
    """Fixed height and width that the detector picture is padded to; None: as large as the picture."""

    def __post_init__(self) -> None:
        sides = (self.short_side_px, self.max_side_px, self.clip_side_px, *(self.canvas_hw or ()))
        if min(sides) < 1:
            raise ValueError(f"sides must be at least 1 px, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """B pictures as the model takes them."""

    detector_bchw: F32
    """(B, 3, H, W) normalised, zero on the padding (right and bottom)."""
    mask_bhw: NDArray[np.bool_]
    """(B, H, W) True on the padding."""
    clip_bchw: F32
    """(B, 3, S, S) normalised."""
    image_hw: tuple[Size, ...]
    """B sizes without the padding."""
    original_hw: tuple[Size, ...]
    """B sizes before resizing: what boxes are scaled to."""

    def __len__(self) -> int:
        return int(self.detector_bchw.shape[0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By the names of an exported graph's inputs."""
        return {"images": self.detector_bchw, "padding": self.mask_bhw, "clip_images": self.clip_bchw}


def canvas_for(h: int, w: int, config: PreprocessConfig, multiple: int = 32) -> Size:
    """The canvas for a stream whose first frame is h × w: the official size, each side rounded up to the multiple.

    At least as many multiples as an exported graph needs cells.
    """
    height, width = resized_hw(h, w, config.short_side_px, config.max_side_px)
    rows, columns = (max(-(-side // multiple), SMALLEST_CELLS) for side in (height, width))
    return rows * multiple, columns * multiple


def preprocess(rgb: U8, config: PreprocessConfig) -> ModelInput:
    """One picture as a batch of one; new arrays each time.

    With a canvas the picture keeps the official size if that fits. Otherwise it is as large as fits into the canvas
    with the same aspect ratio, its other side truncated, but at least 1 px.

    Args:
        rgb: (H, W, 3) uint8.

    Raises:
        ValueError: not a picture of that form.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"expected an RGB picture (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    original_hw = (int(rgb.shape[0]), int(rgb.shape[1]))
    image_hw = resized_hw(*original_hw, config.short_side_px, config.max_side_px)
    canvas_hw = config.canvas_hw or image_hw
    image_hw = fitted(image_hw, canvas_hw)
    made = kernel.preprocess(rgb, kernel.Plan(original_hw, image_hw, canvas_hw, config.clip_side_px))
    return ModelInput(
        detector_bchw=made.detector_chw[None],
        mask_bhw=made.mask_hw[None],
        clip_bchw=made.clip_chw[None],
        image_hw=(image_hw,),
        original_hw=(original_hw,),
    )


def stack(inputs: Sequence[ModelInput]) -> ModelInput:
    """One batch of all, padded right and bottom to the largest canvas among them.

    Raises:
        ValueError: nothing to stack, or CLIP pictures of different sizes.
    """
    if not inputs:
        raise ValueError("expected at least one ModelInput to stack, got none")
    if len(inputs) == 1:
        return inputs[0]
    if len({one.clip_bchw.shape[1:] for one in inputs}) > 1:
        raise ValueError(f"expected CLIP pictures of one size, got {[one.clip_bchw.shape for one in inputs]}")
    count = sum(map(len, inputs))
    height = max(one.mask_bhw.shape[1] for one in inputs)
    width = max(one.mask_bhw.shape[2] for one in inputs)
    detector_bchw = np.zeros((count, 3, height, width), np.float32)
    mask_bhw = np.ones((count, height, width), np.bool_)
    start = 0
    for one in inputs:
        stop = start + len(one)
        _, h, w = one.mask_bhw.shape
        detector_bchw[start:stop, :, :h, :w] = one.detector_bchw
        mask_bhw[start:stop, :h, :w] = one.mask_bhw
        start = stop
    return ModelInput(
        detector_bchw=detector_bchw,
        mask_bhw=mask_bhw,
        clip_bchw=np.concatenate([one.clip_bchw for one in inputs]),
        image_hw=tuple(size for one in inputs for size in one.image_hw),
        original_hw=tuple(size for one in inputs for size in one.original_hw),
    )
