"""Image files of many kinds with one content, whose expected pixels are known without decoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hoiclip.core.array_types import RGB

WIDTH, HEIGHT = 64, 48


def colours() -> RGB:
    """(48, 64, 3): one grey and three colours, a quarter each."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[:24, :32], rgb[:24, 32:] = (230, 20, 20), (128, 128, 128)
    rgb[24:, :32], rgb[24:, 32:] = (10, 200, 90), (40, 60, 210)
    return rgb


def greys() -> NDArray[np.uint8]:
    """(48, 64): every level."""
    return np.resize(np.arange(256, dtype=np.uint8), (HEIGHT, WIDTH))


def three(grey: NDArray[np.uint8]) -> RGB:
    return np.repeat(grey[..., None], 3, axis=2)


def alpha() -> NDArray[np.uint8]:
    """(48, 64): the right half transparent, the lower half half so."""
    level = np.full((HEIGHT, WIDTH), 255, np.uint8)
    level[24:], level[:, 32:] = 128, 0
    return level


def _on_black(rgb: RGB) -> RGB:
    return np.round(rgb * (alpha()[..., None] / 255)).astype(np.uint8)


def _saved(rgb: NDArray[Any], mode: str | None = None, **how: Any) -> Callable[[Path], object]:
    image = Image.fromarray(rgb)
    return lambda path: (image if mode is None else image.convert(mode)).save(path, **how)


def _cv2(rgb: NDArray[Any]) -> Callable[[Path], object]:
    """OpenCV writes 16 bits of colour, which Pillow does not."""
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    return lambda path: path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(rgb, codes[rgb.shape[2]]))[1].tobytes())


def _cut_off(path: Path) -> None:
    _saved(colours())(path)
    path.write_bytes(path.read_bytes()[:-200])


RGBA, ON_BLACK = np.dstack([colours(), alpha()]), _on_black(colours())
PALETTE = np.asarray(Image.fromarray(colours()).convert("P").convert("RGB"))
BITS = np.asarray(Image.fromarray(colours() // 129 * 255).convert("1")).astype(np.uint8)
DEEP = greys().astype(np.uint16) * 256 + 85  # upper byte: greys()
CLEAR_GREY = np.dstack([greys(), alpha()])
TO_THE_LEVEL, JPEG, YCC = 1, 6, 3

READABLE: dict[str, tuple[str, Callable[[Path], object], RGB, int]] = {
    "rgb.png": ("rgb.png", _saved(colours()), colours(), 0),
    "grey.png": ("grey.png", _saved(greys()), three(greys()), 0),
    "1-bit.png": ("1.png", _saved(colours() // 129 * 255, "1"), three(BITS * 255), 0),
    "16-bit grey.png": ("deep.png", _saved(DEEP), three(greys()), 0),
    "16-bit grey.tiff": ("deep.tiff", _saved(DEEP), three(greys()), 0),
    "16-bit grey.pgm": ("deep.pgm", _saved(DEEP), three(greys()), 0),
    "16-bit grey.jp2": ("deep.jp2", _saved(DEEP), three(greys()), 0),
    "16-bit white is zero.tiff": ("wiz.tiff", _saved(65535 - DEEP, tiffinfo={262: 0}), three(greys()), 0),
    "16-bit rgb.png": ("deep_rgb.png", _cv2(colours().astype(np.uint16) * 256 + 85), colours(), 0),
    "16-bit rgb.tiff": ("deep_rgb.tiff", _cv2(colours().astype(np.uint16) * 256 + 85), colours(), 0),
    "16-bit rgba.png": ("deep_rgba.png", _cv2(RGBA.astype(np.uint16) * 257), ON_BLACK, TO_THE_LEVEL),
    "rgba.png": ("rgba.png", _saved(RGBA), ON_BLACK, TO_THE_LEVEL),
    "rgba.webp": ("rgba.webp", _saved(RGBA, lossless=True, exact=True), ON_BLACK, TO_THE_LEVEL),
    "rgba.tiff": ("rgba.tiff", _saved(RGBA), ON_BLACK, TO_THE_LEVEL),
    "la.png": ("la.png", _saved(CLEAR_GREY), _on_black(three(greys())), TO_THE_LEVEL),
    "colour key.png": ("key.png", _saved(colours(), transparency=(128, 128, 128)), colours() * (colours() != 128), 0),
    "palette.png": ("p.png", _saved(colours(), "P"), PALETTE, 0),
    "transparent palette.gif": ("p.gif", _saved(RGBA), colours() * (RGBA[..., 3:] > 0), 2),
    "rgb.jpg": ("rgb.jpg", _saved(colours(), quality=100, subsampling=0), colours(), JPEG),
    "cmyk.jpg": ("cmyk.jpg", _saved(colours(), "CMYK", quality=100), colours(), JPEG),
    "cmyk.tiff": ("cmyk.tiff", _saved(colours(), "CMYK"), colours(), 1),
    "jpeg in.tiff": ("jpeg.tiff", _saved(colours(), compression="jpeg", quality=100), colours(), JPEG),
    "ycbcr jpeg in.tiff": ("yj.tiff", _saved(colours(), "YCbCr", compression="jpeg", quality=100), colours(), JPEG),
    "ycbcr.tiff": ("ycc.tiff", _saved(colours(), "YCbCr"), colours(), YCC),
    "ycbcr lzw.tiff": ("ycc_lzw.tiff", _saved(colours(), "YCbCr", compression="tiff_lzw"), colours(), YCC),
    "rgb.bmp": ("rgb.bmp", _saved(colours()), colours(), 0),
}
"""By kind: a file name, a writer, the expected colours, and how many levels they may be off."""

REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "float.tiff": ("float.tiff", _saved(greys().astype(np.float32) / 255), "floating-point"),
    "32-bit.tiff": ("int.tiff", _saved(greys().astype(np.int32)), "32-bit"),
    "lab.tiff": ("lab.tiff", _saved(colours(), "LAB"), "Lab colours"),
    "subsampled ycbcr.tiff": ("sub.tiff", _saved(colours(), "YCbCr", tiffinfo={530: (2, 2)}), "subsampled YCbCr"),
    "cut off.jpg": ("cut.jpg", _cut_off, "(?i)truncated"),
    "text.png": ("text.png", lambda path: path.write_text("no image"), "not an image"),
}
"""By kind: a file name, a writer, and words of the reason."""
