"""One pass over a source: frames in, tracked pairs out, in order and at the pace of the policy.

Reading (reader.py) and looking (looker.py) run in threads of their own; tracking runs in the thread that asks for
results. `lossless` gives every frame and lets the source wait; `latest` looks at the newest frame there is and counts
what it skips.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from hoiclip.errors import UsageError
from hoiclip_engine.ahead import QUEUE_FRAMES, looks_ahead_of, waiting_room
from hoiclip_engine.clock import StageTimes
from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.looker import RGB, Look
from hoiclip_engine.pairs import Event, TrackedPairs
from hoiclip_engine.reader import FrameReader, Read
from hoiclip_engine.results import FrameResult, Policy, RunHeader, RunSummary
from hoiclip_engine.track.interpolate import between
from hoiclip_engine.track.pair_tracker import PairTracker
from hoiclip_engine.video.frame_source import FrameSource


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """How a stream is looked at."""

    policy: Literal["auto", "lossless", "latest"] = "auto"
    """auto: latest for what goes on without us, lossless for files."""
    detect_every: int | Literal["auto"] = 1
    """Look at every Nth frame; pairs between are interpolated, or predicted where nobody can wait. "auto": whenever the
    model is free; a file, which waits, is looked at in every frame."""
    max_age_s: float = 1.0
    """A frame that was read longer ago is not worth a look any more (latest)."""

    def __post_init__(self) -> None:
        if self.detect_every != "auto" and self.detect_every < 1:
            raise ValueError(f"detect_every must be at least 1, got {self.detect_every}")
        if not self.max_age_s > 0:
            raise ValueError(f"max_age_s must be positive, got {self.max_age_s}")

    @property
    def looks_every(self) -> int:
        """Frames from look to look at least."""
        return 1 if self.detect_every == "auto" else self.detect_every


class Stream:
    """Results of one source, and how it went. Iterate once; `stop` may be called from a signal handler."""

    def __init__(
        self,
        header: RunHeader,
        source: FrameSource,
        look: Callable[[RGB], Future[Look]],
        tracker: PairTracker,
        config: StreamConfig,
        *,
        looks_ahead: int = 1,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            header: its policy decides.
            looks_ahead: frames that are handed to `look` before the first of them is back (lossless).
            on_end: called once `look` is not needed any more; the stream may also be forgotten before.
        """
        self.header = header
        self.on_source_event: Callable[[SourceEvent], None] | None = None
        """Called between results, in the thread that asks for them."""
        self._source, self._look, self._tracker, self._config = source, look, tracker, config
        self._looks_ahead, self._on_end = looks_ahead, on_end
        self._most_waiting = waiting_room(header.width_px, header.height_px)
        self._reader: FrameReader | None = None
        self._times = StageTimes()
        self._processed = self._detected = self._events = self._skipped = self._told_dropped = 0
        self._closing: tuple[Event, ...] = ()
        self._size: tuple[int, int] | None = None
        self._interrupted = False
        self._started = time.perf_counter()
        self._wall_s = 0.0

    def stop(self) -> None:
        """Ends the stream after the frame that is being worked on."""
        self._interrupted = True
        if self._reader is not None:
            self._reader.stop()

    def close(self) -> None:
        """Frees the source of a stream that is not iterated; may be called at any time."""
        if self._reader is None:
            self._source.close()
            self._on_end()

    def __iter__(self) -> Generator[FrameResult, None, None]:
        self._started = time.perf_counter()
        lossless = self.header.policy == "lossless"
        room = self._most_waiting if self._predicts else QUEUE_FRAMES if lossless else 1
        reader = self._reader = FrameReader(self._source, room=room, waits=lossless)
        if self._interrupted:
            reader.stop()
        results = self._every_frame(reader) if lossless else self._newest_frames(reader)
        try:
            for result in results:
                yield result
                if self._interrupted:
                    break
        finally:
            results.close()
            left = reader.close()
            self._on_end()
            self._skipped += 0 if lossless else left
            self._closing = self._tracker.finish()
            self._events += len(self._closing)
            self._wall_s = time.perf_counter() - self._started

    @property
    def _predicts(self) -> bool:
        """Whether a live stream shows the frames between two looks."""
        return self._config.detect_every == "auto" or self._config.detect_every > 1

    def _every_frame(self, reader: FrameReader) -> Generator[FrameResult, None, None]:
        """Lossless. Frames between two looks wait for the second one, if there is room for them."""
        waits = self._config.looks_every <= self._most_waiting
        last: FrameResult | None = None
        waiting: list[FrameResult] = []
        try:
            for read, answer in self._ordered(reader):
                if answer is None:
                    waiting.append(self._predicted(read))
                    if waits:
                        continue
                else:
                    result = self._looked(read, answer.result())
                    if last is not None:
                        waiting = [_interpolated(last, one, result) for one in waiting]
                    last = result
                    waiting.append(result)
                yield from waiting
                waiting.clear()
        except Exception:
            yield from waiting  # what was read before the source broke
            raise
        yield from waiting

    def _ordered(self, reader: FrameReader) -> Iterator[tuple[Read, Future[Look] | None]]:
        """Every frame with the look that is under way for it, if it gets one."""
        every, ahead, room = self._config.looks_every, self._looks_ahead, self._most_waiting
        with closing(looks_ahead_of(reader, self._look, every=every, ahead=ahead, room=room)) as items:
            for item, answer in items:
                if isinstance(item, Read):
                    yield item, answer
                else:
                    self._tell(item)

    def _newest_frames(self, reader: FrameReader) -> Generator[FrameResult, None, None]:
        """Latest: looks at the newest frame; those before it are predicted, or skipped and counted."""
        since_look = self._config.looks_every
        while items := reader.take_all():
            self._skipped += reader.take_dropped()
            for is_frame, group in groupby(items, lambda item: isinstance(item, Read)):
                if not is_frame:
                    for event in group:
                        assert isinstance(event, SourceEvent)
                        self._tell(event)
                    continue
                reads = [read for read in group if isinstance(read, Read)]
                for read in reads[:-1]:
                    since_look += 1
                    if self._predicts and self._is_fresh(read.frame):
                        yield self._predicted(read)
                    else:
                        self._skipped += 1
                newest = reads[-1]
                since_look += 1
                if not self._is_fresh(newest.frame):
                    self._skipped += 1
                elif since_look > self._config.looks_every:
                    since_look = 1
                    yield self._looked(newest, self._look(newest.frame.rgb).result())
                else:
                    yield self._predicted(newest)

    def _is_fresh(self, frame: Frame) -> bool:
        return time.monotonic() - frame.read_s <= self._config.max_age_s

    def _looked(self, read: Read, look: Look) -> FrameResult:
        started = time.perf_counter()
        self._follow(read.frame)
        pairs = self._tracker.update(look.pairs, read.frame.pts_s)
        self._detected += 1
        return self._result(read, pairs, look.stage_ms, started)

    def _predicted(self, read: Read) -> FrameResult:
        started = time.perf_counter()
        self._follow(read.frame)
        pairs = self._tracker.predict(read.frame.pts_s)
        return self._result(read, pairs, None, started)

    def _result(
        self, read: Read, pairs: TrackedPairs, look_ms: dict[str, float] | None, track_started: float
    ) -> FrameResult:
        """Args: look_ms: stages of the look, None where nobody looked."""
        events = self._tracker.take_events()
        stage_ms = {
            "decode" if self.header.policy == "lossless" else "read": read.read_ms,
            **(look_ms or {}),
            "track": (time.perf_counter() - track_started) * 1e3,
        }
        age_s = time.monotonic() - read.frame.read_s
        for stage, duration_ms in stage_ms.items():
            self._times.add(stage, duration_ms)
        self._times.add("age", age_s * 1e3)
        self._processed += 1
        self._events += len(events)
        dropped, self._told_dropped = self._skipped - self._told_dropped, self._skipped
        return FrameResult(
            frame=read.frame,
            detected=look_ms is not None,
            pairs=pairs,
            events=events,
            dropped_before=dropped,
            age_s=age_s,
            stage_ms=stage_ms,
        )

    def _tell(self, event: SourceEvent) -> None:
        if self.on_source_event is not None:
            self.on_source_event(event)

    def _follow(self, frame: Frame) -> None:
        """What the tracker should know of a frame besides what is in it."""
        size = (frame.width_px, frame.height_px)
        if self._size is not None and size != self._size:
            self._tracker.rescale(size[0] / self._size[0], size[1] / self._size[1])
        self._size = size
        self._tracker.see(frame.rgb)

    @property
    def frames_expected(self) -> int | None:
        """What the container declares; often more than can be decoded, and unknown for some."""
        return self._source.info.frames_declared

    @property
    def times(self) -> StageTimes:
        return self._times

    @property
    def summary(self) -> RunSummary:
        """How it went so far; complete once the iteration has ended."""
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
            notes=(*self._source.info.notes, *counters.notes),
            closing_events=self._closing,
            interrupted=self._interrupted,
            wall_s=round(self._wall_s or time.perf_counter() - self._started, 3),
            stage_ms=self._times.percentiles(),
        )


def policy_for(config: StreamConfig, source: FrameSource) -> Policy:
    """What "auto" stands for.

    Raises:
        UsageError: lossless was asked of a source that does not wait.
    """
    if config.policy == "lossless" and source.is_live:
        raise UsageError(
            f"expected a file for --policy lossless, found {source.info.name}, which does not wait; take latest"
        )
    return "latest" if source.is_live else "lossless"


def _interpolated(last: FrameResult, one: FrameResult, following: FrameResult) -> FrameResult:
    """A frame between two looks, corrected by the second."""
    share = (one.pts_s - last.pts_s) / (following.pts_s - last.pts_s)
    return replace(one, pairs=between(last.pairs, one.pairs, following.pairs, share))
