"""Turns an image into the model's two inputs, bit for bit like the official evaluation.

The operator `preprocess` of hoiclip_kernels, whose reference training uses too, computes the pixels; here the images
get their sizes and become a batch. Nothing here needs torch or keeps buffers: call it from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import hoiclip_kernels.preprocess as kernel
from hoiclip.core.array_types import F32, U8
from hoiclip_kernels.preprocess.plan import Size, fitted, resized_hw

if TYPE_CHECKING:
    from hoiclip.model.config import ModelConfig

SMALLEST_CELLS = 2
"""Cells per side of the smallest padded size: the exporter would take a size of one for a constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessConfig:
    """Sizes of the two model inputs."""

    short_side_px: int = 800
    """Short side of the detector image."""
    max_side_px: int = 1333
    """Limit of the long side; the short side shrinks where it would be exceeded."""
    clip_side_px: int = 224
    """Both sides of the CLIP image."""
    padded_hw: Size | None = None
    """Fixed height and width that the detector image is padded to; None: as large as the image."""

    @staticmethod
    def for_model(model: ModelConfig, padded_hw: Size | None = None) -> PreprocessConfig:
        """The sizes that a model was trained with."""
        return PreprocessConfig(
            short_side_px=model.short_side_px,
            max_side_px=model.max_side_px,
            clip_side_px=model.clip_image_px,
            padded_hw=padded_hw,
        )

    def __post_init__(self) -> None:
        sides = (self.short_side_px, self.max_side_px, self.clip_side_px, *(self.padded_hw or ()))
        if min(sides) < 1:
            raise ValueError(f"sides must be at least 1 px, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """B preprocessed images."""

    detector_bchw: F32
    """(B, 3, H, W) normalised, zero on the padding (right and bottom)."""
    mask_bhw: NDArray[np.bool_]
    """(B, H, W) True on the padding."""
    clip_bchw: F32
    """(B, 3, S, S) normalised."""
    image_hw: tuple[Size, ...]
    """B sizes without the padding."""
    original_hw: tuple[Size, ...]
    """B sizes before resizing, which boxes are scaled to."""

    def __len__(self) -> int:
        return int(self.detector_bchw.shape[0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By the names of an exported graph's inputs."""
        return {"images": self.detector_bchw, "padding": self.mask_bhw, "clip_images": self.clip_bchw}


def padded_size_for(h: int, w: int, config: PreprocessConfig, multiple: int) -> Size:
    """Padded size of a stream whose first frame is h × w: the official size, each side rounded up to the multiple.

    At least as many multiples as an exported graph needs cells.
    """
    height, width = resized_hw(h, w, config.short_side_px, config.max_side_px)
    rows, columns = (max(-(-side // multiple), SMALLEST_CELLS) for side in (height, width))
    return rows * multiple, columns * multiple


def plan_for(original_hw: Size, config: PreprocessConfig) -> kernel.Plan:
    """Sizes of an image on its way into the model.

    With a padded size the image keeps the official size if that fits. Otherwise it is as large as fits with the same
    aspect ratio, its other side truncated, but at least 1 px.
    """
    image_hw = resized_hw(*original_hw, config.short_side_px, config.max_side_px)
    padded_hw = config.padded_hw or image_hw
    return kernel.Plan(original_hw, fitted(image_hw, padded_hw), padded_hw, config.clip_side_px)


def preprocess(image: U8 | kernel.Yuv420, config: PreprocessConfig) -> ModelInput:
    """One image as a batch of one, sized by plan_for; new arrays each time.

    Args:
        image: (H, W, 3) uint8 RGB, by the official rules; or the planes of a video's frame, whose colours are those of
            RGB but for rounding.

    Raises:
        ValueError: not an image of that form.
    """
    pixels = image.y_hw if isinstance(image, kernel.Yuv420) else image
    if isinstance(image, np.ndarray) and (image.shape[2:] != (3,) or image.dtype != np.uint8 or 0 in image.shape):
        raise ValueError(f"expected an RGB image (H, W, 3) uint8, got {image.shape} {image.dtype}")
    plan = plan_for((int(pixels.shape[0]), int(pixels.shape[1])), config)
    made = kernel.preprocess(image, plan)
    return ModelInput(
        detector_bchw=made.detector_chw[None],
        mask_bhw=made.mask_hw[None],
        clip_bchw=made.clip_chw[None],
        image_hw=(plan.image_hw,),
        original_hw=(plan.source_hw,),
    )


def stack(inputs: Sequence[ModelInput]) -> ModelInput:
    """One batch of all, padded right and bottom to the largest size among them.

    Raises:
        ValueError: nothing to stack, or CLIP images of different sizes.
    """
    if not inputs:
        raise ValueError("expected at least one ModelInput to stack, got none")
    if len(inputs) == 1:
        return inputs[0]
    if len({model_input.clip_bchw.shape[1:] for model_input in inputs}) > 1:
        raise ValueError(
            f"expected CLIP images of one size, got {[model_input.clip_bchw.shape for model_input in inputs]}"
        )
    count = sum(map(len, inputs))
    height = max(model_input.mask_bhw.shape[1] for model_input in inputs)
    width = max(model_input.mask_bhw.shape[2] for model_input in inputs)
    detector_bchw = np.zeros((count, 3, height, width), np.float32)
    mask_bhw = np.ones((count, height, width), np.bool_)
    start = 0
    for model_input in inputs:
        stop = start + len(model_input)
        _, h, w = model_input.mask_bhw.shape
        detector_bchw[start:stop, :, :h, :w] = model_input.detector_bchw
        mask_bhw[start:stop, :h, :w] = model_input.mask_bhw
        start = stop
    return ModelInput(
        detector_bchw=detector_bchw,
        mask_bhw=mask_bhw,
        clip_bchw=np.concatenate([model_input.clip_bchw for model_input in inputs]),
        image_hw=tuple(size for model_input in inputs for size in model_input.image_hw),
        original_hw=tuple(size for model_input in inputs for size in model_input.original_hw),
    )
