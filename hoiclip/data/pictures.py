"""The two pictures a model sees, as the official code makes them; the runtime and the data sets share these functions.

Both resizes are PIL's, because its antialiased uint8 filters are part of the trained model; the CLIP picture is cut
from the already resized (or augmented) detector picture. Normalising goes through a table of the 256 possible values,
which is exactly the official float32 arithmetic in one pass. Nothing here needs torch or keeps buffers.
"""

from __future__ import annotations

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


def clip_crop(picture: Image.Image, side: int) -> Image.Image:
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


DETECTOR_TABLE = _table(DETECTOR_MEAN, DETECTOR_STD)
CLIP_TABLE = _table(CLIP_MEAN, CLIP_STD)


def normalised(rgb: U8, table: F32, canvas_hw: Size | None = None) -> F32:
    """(3, H, W) by one of the two tables; on a canvas of zeros, if there is one, in its top left corner."""
    height, width, _ = rgb.shape
    out = np.zeros((3, *(canvas_hw or (height, width))), np.float32)
    for channel, plane in enumerate(cv2.split(rgb)):
        out[channel, :height, :width] = cv2.LUT(plane, table[channel])
    return out
