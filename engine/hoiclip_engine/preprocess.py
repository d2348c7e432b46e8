"""Turns a picture into the model's two inputs, bit for bit like the official evaluation.

Both resizes are PIL's, because its antialiased uint8 filters are part of the trained model; the CLIP picture is cut
from the already resized detector picture. Normalising goes through a table of the 256 possible values, which is exactly
the official float32 arithmetic in one pass. Nothing here needs torch or keeps buffers: call it from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Size = tuple[int, int]
"""Height, width in pixels."""

DETECTOR_MEAN, DETECTOR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

_LONGEST_CLIP_SIDES = 16
"""A picture longer than this many crops is resized only where the crop is: 1 × 1333 px would become 224 × 298,592."""


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


def resized_hw(h: int, w: int, short_side: int, max_side: int) -> Size:
    """Height and width after the official resize.

    The long side is truncated, and may exceed `max_side` by the rounding of the short one. Where the short side would
    round to nothing (the official code fails there), it is 1 px and the long side `max_side`.

    Source: SPEC.md §1.
    """
    short, long = min(h, w), max(h, w)
    if long / short * short_side > max_side:
        short_side = round(max_side * short / long)
    if short_side == 0:
        return (1, max_side) if h < w else (max_side, 1)
    if short == short_side:
        return h, w
    if w < h:
        return int(short_side * h / w), short_side
    return short_side, int(short_side * w / h)


def canvas_for(h: int, w: int, config: PreprocessConfig, multiple: int = 32) -> Size:
    """The canvas for a stream whose first frame is h × w: the official size, each side rounded up to the multiple."""
    height, width = resized_hw(h, w, config.short_side_px, config.max_side_px)
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


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
    image_hw = _fitted(image_hw, canvas_hw)
    picture = Image.fromarray(rgb).resize((image_hw[1], image_hw[0]), Image.Resampling.BILINEAR)
    clip_picture = _clip_crop(picture, config.clip_side_px)

    mask_bhw = np.ones((1, *canvas_hw), np.bool_)
    mask_bhw[0, : image_hw[0], : image_hw[1]] = False
    return ModelInput(
        detector_bchw=_normalised(np.asarray(picture), _DETECTOR_TABLE, canvas_hw),
        mask_bhw=mask_bhw,
        clip_bchw=_normalised(np.asarray(clip_picture), _CLIP_TABLE, (config.clip_side_px, config.clip_side_px)),
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


def _fitted(image_hw: Size, canvas_hw: Size) -> Size:
    """`image_hw` if it fits into the canvas, else the largest size of that aspect ratio that does."""
    (h, w), (canvas_h, canvas_w) = image_hw, canvas_hw
    if h <= canvas_h and w <= canvas_w:
        return image_hw
    if h * canvas_w >= w * canvas_h:  # the height is what does not fit
        return canvas_h, max(1, w * canvas_h // h)
    return max(1, h * canvas_w // w), canvas_w


def _clip_crop(picture: Image.Image, side: int) -> Image.Image:
    """Short side to `side`, bicubic; then the middle square."""
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    long_after = int(side * long / short)
    offset = round((long_after - side) / 2)
    new_width, new_height = (side, long_after) if width < height else (long_after, side)
    left, top = (0, offset) if width < height else (offset, 0)
    if long_after <= _LONGEST_CLIP_SIDES * side:
        resized = picture if (width, height) == (new_width, new_height) else _bicubic(picture, new_width, new_height)
        return resized.crop((left, top, left + side, top + side))
    x_step, y_step = width / new_width, height / new_height
    box = (left * x_step, top * y_step, min(width, (left + side) * x_step), min(height, (top + side) * y_step))
    return _bicubic(picture, side, side, box)


def _bicubic(
    picture: Image.Image, width: int, height: int, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    return picture.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _table(mean: tuple[float, float, float], std: tuple[float, float, float]) -> F32:
    """(3, 256) normalised value of every byte, by the official order of float32 operations: /255, -mean, /std."""
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    table: F32 = (unit - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    return table


_DETECTOR_TABLE = _table(DETECTOR_MEAN, DETECTOR_STD)
_CLIP_TABLE = _table(CLIP_MEAN, CLIP_STD)


def _normalised(rgb: U8, table: F32, canvas_hw: Size) -> F32:
    """(1, 3, H, W) on a canvas of zeros."""
    height, width, _ = rgb.shape
    out = np.zeros((1, 3, *canvas_hw), np.float32)
    for channel, plane in enumerate(cv2.split(rgb)):
        out[0, channel, :height, :width] = cv2.LUT(plane, table[channel])
    return out
