"""One pass over a source: frames in, tracked pairs out, in order and at the pace of the policy.

Reading (frame_reader.py) and inference (inference_worker.py) run in threads of their own; tracking runs in the thread
that iterates. `lossless` gives every frame and lets the source wait; `latest` infers the newest frame and counts those
it skips.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import Literal

from hoiclip.core.errors import UsageError
from hoiclip.core.model_file import ModelFile
from hoiclip_engine.backends.base import BackendName
from hoiclip_engine.events.rule_matcher import RuleMatcher
from hoiclip_engine.events.rules import RuleSet
from hoiclip_engine.sources.base import FrameSource
from hoiclip_engine.sources.timestamps import nominal_step_s
from hoiclip_engine.streaming.frame_reader import FrameReader, ReadFrame
from hoiclip_engine.streaming.inference_schedule import (
    ChangeGate,
    Gate,
    RegionSchedule,
    SceneSchedule,
    cut_out,
    in_the_frame,
)
from hoiclip_engine.streaming.inference_worker import (
    QUEUE_FRAMES,
    Infer,
    Inference,
    every_nth,
    max_frames_waiting,
    prefetch_inferences,
)
from hoiclip_engine.track.motion import interpolate_pairs
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import FrameResult, Policy, Reason, Region, RunHeader, RunSummary, StageTimes
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """Pace of a stream: which frames are read, and which of them are inferred."""

    policy: Literal["auto", "lossless", "latest"] = "auto"
    """auto: latest for live sources, lossless for files."""
    detect_every: int | Literal["auto"] = 1
    """Infer every Nth frame; pairs between are interpolated, or predicted in live streams, which cannot wait. "auto":
    frames that show a change (ChangeGate); for others the last detections count again, and live streams predict those
    that come while the model is busy."""
    clip_every: int | Literal["auto"] = 1
    """CLIP sees every Nth inferred frame, and the others are inferred with what it saw. "auto": frames whose scene has
    changed since."""
    whole_every: int = 1
    """Every Nth inference sees the whole frame, and the others the region in which something happens, larger."""
    max_age_s: float = 1.0
    """A frame that was read longer ago is skipped (latest)."""
    rules: RuleSet | None = None
    """Rules whose hits are reported with the frames."""
    clock: datetime | None = None
    """Time of day at second 0 of the source, for schedules of rules; without a time zone, in that of the machine. None:
    live sources go by the time that it is, and files count at any time."""

    def __post_init__(self) -> None:
        if self.detect_every != "auto" and self.detect_every < 1:
            raise ValueError(f"detect_every must be at least 1, got {self.detect_every}")
        if self.clip_every != "auto" and self.clip_every < 1:
            raise ValueError(f"clip_every must be at least 1, got {self.clip_every}")
        if self.whole_every < 1:
            raise ValueError(f"whole_every must be at least 1, got {self.whole_every}")
        if not self.max_age_s > 0:
            raise ValueError(f"max_age_s must be positive, got {self.max_age_s}")

    @property
    def detection_interval(self) -> int:
        """Frames from inference to inference, at least."""
        return 1 if self.detect_every == "auto" else self.detect_every


_MOST_SAME = 8
"""Inferences of a still scene whose detections take turns."""


class Stream:
    """Results of one source, and their summary. Iterate once; `stop` may be called from a signal handler."""

    def __init__(
        self,
        header: RunHeader,
        source: FrameSource,
        infer: Infer,
        tracker: PairTracker,
        config: StreamConfig,
        *,
        gate: Gate | None = None,
        prefetch_depth: int = 1,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            header: its policy decides.
            gate: decides which frames are inferred where `detect_every` is "auto"; None: a ChangeGate.
            prefetch_depth: frames that are submitted to `infer` before the first result is needed (lossless).
            on_end: called once `infer` is not needed any more, unless the stream is garbage-collected before.
        """
        self.header = header
        self.on_source_event: Callable[[SourceEvent], None] | None = None
        """Called between results, in the thread that iterates."""
        self._source, self._infer, self._tracker, self._config = source, infer, tracker, config
        self._prefetch_depth, self._on_end = prefetch_depth, on_end
        self._max_waiting = max_frames_waiting(header.width_px, header.height_px)
        self._gate = (gate or ChangeGate()) if config.detect_every == "auto" else None
        self._scenes = SceneSchedule(config.clip_every)
        self._reasons: dict[int, Reason] = {}
        """Of frames that wait, by index."""
        self._region_schedule = RegionSchedule(config.whole_every, prefetch_depth if header.policy == "lossless" else 1)
        self._regions: dict[int, Region] = {}
        """Of frames that wait, by index."""
        self._same: deque[Inference] = deque(maxlen=_MOST_SAME)
        """Inferences of what the last inferred frame shows."""
        self._reader: FrameReader | None = None
        self._times = StageTimes()
        self._processed = self._detected = self._events = self._skipped = self._reported_dropped = 0
        self._closing: tuple[Event, ...] = ()
        self._matcher = RuleMatcher(config.rules or RuleSet(), header.vocabulary, _clock(config, header.policy))
        self._closing_hits: tuple[RuleHit, ...] = ()
        self._size: tuple[int, int] | None = None
        self._interrupted = False
        self._started = time.perf_counter()
        self._wall_s = 0.0

    def stop(self) -> None:
        """Ends the stream after the current frame."""
        self._interrupted = True
        if self._reader is not None:
            self._reader.stop()

    @property
    def rules(self) -> RuleSet:
        """Rules of the next frame."""
        return self._matcher.rules

    def replace_rules(self, rules: RuleSet) -> None:
        """Replaces the rules from the next frame on; hits of equal rules go on, others end. For any thread.

        Raises:
            UsageError: a verb or object of a rule is not in the vocabulary; the rules stay as they were.
        """
        self._matcher.replace_rules(rules)

    def close(self) -> None:
        """Frees the source of a stream that is not iterated; may be called at any time."""
        if self._reader is None:
            self._source.close()
            self._on_end()

    def __iter__(self) -> Generator[FrameResult, None, None]:
        self._started = time.perf_counter()
        lossless = self.header.policy == "lossless"
        room = self._max_waiting if self._predicts else QUEUE_FRAMES if lossless else 1
        reader = self._reader = FrameReader(self._source, room=room, waits=lossless)
        if self._interrupted:
            reader.stop()
        results = self._every_frame(reader) if lossless else self._newest_frames(reader)
        try:
            for result in results:
                yield self._with_rules(result)
                if self._interrupted:
                    break
        finally:
            results.close()
            left = reader.close()
            self._on_end()
            self._skipped += 0 if lossless else left
            self._closing = self._with_words(self._tracker.finish())
            self._closing_hits = self._matcher.finish()
            self._events += len(self._closing)
            self._wall_s = time.perf_counter() - self._started

    @property
    def _predicts(self) -> bool:
        """Whether a live stream shows the frames that come while others are inferred."""
        return self._config.detect_every == "auto" or self._config.detect_every > 1

    def _every_frame(self, reader: FrameReader) -> Generator[FrameResult, None, None]:
        """Lossless. Frames between two inferences wait for the second one, if there is room for them."""
        waits = self._config.detection_interval <= self._max_waiting
        last: FrameResult | None = None
        waiting: list[FrameResult] = []
        try:
            for read, future in self._with_inferences(reader):
                if future is None and self._gate is not None:
                    waiting.append(self._unchanged_result(read))
                elif future is None:
                    waiting.append(self._predicted_result(read))
                    if waits:
                        continue
                else:
                    result = self._detected_result(read, future.result())
                    if last is not None:
                        waiting = [_interpolated(last, between_two, result) for between_two in waiting]
                    last = result
                    waiting.append(result)
                yield from waiting
                waiting.clear()
        except Exception:
            yield from waiting  # frames that were read before the source broke
            raise
        yield from waiting

    def _with_inferences(self, reader: FrameReader) -> Iterator[tuple[ReadFrame, Future[Inference] | None]]:
        """Every frame in order, with the inference in flight for it, if it gets one."""
        is_due = every_nth(self._config.detection_interval) if self._gate is None else self._is_changed
        depth, room = self._prefetch_depth, self._max_waiting
        with closing(prefetch_inferences(reader, self._submit, is_due=is_due, depth=depth, room=room)) as items:
            for item, future in items:
                if isinstance(item, ReadFrame):
                    yield item, future
                else:
                    self._report(item)

    def _newest_frames(self, reader: FrameReader) -> Generator[FrameResult, None, None]:
        """Latest: infers the newest frame; those before it are predicted, or skipped and counted."""
        since_inference = self._config.detection_interval
        while items := reader.take_all():
            self._skipped += reader.take_dropped()
            for is_frame, group in groupby(items, lambda item: isinstance(item, ReadFrame)):
                if not is_frame:
                    for event in group:
                        assert isinstance(event, SourceEvent)
                        self._report(event)
                    continue
                reads = [read for read in group if isinstance(read, ReadFrame)]
                for read in reads[:-1]:
                    since_inference += 1
                    if self._predicts and self._is_fresh(read.frame):
                        yield self._predicted_result(read)
                    else:
                        self._skipped += 1
                newest = reads[-1]
                since_inference += 1
                if not self._is_fresh(newest.frame):
                    self._skipped += 1
                elif self._gate is not None and not self._is_changed(newest.frame):
                    yield self._unchanged_result(newest)
                elif since_inference > self._config.detection_interval:
                    since_inference = 1
                    yield self._detected_result(newest, self._submit(newest.frame).result())
                else:
                    yield self._predicted_result(newest)

    def _submit(self, frame: Frame) -> Future[Inference]:
        scene, image = self._scenes.scene_of(frame), frame.image
        region = self._region_schedule.region_of(frame)
        if region is not None:
            self._regions[frame.index], image = region, cut_out(image, region)
        return self._infer(image) if scene is None else self._infer(image, scene)

    def _is_changed(self, frame: Frame) -> bool:
        assert self._gate is not None
        reason = self._gate.why_infer(frame)
        self._reasons[frame.index] = reason or "unchanged"
        return reason is not None

    def _is_fresh(self, frame: Frame) -> bool:
        return time.monotonic() - frame.read_s <= self._config.max_age_s

    def _detected_result(self, read: ReadFrame, inference: Inference) -> FrameResult:
        started = time.perf_counter()
        inference = in_the_frame(inference, self._regions.get(read.frame.index))
        self._show_to_tracker(read.frame)
        pairs = self._tracker.update(inference.detections, read.frame.pts_s)
        self._region_schedule.track(pairs)
        self._detected += 1
        if self._gate is not None:
            if self._reasons[read.frame.index] in ("first", "changed"):
                self._same.clear()
            self._same.append(inference)
        return self._result(read, pairs, inference.stage_ms, started)

    def _unchanged_result(self, read: ReadFrame) -> FrameResult:
        """Detections of the same scene again, to the tracker as good as an inference. They take turns, since what one
        inference missed another has found."""
        assert self._same, "the first frame is always inferred"
        started = time.perf_counter()
        self._show_to_tracker(read.frame)
        pairs = self._tracker.update(self._same[0].detections, read.frame.pts_s)
        self._same.rotate(-1)
        return self._result(read, pairs, None, started)

    def _predicted_result(self, read: ReadFrame) -> FrameResult:
        started = time.perf_counter()
        self._show_to_tracker(read.frame)
        pairs = self._tracker.predict(read.frame.pts_s)
        return self._result(read, pairs, None, started)

    def _result(
        self, read: ReadFrame, pairs: TrackedPairs, inference_ms: dict[str, float] | None, track_started: float
    ) -> FrameResult:
        """Args: inference_ms: stages of the inference; None where pairs were predicted."""
        events = self._with_words(self._tracker.take_events())
        stage_ms = {
            "decode" if self.header.policy == "lossless" else "read": read.read_ms,
            **(inference_ms or {}),
            "track": (time.perf_counter() - track_started) * 1e3,
        }
        age_s = time.monotonic() - read.frame.read_s
        for stage, duration_ms in stage_ms.items():
            self._times.add(stage, duration_ms)
        self._times.add("age", age_s * 1e3)
        self._processed += 1
        self._events += len(events)
        dropped, self._reported_dropped = self._skipped - self._reported_dropped, self._skipped
        return FrameResult(
            frame=read.frame,
            detected=inference_ms is not None,
            reason=None if self._gate is None else self._reasons.pop(read.frame.index, "busy"),
            region=self._regions.pop(read.frame.index, None),
            pairs=pairs,
            events=events,
            dropped_before=dropped,
            age_s=age_s,
            stage_ms=stage_ms,
            vocabulary=self.header.vocabulary,
        )

    def _with_rules(self, result: FrameResult) -> FrameResult:
        """A final result with the hits of its frame."""
        if not self._matcher.is_used:
            return result
        with self._times.measure("rules"):
            hits, shapes = self._matcher.update(result), self._matcher.shapes(result)
            return replace(result, rule_hits=hits, rule_shapes=shapes, rule_names=self._matcher.rules.names)

    def _with_words(self, events: Iterable[Event]) -> tuple[Event, ...]:
        return tuple(event.with_words(self.header.vocabulary) for event in events)

    def _report(self, event: SourceEvent) -> None:
        if event.event == "source_lost":
            self._matcher.interrupt()
        if self.on_source_event is not None:
            self.on_source_event(event)

    def _show_to_tracker(self, frame: Frame) -> None:
        """Gives the tracker the image, for camera motion, and a change of the frame's size."""
        size = (frame.width_px, frame.height_px)
        if self._size is not None and size != self._size:
            self._tracker.rescale(size[0] / self._size[0], size[1] / self._size[1])
        self._size = size
        if self._tracker.follows_camera:  # else a frame on a GPU would be copied for nothing
            self._tracker.see(frame.rgb)

    @property
    def is_reading(self) -> bool:
        """Whether the thread that reads the source runs; after the end, whether it hangs there and was left behind."""
        return self._reader is not None and self._reader.is_alive

    @property
    def frames_read(self) -> int:
        """Frames that the source has delivered so far, also those that are skipped."""
        return self._source.counters.decoded

    @property
    def frames_expected(self) -> int | None:
        """Frames that the container declares: often more than can be decoded; None where it declares none."""
        return self._source.info.frames_declared

    @property
    def times(self) -> StageTimes:
        return self._times

    @property
    def summary(self) -> RunSummary:
        """Counts so far; complete once the iteration has ended."""
        counters = self._source.counters
        return RunSummary(
            decoded=self._processed + self._skipped,
            detected=self._detected,
            dropped=self._skipped,
            decode_errors=counters.decode_errors,
            pts_repaired=counters.pts_missing + counters.pts_repaired,
            pairs=self._tracker.pair_count,
            events=self._events,
            reconnects=counters.reconnects,
            notes=(*self._source.info.notes, *counters.notes, *self._matcher.notes),
            closing_events=self._closing,
            closing_hits=self._closing_hits,
            hits=self._matcher.hits if self._matcher.is_used else None,
            interrupted=self._interrupted,
            wall_s=round(self._wall_s or time.perf_counter() - self._started, 3),
            stage_ms=self._times.percentiles(),
        )


