"""What every source of frames is to the pipeline, whether a file that waits or a camera that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from hoiclip_engine.frame import Frame, SourceEvent


class FrameSource(Protocol):
    """Frames in order, to be gone through once. Read and close it from one thread."""

    @property
    def info(self) -> SourceInfo: ...
    @property
    def is_live(self) -> bool:
        """Whether it goes on without us: whoever is slow misses frames."""
        ...

    @property
    def counters(self) -> SourceCounters:
        """As of now; may be asked from any thread."""
        ...

    def __iter__(self) -> Iterator[Frame | SourceEvent]: ...
    def stop(self) -> None:
        """Asks a source that waits for something to give up soon; may be called from any thread."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What is known once the first frame is decoded."""

    name: str
    """Printable and without credentials."""
    width_px: int
    """Of the first frame, upright and with square pixels; later frames may differ."""
    height_px: int
    time_base: Fraction
    frames_declared: int | None
    """What the container says; often more than can be decoded."""
    duration_s: float | None
    average_rate: Fraction | None
    """As the container says, which may be absurd."""
    codec: str
    pixel_format: str
    is_photo: bool
    """A still picture, which has no time."""
    rotation_deg: int
    """Clockwise turn that was applied: 0, 90, 180 or 270."""
    notes: tuple[str, ...] = ()
    """A line for every choice that was made where the file holds several videos or images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCounters:
    """What happened so far."""

    decoded: int = 0
    """Frames handed out."""
    decode_errors: int = 0
    """Packets or frames that could not be decoded, and a file that ends early."""
    pts_missing: int = 0
    pts_repaired: int = 0
    reconnects: int = 0
    notes: tuple[str, ...] = ()
    """A line for every kind of repair of the clock."""
