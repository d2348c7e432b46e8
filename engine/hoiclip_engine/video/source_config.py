"""Which part of a source is read, how it is reached, and what is too big to be meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Transport = Literal["tcp", "udp"]
Hwaccel = Literal["auto", "cuda", "none"]
MAX_TIMEOUT_S = 3600.0
MAX_START_S = 1e9
"""No container counts on beyond it: in ticks of a nanosecond, 64 bits are full after nine times as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """One source's part and ways; an address may have its own transport, timeout and hwaccel (address.py)."""

    start_s: float = 0.0
    """Seconds after the first frame; files only."""
    duration_s: float | None = None
    """Seconds from start_s on; None for all."""
    max_frames: int | None = None
    max_pixels: int = 2**26
    """Twice 8K video; 192 MiB as RGB."""
    frame_threads: bool = False
    """Decode several frames at a time: faster on many cores, but loses more frames after damage."""
    decoder_threads: int = 0
    """0: as many as ffmpeg finds right for the processors. What it puts in the place of damage depends on it."""
    transport: Transport = "tcp"
    """How RTSP brings its packets. UDP loses some where TCP only delays them."""
    timeout_s: float = 5.0
    """Without data for so long a stream is lost; for so long a first connection is tried."""
    reconnect_for_s: float | None = None
    """How long a lost stream is tried for before it is given up; None for ever."""
    hwaccel: Hwaccel = "none"
    """What decodes: auto is CUDA where it works, silently software elsewhere; cuda fails without."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_s <= MAX_START_S:
            raise ValueError(f"start_s must be in [0, {MAX_START_S:g}], got {self.start_s}")
        if self.duration_s is not None and not self.duration_s > 0:
            raise ValueError(f"duration_s must be positive, got {self.duration_s}")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {self.max_frames}")
        if self.decoder_threads < 0:
            raise ValueError(f"decoder_threads must be zero or more, got {self.decoder_threads}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {self.max_pixels}")
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise ValueError(f"timeout_s must be in (0, {MAX_TIMEOUT_S:g}], got {self.timeout_s}")
        if self.reconnect_for_s is not None and not self.reconnect_for_s >= 0:
            raise ValueError(f"reconnect_for_s must be zero or more, got {self.reconnect_for_s}")
        if self.transport not in get_args(Transport):
            raise ValueError(f"transport must be tcp or udp, got {self.transport!r}")
        if self.hwaccel not in get_args(Hwaccel):
            raise ValueError(f"hwaccel must be auto, cuda or none, got {self.hwaccel!r}")
