"""Reads image files, in one way for everything: `run`, training, evaluation, calibration and `data check`.

Pixels are 8-bit RGB. 16-bit pixels keep their upper eight bits; transparent pixels lie on black; an image is upright,
by its EXIF orientation, unless its annotation was evidently made on the image as it is stored. Files that Pillow is
known to decode wrongly, or that have no white level, are refused.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from hoiclip.core.foreign_file import open_regular

MAX_PIXELS = 2**26
"""Of one image; 192 MiB as RGB."""
# No format that names other files or runs another program, as EPS does.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
_ORIENTATION, _BITS, _COMPRESSION, _PHOTOMETRIC, _WIDTH, _HEIGHT, _SUBSAMPLING = 274, 258, 259, 262, 256, 257, 530
_UNCOMPRESSED, _WHITE_IS_ZERO, _YCBCR = 1, 0, 6
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""
_TO_STORED = {**_TO_UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}

# Pillow's warnings about damaged EXIF and large sizes; what matters is an error here.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(ValueError):
    """The reason why an image is not read, in a few words."""


class ImageFile:
    """An image file whose header was read; a context manager."""

    format: str
    """Pillow's name."""
    stored_wh: tuple[int, int]
    """Pixels as they lie in the file."""
    orientation: int
    """EXIF, 1 to 8; 1 is upright."""

    def __init__(self, file: Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> None:
        """
        Args:
            file: a path, or an open file, which stays open.

        Raises:
            ImageError: no image of a format that is read here, damaged, or of too many pixels.
            OSError: no such file, or no regular one.
        """
        self._own = open_regular(file) if isinstance(file, Path) else None
        try:
            self._open(self._own or file, max_pixels)  # type: ignore[arg-type]  # a path has a file of its own
        except BaseException:
            self.close()
            raise

    def _open(self, file: BinaryIO, max_pixels: int) -> None:
        try:
            self._image: Any = Image.open(file, formats=_known_formats())
            self.format = str(self._image.format)
            self.orientation = _orientation(self._image)
        except UnidentifiedImageError:
            raise ImageError(f"not an image of a kind that is read here ({', '.join(_known_formats())})") from None
        except Image.DecompressionBombError:
            raise ImageError(f"more than {max_pixels} pixels") from None
        except Exception as error:  # Pillow's parsers fail in many ways on damaged files
            raise ImageError(_reason(error)) from error
        tags = getattr(self._image, "tag_v2", {})
        width, height = self._image.size
        # Pillow itself reports the upright size of a TIFF, and turns it when it loads the pixels.
        self.stored_wh = (tags.get(_WIDTH, width), tags.get(_HEIGHT, height))
        if width * height > max_pixels:
            raise ImageError(f"{width} x {height}, more than {max_pixels} pixels")

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the file; may be called twice."""
        if self._own is not None:
            self._own.close()

    @property
    def mode(self) -> str:
        """Pillow's name of the pixel format."""
        return str(self._image.mode)

    @property
    def frames(self) -> int:
        """Images in the file; only the first is read."""
        try:
            return int(getattr(self._image, "n_frames", 1)) if self.format != "MPO" else 1  # else previews of one photo
        except Exception:  # damaged behind the first
            return 1

    @property
    def upright_wh(self) -> tuple[int, int]:
        """Width and height as a person sees it."""
        width, height = self.stored_wh
        return (height, width) if self.orientation >= 5 else (width, height)

    def as_stored(self, annotated_wh: tuple[int, int] = (0, 0)) -> bool:
        """Whether boxes on an image of this size were made ignoring its orientation; zeros: not known."""
        return annotated_wh == self.stored_wh != self.upright_wh

    def size_wh(self, annotated_wh: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        """Width and height of what rgb gives."""
        return self.stored_wh if self.as_stored(annotated_wh) else self.upright_wh

    def rgb(self, annotated_wh: tuple[int, int] = (0, 0)) -> Image.Image:
        """The pixels, upright.

        Args:
            annotated_wh: size that the image's annotation names, zeros where it names none. If it is that of the stored
                image and not of the upright one, pixels are as stored.

        Raises:
            ImageError: damaged, or colours that are not read.
        """
        image = self._image
        try:
            _refuse_known_faults(image)
            image.load()
            turned = self.orientation if self.orientation == _orientation(image) else 1
            rgb = _as_rgb(image)
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders fail in many ways on damaged files
            raise ImageError(_reason(error)) from error
        already_upright = turned == 1
        if self.as_stored(annotated_wh):
            turn = _TO_STORED.get(self.orientation) if already_upright else None
        else:
            turn = None if already_upright else _TO_UPRIGHT.get(self.orientation)
        return rgb if turn is None else rgb.transpose(turn)


def read_rgb(
    file: Path | BinaryIO, annotated_wh: tuple[int, int] = (0, 0), max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The pixels of an image file; see ImageFile and ImageFile.rgb."""
    with ImageFile(file, max_pixels) as image:
        return image.rgb(annotated_wh)


@cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)  # AVIF from Pillow 11.3 on


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 where it is missing or senseless."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in _TO_UPRIGHT else 1
    except Exception:  # damaged EXIF does no harm to the image
        return 1


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _refuse_known_faults(image: Any) -> None:
    """Raises ImageError for what Pillow decodes into other colours without a word."""
    if image.mode == "F":
        raise ImageError("floating-point pixels, which have no white level; convert them to 8 or 16 bits")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # there they are 16 bits
        raise ImageError("signed or 32-bit pixels, which have no white level; convert them to 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    subsampled = tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1)
    if tags.get(_PHOTOMETRIC) == _YCBCR and tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED and subsampled:
        raise ImageError("an uncompressed TIFF of subsampled YCbCr, which Pillow decodes wrongly; save it as RGB")


def _as_rgb(image: Any) -> Image.Image:
    if image.mode.startswith("I"):
        return _upper_byte(image)
    if image.mode == "LAB":
        raise ImageError("Lab colours; save it as RGB")
    if not (image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info):
        rgb: Image.Image = image.convert("RGB")
        return rgb
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if image.format == "BMP" and alpha.getextrema()[1] == 0:
        return Image.merge("RGB", rgba.split()[:3])  # bytes that were left empty, not transparency
    on_black = Image.new("RGB", rgba.size)
    on_black.paste(rgba, mask=alpha)
    return on_black


def _upper_byte(image: Any) -> Image.Image:
    """Grey of 9 to 16 bits."""
    tags = getattr(image, "tag_v2", {})
    bits = int(tags.get(_BITS, (16,))[0])
    deep = np.asarray(image).astype(np.int64)
    grey = (deep >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if isinstance(key := image.info.get("transparency"), int):
        grey[deep == key] = 0
    return Image.fromarray(grey).convert("RGB")
