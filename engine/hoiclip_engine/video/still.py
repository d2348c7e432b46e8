"""The one image of a container that holds a still image, read as training and evaluation read it.

ffmpeg finds out what a file is and brings its bytes, also from a pipe or a server; pixels are made by
hoiclip.data.image_file, so that a model sees in `run` what it was trained and measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from hoiclip.data.image_file import ImageError, ImageFile
from hoiclip.errors import SourceError
from hoiclip_engine.video.frame_source import SourceInfo
from hoiclip_engine.video.opened import is_photo
from hoiclip_engine.video.orient import clockwise_deg
from hoiclip_engine.video.picture import check_size
from hoiclip_engine.video.stream_choice import choose_stream

_CODECS = frozenset(("mjpeg", "png", "webp", "tiff", "bmp", "ppm", "pgm", "pbm", "jpeg2000", "gif"))
"""Of images that are read here; those of others, such as JPEG-LS, ffmpeg decodes."""
_LARGEST = 1 << 30
"""Bytes of a file; an uncompressed one of the most pixels and 16 bits has half of them."""
_RATE = Fraction(25)
"""Of the one frame, which has no time."""


@dataclass(frozen=True, slots=True)
class Still:
    """One image, upright."""

    rgb: NDArray[np.uint8]
    """(H, W, 3)"""
    info: SourceInfo


def read_still(container: InputContainer, name: str, max_pixels: int) -> Still | None:
    """None where the container holds something else, of which nothing was read then.

    Raises:
        SourceError: the image cannot be decoded, is too big, or has colours that are not read.
    """
    if not is_photo(container):
        return None
    stream, _ = choose_stream(container, name, max_pixels)
    context = stream.codec_context
    if context.codec.canonical_name not in _CODECS:
        return None
    check_size(context.width, context.height, max_pixels)
    return _decoded(_bytes(container, name), name, max_pixels)


def _bytes(container: InputContainer, name: str) -> BinaryIO:
    file = BytesIO()
    try:
        for packet in container.demux():
            if file.tell() + packet.size > _LARGEST:
                raise SourceError(f"expected an image of at most {_LARGEST >> 20} MiB, found {name} larger; convert it")
            file.write(bytes(packet))
    except av.FFmpegError as error:
        raise SourceError(
            f"expected an image in {name}, found that it cannot be read to its end ({type(error).__name__}); "
            "copy or save it again"
        ) from None
    file.seek(0)
    return file


def _decoded(file: BinaryIO, name: str, max_pixels: int) -> Still:
    try:
        with ImageFile(file, max_pixels) as image:
            rgb = np.array(image.rgb())
            info = SourceInfo(
                name=name,
                width_px=rgb.shape[1],
                height_px=rgb.shape[0],
                time_base=1 / _RATE,
                frames_declared=1,
                duration_s=None,
                average_rate=_RATE,
                codec=image.format.lower(),
                pixel_format=image.mode,
                is_photo=True,
                rotation_deg=clockwise_deg(image.orientation),
            )
    except ImageError as error:
        raise SourceError(
            f"expected an image that can be decoded in {name}, found {error}; save it again as PNG or JPEG"
        ) from error
    return Still(rgb, info)
