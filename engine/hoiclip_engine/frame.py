"""One decoded picture of a stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture as a person would see it: upright, square pixels."""

    rgb: NDArray[np.uint8]
    """(H, W, 3), contiguous."""
    pts_s: float
    """Presentation time in seconds on the source's own clock; strictly increasing along a stream."""
    index: int
    """0, 1, 2 ... over the decoded frames of a stream."""

    @property
    def width_px(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height_px(self) -> int:
        return int(self.rgb.shape[0])
