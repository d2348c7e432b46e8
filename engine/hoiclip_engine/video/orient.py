"""Turns decoded frames upright, as the display matrix of a phone's video asks; still images: hoiclip.data.image_file.

Only quarter turns and mirrors: other angles are rounded to the nearest, as cameras never mean them.
"""

from __future__ import annotations

import gc
import struct
import threading
from dataclasses import dataclass
from typing import cast

import av
import cv2
import numpy as np
from av.buffer import Buffer
from numpy.typing import NDArray

_MATRIX = struct.Struct("=9i")
_HELD_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """One of the eight ways a picture can lie on a pixel grid: transpose first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def clockwise_deg(self) -> int:
        """How far the picture is turned; of a mirrored one, how far it is turned besides the mirror."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def upright_size_px(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height after turning."""
        return (height_px, width_px) if self.transpose else (width_px, height_px)

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The upright picture, contiguous; the argument itself where nothing is to be done."""
        turned = np.asarray(cv2.transpose(rgb), np.uint8) if self.transpose else rgb
        if not (self.flip_x or self.flip_y):
            return turned
        code = -1 if self.flip_x and self.flip_y else (1 if self.flip_x else 0)
        return np.asarray(cv2.flip(turned, code), np.uint8)


def orientation_from_matrix(matrix: bytes) -> Orientation:
    """Reads ffmpeg's display matrix: x' = a x + c y and y' = b x + d y, y pointing down, order a b u c d v x y w."""
    if len(matrix) != _MATRIX.size:
        return Orientation()
    a, b, _, c, d, *_ = _MATRIX.unpack(matrix)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(flip_x=a < 0, flip_y=d < 0)
    return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """What the frame says about itself; upright where it says nothing."""
    _held.add(frame)
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18.1 cannot list side data of a kind it has no name for, such as EXIF; the angle it still tells.
        return _turned(frame.rotation)
    return Orientation() if data is None else orientation_from_matrix(bytes(cast(Buffer, data)))


def clockwise_deg(exif: int) -> int:
    """How far an image of this EXIF orientation (1 to 8) is turned; of a mirrored one, besides the mirror."""
    return _EXIF[exif].clockwise_deg


class _HeldFrames:
    """Frees frames whose side data was read, before they are many.

    PyAV 18.1 ties such a frame and its side data to each other, so that only a full collection frees its picture.
    Python knows nothing of the picture's size and puts that off for hours. Met once for each opened source.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0

    def add(self, frame: av.VideoFrame) -> None:
        with self._lock:
            self._bytes += sum(plane.buffer_size for plane in frame.planes)
            full = self._bytes > _HELD_BYTES
            if full:
                self._bytes = 0
        if full:
            gc.collect()


_held = _HeldFrames()


def _turned(counterclockwise_deg: int) -> Orientation:
    quarter_turns = round(-counterclockwise_deg / 90) % 4
    return (_EXIF[1], _EXIF[6], _EXIF[3], _EXIF[8])[quarter_turns]


_EXIF = {
    1: Orientation(),
    2: Orientation(flip_x=True),
    3: Orientation(flip_x=True, flip_y=True),
    4: Orientation(flip_y=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, flip_x=True),
    7: Orientation(transpose=True, flip_x=True, flip_y=True),
    8: Orientation(transpose=True, flip_y=True),
}
