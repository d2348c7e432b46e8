"""4:2:0 frames in three planes, as software decoders give them, and their colours.

Other than of NV12, planes are resized before they become RGB: half the bytes, and colours of the few pixels that the
model sees. Both are the same but for rounding, unless a colour is clipped.
"""

from __future__ import annotations

from typing import NamedTuple

from hoiclip_kernels.preprocess.nv12 import U8, Matrix


class Yuv420(NamedTuple):
    """A frame of brightness and two half-size planes of colour; rows of a plane may be padded."""

    y_hw: U8
    """(H, W)"""
    u_hw: U8
    """(H / 2, W / 2) rounded up; each belongs to 2 × 2 pixels."""
    v_hw: U8
    matrix: Matrix = "bt709"
    full_range: bool = False
    """Whether bytes use 0..255; video usually keeps to 16..235."""

    @property
    def planes(self) -> tuple[U8, U8, U8]:
        return self.y_hw, self.u_hw, self.v_hw
