"""Interface of all frame sources, their configuration, and the metadata and counters that they report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from hoiclip_engine.types.frame import Frame, SourceEvent

if TYPE_CHECKING:
    from hoiclip_engine.sources.packet_ring import PacketRing


class FrameSource(Protocol):
    """Frames in order, for a single pass. Read and close it from one thread."""

    @property
    def info(self) -> SourceInfo: ...
    @property
    def is_live(self) -> bool:
        """Whether it does not wait for its reader: a slow reader misses frames."""
        ...

    @property
    def counters(self) -> SourceCounters:
        """Current counts; may be read from any thread."""
        ...

    def __iter__(self) -> Iterator[Frame | SourceEvent]: ...
    def stop(self) -> None:
        """Ends waiting soon; may be called from any thread."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """Metadata of a source, known once the first frame is decoded."""

    name: str
    """Printable and without credentials."""
    width_px: int
    """Width of the first frame, upright and with square pixels; later frames may differ."""
    height_px: int
    time_base: Fraction
    frames_declared: int | None
    """Number of frames by the container; often more than can be decoded."""
    duration_s: float | None
    average_rate: Fraction | None
    """Frame rate by the container; may be absurd."""
    codec: str
    pixel_format: str
    is_photo: bool
    """A still image, which has no time."""
    rotation_deg: int
    """Clockwise rotation that was applied: 0, 90, 180 or 270."""
    notes: tuple[str, ...] = ()
    """A line for every choice that was made where the file holds several videos or images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCounters:
    """Counts of frames, errors and repairs so far."""

    decoded: int = 0
    """Frames delivered."""
    decode_errors: int = 0
    """Packets or frames that could not be decoded, and a file that ends early."""
    pts_missing: int = 0
    pts_repaired: int = 0
    reconnects: int = 0
    notes: tuple[str, ...] = ()
    """A line for every kind of repair of the clock."""


Transport = Literal["tcp", "udp"]
Hwaccel = Literal["auto", "cuda", "none"]
MAX_TIMEOUT_S = 3600.0
MAX_START_S = 1e9
"""Upper limit of start times; nanosecond ticks of a container overflow 64 bits after nine times as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Range, transport, decoder and limits of one source; an address may override some of them (uri.py)."""

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
    """0: chosen by ffmpeg for the processors. The pixels that replace damaged ones depend on it."""
    transport: Transport = "tcp"
    """Transport of RTSP packets. UDP loses some where TCP only delays them."""
    timeout_s: float = 5.0
    """Seconds without data until a stream is lost; also the time limit of a first connection."""
    reconnect_for_s: float | None = None
    """Seconds of reconnecting before a lost stream is given up; None for no limit."""
    hwaccel: Hwaccel = "none"
    """Decoder: auto is CUDA where it works and silently software elsewhere; cuda fails where it does not work."""
    device_frames: bool = False
    """Leaves frames that CUDA decoded on the GPU, for a model that is there; their RGB is made on request. Set by
    engines and by `hoiclip run`."""
    packets: PacketRing | None = field(default=None, repr=False, compare=False)
    """Keeps the encoded packets of this one source, for clips of evidence; None keeps none."""

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