def policy_for(config: StreamConfig, source: FrameSource) -> Policy:
    """The policy that "auto" stands for.

    Raises:
        UsageError: lossless was asked of a source that does not wait.
    """
    if config.policy == "lossless" and source.is_live:
        raise UsageError(
            f"expected a file for --policy lossless, found {source.info.name}, which does not wait; take latest"
        )
    return "latest" if source.is_live else "lossless"


def _clock(config: StreamConfig, policy: Policy) -> Callable[[float], datetime] | None:
    """Time of day by time of the source; None where there is none."""
    if config.clock is not None:
        start = config.clock.astimezone()
        return lambda pts_s: start + timedelta(seconds=pts_s)
    return None if policy == "lossless" else lambda pts_s: datetime.now(timezone.utc)


def _interpolated(last: FrameResult, predicted: FrameResult, following: FrameResult) -> FrameResult:
    """A frame between two inferences, corrected by the second."""
    fraction = (predicted.pts_s - last.pts_s) / (following.pts_s - last.pts_s)
    return replace(predicted, pairs=interpolate_pairs(last.pairs, predicted.pairs, following.pairs, fraction))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFactory:
    """Makes streams; compiles nothing. `infer` may come from a session or from cached detections."""

    model: ModelFile
    backend_name: BackendName
    precision: str
    track: TrackConfig

    def open(
        self,
        source: FrameSource,
        infer: Infer,
        config: StreamConfig,
        *,
        inference_s: float = 0.0,
        gate: Gate | None = None,
        prefetch_depth: int = 1,
        on_end: Callable[[], None] = lambda: None,
    ) -> Stream:
        """The stream of a source.

        Args:
            infer: called once for every frame that is due, in order.
            inference_s: duration of one inference; a live stream detects no more often.
            gate, prefetch_depth, on_end: as of Stream.

        Raises:
            UsageError: lossless was asked of a source that does not wait.
        """
        policy = policy_for(config, source)
        tracker = self._tracker(source, config, policy, inference_s)
        header = self._header(source, policy)
        return Stream(header, source, infer, tracker, config, gate=gate, prefetch_depth=prefetch_depth, on_end=on_end)

    def _tracker(self, source: FrameSource, config: StreamConfig, policy: Policy, inference_s: float) -> PairTracker:
        track = self.track.for_photos() if source.info.is_photo else self.track
        interval_s = config.detection_interval * nominal_step_s(source.info.average_rate)
        if policy == "latest":
            interval_s = max(interval_s, inference_s)
        return PairTracker.for_vocabulary(self.model.vocabulary, track.for_detection_interval(interval_s))

    def _header(self, source: FrameSource, policy: Policy) -> RunHeader:
        return RunHeader(
            model=self.model.name,
            model_sha256=self.model.sha256(),
            notice=self.model.notice,
            vocabulary=self.model.vocabulary,
            backend=self.backend_name,
            precision=self.precision,
            source=source.info.name,
            width_px=source.info.width_px,
            height_px=source.info.height_px,
            time_base=source.info.time_base,
            policy=policy,
        )
