"""Words on dark, half transparent chips, readable on any background; with a stripe in a colour, or all in grey."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hoiclip_engine.sinks.label_layout import Rect

RGB = NDArray[np.uint8]
Color = tuple[int, int, int]

SMALLEST_FONT_PX = 6
_GROUND, _OPACITY = (20, 20, 24), 0.72
_GREY = (210, 210, 214)


@dataclass(frozen=True, slots=True)
class Chip:
    """An image with its own transparency: pixel = keep · pixel + add. Shared and read-only."""

    keep: NDArray[np.float32]
    add: NDArray[np.float32]
    """(H, W, 3) both, although all channels keep as much: numpy is three times as fast without broadcasting."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.keep.shape[1], self.keep.shape[0]

    def paint(self, rgb: RGB, place: Rect) -> None:
        """Over the frame, at a place of its size."""
        rows, columns = slice(int(place.y1), int(place.y2)), slice(int(place.x1), int(place.x2))
        rgb[rows, columns] = rgb[rows, columns] * self.keep + self.add


@lru_cache(maxsize=512)
def fitting_chip(text: str, font_px: int, stripe: Color | None, frame_px: tuple[int, int]) -> Chip:
    """A chip that is no bigger than the frame (width, height): in a smaller font, and cut off where that is not enough.

    Args:
        stripe: colour at its left edge; None: none, and grey words.
    """
    width, height = frame_px
    made = _chip(text, font_px, stripe)
    if made.size_px[0] > width and font_px > SMALLEST_FONT_PX:
        made = _chip(text, max(SMALLEST_FONT_PX, int(font_px * width / made.size_px[0])), stripe)
    return Chip(made.keep[:height, :width], made.add[:height, :width])


def _chip(text: str, font_px: int, stripe: Color | None) -> Chip:
    stripe_px = 0 if stripe is None else max(2, font_px // 4)
    ink = _ink(text, font_px, stripe_px)
    shape = _rounded_mask(ink.shape[1], ink.shape[0], max(2, font_px // 4))
    opacity = _OPACITY * shape
    add = opacity[..., None] * np.array(_GROUND, np.float32)
    words = np.array(_GREY if stripe is None else (255, 255, 255), np.float32)
    add += ink[..., None] * (words - add)
    keep = ((1 - opacity) * (1 - ink))[..., None]
    if stripe is not None:
        add[:, :stripe_px] = shape[:, :stripe_px, None] * np.array(stripe, np.float32)
        keep[:, :stripe_px] = 1 - shape[:, :stripe_px, None]
    add += 0.5  # so that cutting the fraction off rounds
    return Chip(np.repeat(keep, 3, axis=2), np.minimum(add, 255))


def _ink(text: str, font_px: int, stripe_px: int) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: how much text covers each pixel of a chip with its margins."""
    font = _font(font_px)
    left, top, right, _ = font.getbbox(text)
    # The height is that of a line, not of this text, so that labels beside each other stand level.
    ascent, descent = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (font_px, 0)
    margin_px = max(2, font_px // 3)
    size = int(right - left) + 2 * margin_px + stripe_px, ascent + descent + margin_px
    image = Image.new("L", size, 0)
    at = (margin_px + stripe_px - left, margin_px // 2 - min(0, top))
    ImageDraw.Draw(image).text(at, text, fill=255, font=font)
    covered: NDArray[np.float32] = np.asarray(image, np.float32) / np.float32(255)
    return covered


def _rounded_mask(width: int, height: int, radius: int) -> NDArray[np.float32]:
    """(H, W) 1 inside of rounded corners, 0 outside."""
    image = Image.new("L", (4 * width, 4 * height), 0)
    ImageDraw.Draw(image).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), 4 * radius, fill=255)
    image = image.resize((width, height), Image.Resampling.BOX)
    covered: NDArray[np.float32] = np.asarray(image, np.float32) / np.float32(255)
    return covered


@lru_cache(maxsize=32)
def _font(font_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(font_px)
