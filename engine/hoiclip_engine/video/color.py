"""Turns a decoded frame of any pixel format into RGB with square pixels.

Knows colour matrices, ranges, alpha and pixel aspect; orientation is orient.py.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

MAX_SANE_ASPECT = 8
"""Beyond this a pixel aspect ratio is garbage; anamorphic film has 2."""
HD_HEIGHT_PX = 720
"""Unlabelled video from this height on is BT.709, below it BT.601, as players assume."""
_ANIMATIONS = frozenset(("apng", "gif", "webp"))
TRANSPARENT_CODECS = _ANIMATIONS | {"bmp", "jpeg2000", "jpegxl", "png", "qoi", "targa", "tiff"}
"""Codecs whose alpha is transparency. Of others it is a padding byte of screen and camera captures, or a mask for an
editor, and players show the colours. Images in a video may have such a byte too: it is zero all over."""
_AVCOL_RGB = 0
_BT2020 = 9
"""SWS_CS_BT2020, for which PyAV 17, the last one for Python 3.10, has no name."""
# AVColorSpace of the stream → the matrix swscale knows.
_MATRICES: dict[int, int] = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: _BT2020,
    10: _BT2020,
}


def default_matrix(height_px: int) -> Colorspace:
    """What players assume of video that does not say."""
    return Colorspace.ITU709 if height_px >= HD_HEIGHT_PX else Colorspace.ITU601


def square_size_px(width_px: int, height_px: int, aspect: Fraction | None) -> tuple[int, int]:
    """Size with square pixels. The picture only ever grows, so that no detail is lost."""
    if aspect is None or aspect == 1 or not Fraction(1, MAX_SANE_ASPECT) <= aspect <= MAX_SANE_ASPECT:
        return width_px, height_px
    if aspect > 1:
        return round(width_px * aspect), height_px
    return width_px, round(height_px / aspect)


class RgbConverter:
    """Converts frames of one stream; keeps the scaler between calls. Use it from one thread."""

    def __init__(self, codec: str = "png", *, is_image: bool = True) -> None:
        """
        Args:
            codec: ffmpeg's name of what the frames were encoded with.
            is_image: whether they come from an image file.
        """
        self._reformatter = VideoReformatter()
        self._transparent = codec in TRANSPARENT_CODECS
        self._padded = not is_image and codec not in _ANIMATIONS

    def convert(self, frame: av.VideoFrame, aspect: Fraction | None) -> NDArray[np.uint8]:
        """(H, W, 3) RGB with square pixels; transparent parts of images and animations become black.

        Raises:
            av.FFmpegError: the pixel format cannot be converted.
        """
        width_px, height_px = square_size_px(frame.width, frame.height, aspect)
        transparent = self._transparent and _has_alpha(frame)
        # Hardly a decoder tells, and the default of swscale is BT.601 even for 4K.
        rgb = self._reformatter.reformat(
            frame,
            width=width_px,
            height=height_px,
            format="rgba" if transparent else "rgb24",
            src_colorspace=_matrix(frame),
        )
        pixels = np.asarray(rgb.to_ndarray(), np.uint8)
        if transparent and self._padded and not pixels[..., 3].any():
            return np.ascontiguousarray(pixels[..., :3])
        return np.ascontiguousarray(_on_black(pixels) if transparent else pixels)


def _matrix(frame: av.VideoFrame) -> int | None:
    if frame.colorspace == _AVCOL_RGB or frame.format.is_rgb:
        return None
    return _MATRICES.get(frame.colorspace, default_matrix(frame.height))


def _has_alpha(frame: av.VideoFrame) -> bool:
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def _on_black(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return rgba[..., :3]
    return ((rgba[..., :3].astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
