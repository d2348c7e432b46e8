"""Images as JPEG."""

from __future__ import annotations

import cv2

from hoiclip.core.array_types import RGB


def encode_jpeg(rgb: RGB, quality: int) -> bytes:
    """The content of a JPEG file.

    Args:
        rgb: (H, W, 3), neither empty nor larger than 65,535 px.
        quality: 0 to 100.
    """
    # A view with reversed channels would be copied value by value, which takes longer than the encoding.
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(encoded)
