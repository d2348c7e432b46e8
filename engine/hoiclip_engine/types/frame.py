"""Frames of a stream, events of their source, and its state in a run whose sources come and go."""

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


SourceState = Literal["starting", "running", "lost", "waiting", "paused", "ended", "failed"]
"""waiting: for the next attempt to open it. failed: a file that cannot be read, which nothing but a person can mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedSource:
    """A source of the run, and its state; printable, and without credentials."""

    id: int
    """Never given to another source of the same run."""
    name: str
    """Unique among the sources of the run."""
    address: str
    kind: str
    state: SourceState
    error: str
    """Reason of the states lost, waiting and failed; one line."""
    frames: int
    """Results since it was last opened."""
    restarts: int
    """Times that it was wedged and restarted."""
