"""Ground truth and predictions drawn into an image: green and orange boxes, humans thick."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
Boxes = tuple[NDArray[np.floating], NDArray[np.floating] | None]
"""Human, and object where there is one."""

WIDTH_PX = 420
_PREDICTED, _TRUE = (255, 140, 0), (40, 200, 80)


def draw_pairs(rgb: RGB, predicted: Sequence[Boxes], true: Sequence[Boxes], width_px: int = WIDTH_PX) -> bytes:
    """A JPEG of that width, ground truth below predictions."""
    scale = width_px / rgb.shape[1]
    size = width_px, max(1, round(rgb.shape[0] * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for pairs, colour in ((true, _TRUE), (predicted, _PREDICTED)):
        for boxes in pairs:
            _draw_boxes(small, boxes, scale, colour)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return bytes(data)


def _draw_boxes(rgb: RGB, boxes: Boxes, scale: float, colour: tuple[int, int, int]) -> None:
    limit = 4 * max(rgb.shape)
    for box, thick_px in zip(boxes, (4, 2), strict=True):
        if box is not None and np.isfinite(box).all():
            x1, y1, x2, y2 = np.clip(np.round(box * scale), -limit, limit).astype(int).tolist()
            cv2.rectangle(rgb, (x1, y1), (x2, y2), colour, thick_px)
