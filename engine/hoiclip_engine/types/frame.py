"""Frames of a stream, as decoded or as RGB, events of their source, and its state in a run of changing sources."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hoiclip_kernels.preprocess.nv12 import Nv12
    from hoiclip_kernels.preprocess.yuv420 import Yuv420


class DecodedImage:
    """A decoded image as its decoder left it, and RGB once that is requested: the model reads the planes.

    Its memory is the decoder's again when the last reference is gone.
    """

    __slots__ = ("__weakref__", "_convert", "_lock", "_rgb", "planes", "shape")

    def __init__(
        self, planes: Yuv420 | Nv12, size_hw: tuple[int, int], convert: Callable[[], NDArray[np.uint8]]
    ) -> None:
        """
        Args:
            planes: of upright square pixels; not to be written to.
            convert: makes (H, W, 3) RGB on the host, a new array with every call; called in any thread.
        """
        self.planes, self.shape = planes, (*size_hw, 3)
        self._convert = convert
        self._rgb: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()

    @property
    def is_converted(self) -> bool:
        return self._rgb is not None

    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) on the host, converted by the first call.

        Raises:
            SourceError: it cannot be converted.
        """
        with self._lock:
            if self._rgb is None:
                self._rgb = self._convert()
            return self._rgb

    def new_rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) likewise, that is the caller's own to write to."""
        with self._lock:
            return self._convert() if self._rgb is None else self._rgb.copy()


class DeviceImage(DecodedImage):
    """One in the memory of a GPU, whose planes export DLPack: a reader of them holds a reference to the image until the
    GPU has read them.
    """

    __slots__ = ()
    planes: Nv12


FrameImage = NDArray[np.uint8] | DecodedImage
"""(H, W, 3) RGB, contiguous, on the host; or an image that is not converted to that yet."""


def host_rgb(image: FrameImage) -> NDArray[np.uint8]:
    """(H, W, 3), contiguous; a decoded image is converted by the first call."""
    return image.rgb() if isinstance(image, DecodedImage) else image


def host_planes(image: FrameImage) -> Yuv420 | None:
    """Planes of a decoded image on the host."""
    if isinstance(image, DecodedImage) and not isinstance(image, DeviceImage):
        return cast("Yuv420", image.planes)
    return None


@dataclass(frozen=True, slots=True)
class Frame:
    """An image as a person would see it: upright, square pixels."""

    image: FrameImage
    """As it was decoded; `rgb` has its RGB on the host."""
    pts_s: float
    """Presentation time in seconds on the source's own clock; strictly increasing along a stream."""
    index: int
    """0, 1, 2 ... over the decoded frames of a stream."""
    read_s: float = 0.0
    """time.monotonic() of the moment the source handed it out; its age counts from then."""

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3), contiguous; converted by the first call. All who use the frame share it: do not write to it."""
        return host_rgb(self.image)

    def new_rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3), contiguous, that is the caller's own to write to."""
        return self.image.new_rgb() if isinstance(self.image, DecodedImage) else np.array(self.image, order="C")

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
