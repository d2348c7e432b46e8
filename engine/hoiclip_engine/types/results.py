"""Results of a run, as its sinks get them: a header, one result per frame, a summary."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fractions import Fraction
from typing import Literal, Protocol
from uuid import uuid4

import numpy as np

from hoiclip.core.array_types import F32
from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.rule_hits import RuleHit, RuleShape
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs

Policy = Literal["lossless", "latest"]
"""Every frame, or the newest one with every skipped one counted."""
InferenceReason = Literal["first", "changed", "settling", "interval"]
"""Why a frame was inferred: it is the first one, shows a change, follows one, or the last inference is long ago."""
Reason = Literal[InferenceReason, "unchanged", "busy"]
"""Also why it was not: it shows what the last inferred frame showed, whose detections count again; or newer frames came
while others were inferred."""

Region = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """Everything known before the first frame."""

    model: str
    model_sha256: str
    notice: str
    """A warning about the model ("untrained: ..."); mostly empty."""
    vocabulary: Vocabulary
    backend: str
    precision: str
    source: str
    """Without credentials."""
    width_px: int
    height_px: int
    time_base: Fraction
    policy: Policy = "lossless"
    run_id: str = field(default_factory=lambda: uuid4().hex, compare=False)
    """Names this pass over the source in records, evidence and messages; another one every time."""
    started_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc), compare=False)
    """Wall time of the start, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One verb that a person is doing in a frame."""

    human_id: int
    """Identity of the human, the same from frame to frame."""
    verb: str
    object_id: int
    """Identity of the object; -1 where the person acts without one."""
    object: str
    """The object's word; empty where the person acts without one."""
    score: float
    """Smoothed score of the verb in [0, 1]."""
    human_box_xyxy: tuple[float, float, float, float]
    object_box_xyxy: tuple[float, float, float, float]
    """The human's own box where there is no object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """Everything about one decoded frame."""

    frame: Frame
    detected: bool
    """False without inference: pairs were predicted from motion, or detections of an earlier frame count again."""
    pairs: TrackedPairs
    events: tuple[Event, ...]
    rule_hits: tuple[RuleHit, ...] = ()
    """Starts, updates and ends of hits of the stream's rules, reported with this frame."""
    rule_shapes: tuple[RuleShape, ...] = ()
    """Zones and lines of the stream's rules."""
    reason: Reason | None = None
    """Why it was inferred or not, where changes decide (`detect_every="auto"`)."""
    region: Region | None = None
    """The part of the frame that was inferred, where it was not the whole (`whole_every`)."""
    rule_names: tuple[str, ...] | None = None
    """Names of the rules that this frame was checked by; None where the stream never had any."""
    dropped_before: int = 0
    """Decoded frames skipped since the previous result, because newer ones had come."""
    age_s: float = 0.0
    """Seconds from the moment the source handed the frame out to this result."""
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    """Durations of this frame by stage: decode, preprocess, infer, ..."""
    vocabulary: Vocabulary | None = field(default=None, repr=False, compare=False)
    """Words of verbs and objects."""

    @property
    def pts_s(self) -> float:
        return self.frame.pts_s

    @property
    def index(self) -> int:
        return self.frame.index

    def interactions(self) -> tuple[Interaction, ...]:
        """Active verbs of all pairs, in words: pair by pair, the best score first.

        Raises:
            ValueError: the result was made without a vocabulary; those of a stream have one.
        """
        if self.vocabulary is None:
            raise ValueError("expected a result with its vocabulary, found none; pass vocabulary= to FrameResult")
        pairs, found = self.pairs, []
        for row in range(len(pairs)):
            active = np.flatnonzero(pairs.verb_active[row])
            label = int(pairs.label[row])
            found += [
                Interaction(
                    human_id=int(pairs.human[row]),
                    verb=self.vocabulary.verbs[verb],
                    object_id=int(pairs.object[row]),
                    object=self.vocabulary.objects[label] if label >= 0 else "",
                    score=float(pairs.verb_scores[row, verb]),
                    human_box_xyxy=tuple(pairs.human_boxes_xyxy[row].tolist()),
                    object_box_xyxy=tuple(pairs.object_boxes_xyxy[row].tolist()),
                )
                for verb in active[np.argsort(-pairs.verb_scores[row, active], kind="stable")].tolist()
            ]
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Counts and notes, complete after the last frame."""

    decoded: int
    detected: int
    dropped: int
    decode_errors: int
    pts_repaired: int
    pairs: int
    """Distinct pairs seen."""
    events: int
    reconnects: int = 0
    """Times that a lost source came back."""
    closing_events: tuple[Event, ...] = ()
    """Ends of verbs that were still active when the stream ended."""
    closing_hits: tuple[RuleHit, ...] = ()
    """Ends of rules that still held when the stream ended."""
    hits: int | None = None
    """Hits of rules; None of a stream without rules."""
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
        """Called between two results: the source is lost or back. Most sinks ignore it."""
        return

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for every result that had to be changed to be written; complete once finished."""
        return ()

    @property
    def totals(self) -> tuple[tuple[str, str], ...]:
        """Rows for the table of the run's summary, a name and counts; complete once finished."""
        return ()

    def finish(self, summary: RunSummary) -> None:
        """Called exactly once after a successful start, also after an interrupt or an error."""
        ...


class WallClock:
    """Wall times of moments of one stream.

    Live: counted from the arrival of the latest frame, since the clock of a camera begins anywhere and drifts over
    months. Of a file, as if its first frame had been shown when the run started.
    """

    def __init__(self, header: RunHeader) -> None:
        self._started_at, self._is_live = header.started_at, header.policy == "latest"
        self._zero_s = header.started_at.timestamp()
        self.first_s: float | None = None
        """pts_s of the first frame, once there was one."""

    def see(self, result: FrameResult) -> None:
        """Takes every result in order, before times of it are asked for."""
        if self._is_live:
            read_s = result.frame.read_s
            self._zero_s = time.time() - (time.monotonic() - read_s if read_s else 0.0) - result.pts_s
        elif self.first_s is None:
            self._zero_s -= result.pts_s
        if self.first_s is None:
            self.first_s = result.pts_s

    def at(self, pts_s: float) -> datetime:
        """UTC; that of the start for a time that no calendar has."""
        try:
            return datetime.fromtimestamp(self._zero_s + pts_s, timezone.utc)
        except (OverflowError, ValueError, OSError):
            return self._started_at.astimezone(timezone.utc)


MAX_DURATIONS = 4096
"""Latest durations kept per stage, so that a stream of months stays small."""


class StageTimes:
    """Durations by stage; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms: dict[str, F32] = {}
        """Rings of MAX_DURATIONS."""
        self._counts: Counter[str] = Counter()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, (time.perf_counter() - started) * 1e3)

    def add(self, stage: str, duration_ms: float) -> None:
        with self._lock:
            if stage not in self._ms:
                self._ms[stage] = np.zeros(MAX_DURATIONS, np.float32)
            self._ms[stage][self._counts[stage] % MAX_DURATIONS] = duration_ms
            self._counts[stage] += 1

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Per stage p50, p90, p99 and mean, in milliseconds."""
        with self._lock:
            kept = {stage: ms[: self._counts[stage]].astype(np.float64) for stage, ms in self._ms.items()}
        return {
            stage: {
                **{f"p{p}": round(float(np.percentile(ms, p)), 3) for p in (50, 90, 99)},
                "mean": round(float(np.mean(ms)), 3),
            }
            for stage, ms in kept.items()
        }
