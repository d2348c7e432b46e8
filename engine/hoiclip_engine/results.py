"""What a run tells its sinks: a header, one result per frame, a summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.pairs import Event, TrackedPairs

Policy = Literal["lossless", "latest"]
"""Every frame, or the newest one with every skipped one counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """What is known before the first frame."""

    model: str
    model_sha256: str
    notice: str
    """What a reader must know of the model ("untrained: ..."); empty when there is nothing to say."""
    vocabulary: Vocabulary
    backend: str
    precision: str
    source: str
    """Without credentials."""
    width_px: int
    height_px: int
    time_base: Fraction
    policy: Policy = "lossless"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """Everything about one decoded frame."""

    frame: Frame
    detected: bool
    """False where pairs were predicted from motion, without looking."""
    pairs: TrackedPairs
    events: tuple[Event, ...]
    dropped_before: int = 0
    """Decoded frames that were skipped since the result before, because newer ones had come."""
    age_s: float = 0.0
    """From the moment the source handed the frame out to this result."""
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    """What this frame took: decode, preprocess, infer, ..."""

    @property
    def pts_s(self) -> float:
        return self.frame.pts_s

    @property
    def index(self) -> int:
        return self.frame.index


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What is known after the last frame."""

    decoded: int
    detected: int
    dropped: int
    decode_errors: int
    pts_repaired: int
    pairs: int
    """Distinct pairs seen."""
    events: int
    reconnects: int = 0
    """How often a lost source came back."""
    closing_events: tuple[Event, ...] = ()
    """Ends of verbs that were still going on when the stream ended."""
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    """A line for every choice and repair that the source needed."""
    wall_s: float = 0.0
    stage_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    """Per stage (decode, preprocess, infer, ...) and for the age of frames: p50, p90, p99 and mean in milliseconds."""


class Sink(Protocol):
    """Takes results in order; raises SinkError when it cannot write. Called from one thread; subclass it."""

    def start(self, header: RunHeader) -> None: ...
    def write(self, result: FrameResult) -> None: ...
    def source_event(self, event: SourceEvent) -> None:
        """Between two results: the source is lost or back. Most sinks have nothing to say of it."""
        return

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for everything that could not be written as it was; complete once finished."""
        return ()

    def finish(self, summary: RunSummary) -> None:
        """Called exactly once after a successful start, also after an interrupt or an error."""
        ...
