"""NV12 frames, as hardware decoders give them, and their colours in integers, so that every implementation agrees."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
Matrix = Literal["bt601", "bt709", "bt2020"]
SHIFT = 16
"""Fraction bits of the factors."""
RED_BLUE: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""Weights of red and blue in brightness."""


class Nv12(NamedTuple):
    """A frame of brightness and half-size colour."""

    y_hw: U8
    """(H, W)"""
    uv_hw2: U8
    """(H / 2, W / 2, 2) rounded up; each belongs to 2 × 2 pixels."""
    matrix: Matrix = "bt709"
    full_range: bool = False
    """Whether bytes use 0..255; video usually keeps to 16..235."""


class Factors(NamedTuple):
    """red = (y·Y + v·red + half) >> SHIFT and so on, of Y without its offset and of u, v without 128."""

    offset: int
    y: int
    v_red: int
    u_green: int
    v_green: int
    u_blue: int


@lru_cache(maxsize=8)
def factors(matrix: Matrix, full_range: bool) -> Factors:
    """Integer factors of a colour matrix.

    Source: ITU-R BT.601, BT.709 and BT.2020: Kr, Kb, and the ranges 16..235 and 16..240.
    """
    red, blue = RED_BLUE[matrix]
    green = 1 - red - blue
    y_scale, c_scale = (1.0, 1.0) if full_range else (255 / 219, 255 / 224)
    return Factors(
        offset=0 if full_range else 16,
        y=_fixed(y_scale),
        v_red=_fixed(c_scale * 2 * (1 - red)),
        u_green=_fixed(-c_scale * 2 * (1 - blue) * blue / green),
        v_green=_fixed(-c_scale * 2 * (1 - red) * red / green),
        u_blue=_fixed(c_scale * 2 * (1 - blue)),
    )


def _fixed(value: float) -> int:
    return round(value * (1 << SHIFT))


def rgb_of(frame: Nv12) -> U8:
    """(H, W, 3) RGB; colours are repeated, not interpolated, as fast video converters do."""
    height, width = frame.y_hw.shape
    uv = frame.uv_hw2.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return coloured(frame.y_hw, uv[..., 0], uv[..., 1], factors(frame.matrix, frame.full_range))


def coloured(y_hw: U8, u_hw: U8, v_hw: U8, f: Factors) -> U8:
    """(H, W, 3) RGB of three planes of one size."""
    y = f.y * (y_hw.astype(np.int32) - f.offset) + (1 << (SHIFT - 1))
    u, v = u_hw.astype(np.int32) - 128, v_hw.astype(np.int32) - 128
    wide = np.stack([y + f.v_red * v, y + f.u_green * u + f.v_green * v, y + f.u_blue * u], axis=-1) >> SHIFT
    rgb: U8 = np.clip(wide, 0, 255).astype(np.uint8)
    return rgb
