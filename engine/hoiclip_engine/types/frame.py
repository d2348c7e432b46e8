"""Frames of a stream, on the host or on a GPU, events of their source, and its state in a run of changing sources."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hoiclip_kernels.preprocess.nv12 import Nv12


class DeviceImage:
    """A decoded image in the memory of a GPU, and on the host once its pixels are requested there.

    Its memory is the decoder's again when the last reference is gone: a reader of the planes holds one until the GPU
    has read them.
    """

    __slots__ = ("__weakref__", "_download", "_lock", "_rgb", "planes", "shape")

    def __init__(self, planes: Nv12, size_hw: tuple[int, int], download: Callable[[], NDArray[np.uint8]]) -> None:
        """
        Args:
            planes: objects that export DLPack, of upright square pixels.
            download: makes (H, W, 3) RGB on the host; called once at most, in any thread.
        """
        self.planes, self.shape = planes, (*size_hw, 3)
        self._download = download
        self._rgb: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()

    @property
    def is_downloaded(self) -> bool:
        return self._rgb is not None

    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) on the host, copied there by the first call.

        Raises:
            SourceError: the GPU failed.
        """
        with self._lock:
            if self._rgb is None:
                self._rgb = self._download()
            return self._rgb


FrameImage = NDArray[np.uint8] | DeviceImage
"""(H, W, 3) RGB, contiguous, on the host; or an image that is on a GPU."""


def host_rgb(image: FrameImage) -> NDArray[np.uint8]:
    """(H, W, 3), contiguous; an image on a GPU is copied to the host by the first call."""
    return image.rgb() if isinstance(image, DeviceImage) else image


@dataclass(frozen=True, slots=True)
class Frame:
    """An image as a person would see it: upright, square pixels."""

    image: FrameImage
    """Where it was decoded to; `rgb` has it on the host."""
    pts_s: float
    """Presentation time in seconds on the source's own clock; strictly increasing along a stream."""
    index: int
    """0, 1, 2 ... over the decoded frames of a stream."""
    read_s: float = 0.0
    """time.monotonic() of the moment the source handed it out; its age counts from then."""

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3), contiguous; an image on a GPU is copied to the host by the first call."""
        return host_rgb(self.image)

    @property
    def width_px(self) -> int:
        return int(self.image.shape[1])

    @property
    def height_px(self) -> int:
        return int(self.image.shape[0])


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
