"""A picture that came as bytes, decoded as the same bytes in a file would be."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import SourceError
from hoiclip_engine.video.opened import is_photo
from hoiclip_engine.video.opening import open_container
from hoiclip_engine.video.source import VideoSource
from hoiclip_engine.video.source_config import SourceConfig

_NAME = "encoded picture"


def decoded(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, upright.

    Raises:
        SourceError: no picture, damaged, a video, or too big.
    """
    if not data:
        raise SourceError("expected the bytes of a picture's file, found none")
    config = SourceConfig(max_frames=1, max_pixels=max_pixels)
    try:
        container = open_container(BytesIO(data), max_pixels)
    except SourceError:
        raise SourceError("expected the bytes of a JPEG, PNG or other picture, found something else") from None
    if not is_photo(container):
        kind = container.format.name
        container.close()
        raise SourceError(f"expected one picture, found {kind}; send its frames one by one")
    try:
        with VideoSource(container, _NAME, config) as source:
            return next(iter(source)).rgb
    except SourceError:  # ffmpeg does not say which
        raise SourceError(
            f"expected a picture that can be decoded, found a damaged one or more than {max_pixels} pixels"
        ) from None
