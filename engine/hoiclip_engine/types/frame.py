"""Frames of a stream, and events of their source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """An image as a person would see it: upright, square pixels."""

    rgb: NDArray[np.uint8]
    """(H, W, 3), contiguous."""
    pts_s: float
    """Presentation time in seconds on the source's own clock; strictly increasing along a stream."""
    index: int
    """0, 1, 2 ... over the decoded frames of a stream."""
    read_s: float = 0.0
    """time.monotonic() of the moment the source handed it out; its age counts from then."""

    @property
    def width_px(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height_px(self) -> int:
        return int(self.rgb.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEvent:
    """Loss or return of a live source."""

    event: Literal["source_lost", "source_back"]
    pts_s: float
    """Of the last frame before, or of the first frame after."""
    reason: str
    """One line without credentials: the error of a loss; the outage in seconds for a return."""
