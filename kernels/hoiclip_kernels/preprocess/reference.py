"""preprocess with PIL and OpenCV: the meaning, as the official code makes the two images a model sees.

Both resizes are PIL's, because its antialiased uint8 filters are part of the trained model; the CLIP image is cut
from the already resized (or augmented) detector image. Normalising goes through a table of the 256 possible values,
which is exactly the official float32 arithmetic in one pass. Nothing here needs torch or keeps buffers.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hoiclip_kernels.preprocess.nv12 import Nv12, coloured, factors, rgb_of
from hoiclip_kernels.preprocess.plan import Plan, Size, clip_cut
from hoiclip_kernels.preprocess.yuv420 import Yuv420

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

DETECTOR_MEAN, DETECTOR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Inputs(NamedTuple):
    """One frame as the model takes it."""

    detector_chw: F32
    """(3, padded height, padded width) normalised, zero on the padding."""
    mask_hw: Bool
    """(padded height, padded width) True on the padding."""
    clip_chw: F32
    """(3, S, S) normalised."""

    @staticmethod
    def empty(plan: Plan) -> Inputs:
        """Buffers to write into; what they hold is undefined."""
        return Inputs(
            np.empty((3, *plan.padded_hw), np.float32),
            np.empty(plan.padded_hw, np.bool_),
            np.empty((3, plan.clip_side, plan.clip_side), np.float32),
        )


def preprocess(frame: U8 | Nv12 | Yuv420, plan: Plan, out: Inputs) -> None:
    """Fills both inputs of the model, and the mask, with one frame.

    Args:
        frame: (H, W, 3) RGB, NV12, or planes, of plan.source_hw.
        out: arrays of the plan's sizes; every element is written.

    Source: docs/model.md, Inputs.
    """
    height, width = plan.image_hw
    if isinstance(frame, Yuv420):
        image = _coloured_last(frame, (width, height))
    else:
        rgb = rgb_of(frame) if isinstance(frame, Nv12) else frame
        image = _resized(Image.fromarray(rgb), (width, height), Image.Resampling.BILINEAR)
    out.detector_chw[...] = normalised(np.asarray(image), DETECTOR_TABLE, plan.padded_hw)
    out.mask_hw[...] = True
    out.mask_hw[:height, :width] = False
    out.clip_chw[...] = normalised(np.asarray(clip_crop(image, plan.clip_side)), CLIP_TABLE)


def clip_crop(image: Image.Image, side: int) -> Image.Image:
    """Short side to `side`, bicubic; then the middle square."""
    cut = clip_cut((image.height, image.width), side)
    resized = _resized(image, cut.resized_hw[::-1], Image.Resampling.BICUBIC, cut.box_xyxy)
    return resized.crop((cut.left, cut.top, cut.left + side, cut.top + side))


def _coloured_last(frame: Yuv420, size: tuple[int, int]) -> Image.Image:
    """Each plane in the size of the model's image, first down, then across; then their colours."""

    def resized(pixels: U8) -> U8:
        plane = Image.fromarray(pixels)
        down = plane.resize((plane.width, size[1]), Image.Resampling.BILINEAR)
        return np.asarray(down.resize(size, Image.Resampling.BILINEAR))

    colours = factors(frame.matrix, frame.full_range)
    return Image.fromarray(coloured(resized(frame.y_hw), resized(frame.u_hw), resized(frame.v_hw), colours))


def _resized(
    image: Image.Image,
    size: tuple[int, int],
    kind: Image.Resampling,
    box_xyxy: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """First across, then down: PIL's own order until Pillow 13, which takes the other where the height shrinks most."""
    left, top, right, bottom = box_xyxy or (0, 0, *image.size)
    across = image.resize((size[0], image.height), kind, (left, 0, right, image.height))
    return across.resize(size, kind, (0, top, size[0], bottom))


def _table(mean: tuple[float, float, float], std: tuple[float, float, float]) -> F32:
    """(3, 256) normalised value of every byte, by the official order of float32 operations: /255, -mean, /std."""
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    table: F32 = (unit - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    return table


DETECTOR_TABLE = _table(DETECTOR_MEAN, DETECTOR_STD)
CLIP_TABLE = _table(CLIP_MEAN, CLIP_STD)


def normalised(rgb: U8, table: F32, padded_hw: Size | None = None) -> F32:
    """(3, H, W) by one of the two tables; padded with zeros right and below, if a padded size is given."""
    height, width, _ = rgb.shape
    out = np.zeros((3, *(padded_hw or (height, width))), np.float32)
    for channel, plane in enumerate(cv2.split(rgb)):
        out[channel, :height, :width] = cv2.LUT(plane, table[channel])
    return out


def example_inputs(source_hw: Size, plan: Plan | None = None, nv12: bool = False, seed: int | None = 0) -> U8 | Nv12:
    """A frame of noise over a slope, so that both ends of the range and all steps between occur."""
    rng = np.random.default_rng(seed)
    height, width = source_hw
    slope = np.linspace(0, 255, width)[None, :, None] + rng.normal(0, 60, (height, width, 3))
    rgb = np.clip(slope, 0, 255).astype(np.uint8)
    if not nv12:
        return rgb
    half = rng.integers(0, 256, (-(-height // 2), -(-width // 2), 2), dtype=np.uint8)
    return Nv12(np.ascontiguousarray(rgb[..., 0]), half)
