"""One pass over a source: decode, preprocess, infer, postprocess, track; results come out in order.

Owns the decoding thread and its bounded queue. Everything else runs in the thread that asks for results.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hoiclip_engine.clock import StageTimes
from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import Event, Pairs, TrackedPairs
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary
from hoiclip_engine.track.pair_tracker import PairTracker
from hoiclip_engine.video.source import VideoSource

QUEUE_FRAMES = 4
"""Decoded frames waiting at most; decoding overlaps inference, and memory stays flat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """How a stream is looked at."""

    detect_every: int = 1
    """Look at every Nth frame; pairs between are predicted from their motion."""

    def __post_init__(self) -> None:
        if self.detect_every < 1:
            raise ValueError(f"detect_every must be at least 1, got {self.detect_every}")


class FrameReader:
    """Decodes ahead in a thread of its own; iterate for frames, in order, every one of them."""

    def __init__(self, source: VideoSource, times: StageTimes) -> None:
        self._source, self._times = source, times
        self._frames: queue.Queue[Frame | BaseException | None] = queue.Queue(QUEUE_FRAMES)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="hoiclip-decode", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            frames = iter(self._source)
            while not self._stopped.is_set():
                with self._times.measure("decode"):
                    frame = next(frames, None)
                if frame is None or not self._put(frame):
                    break
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Frame | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._frames.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[Frame]:
        while not self._stopped.is_set():
            try:
                item = self._frames.get(timeout=0.1)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Ends the thread, then the source it was reading."""
        self._stopped.set()
        self._thread.join()
        self._source.close()


class Stream:
    """Results of one source, and how it went. Iterate once; `stop` may be called from a signal handler."""

    def __init__(
        self,
        header: RunHeader,
        source: VideoSource,
        detect: Callable[[Frame, StageTimes], Pairs],
        tracker: PairTracker,
        config: StreamConfig,
    ) -> None:
        self.header = header
        self._source, self._detect, self._tracker, self._config = source, detect, tracker, config
        self._times = StageTimes()
        self._decoded = self._detected = self._events = 0
        self._closing: tuple[Event, ...] = ()
        self._size: tuple[int, int] | None = None
        self._interrupted = False
        self._started = time.perf_counter()

    def stop(self) -> None:
        """Ends the stream after the frame that is being worked on."""
        self._interrupted = True

    def close(self) -> None:
        """Frees the source of a stream that is not iterated; may be called at any time."""
        self._source.close()

    def __iter__(self) -> Iterator[FrameResult]:
        self._started = time.perf_counter()
        reader = FrameReader(self._source, self._times)
        try:
            for frame in reader:
                yield self._look(frame)
                if self._interrupted:
                    break
        finally:
            reader.close()
            self._closing = self._tracker.finish()
            self._events += len(self._closing)

    def _look(self, frame: Frame) -> FrameResult:
        self._follow_size(frame)
        detected = frame.index % self._config.detect_every == 0
        pairs: TrackedPairs
        if detected:
            found = self._detect(frame, self._times)
            with self._times.measure("track"):
                pairs = self._tracker.update(found, frame.pts_s)
        else:
            with self._times.measure("track"):
                pairs = self._tracker.predict(frame.pts_s)
        events = self._tracker.take_events()
        self._decoded += 1
        self._detected += detected
        self._events += len(events)
        return FrameResult(frame=frame, detected=detected, pairs=pairs, events=events)

    def _follow_size(self, frame: Frame) -> None:
        size = (frame.width_px, frame.height_px)
        if self._size is not None and size != self._size:
            self._tracker.rescale(size[0] / self._size[0], size[1] / self._size[1])
        self._size = size

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
            decoded=self._decoded,
            detected=self._detected,
            dropped=0,
            decode_errors=counters.decode_errors,
            pts_repaired=counters.pts_missing + counters.pts_repaired,
            pairs=self._tracker.pair_count,
            events=self._events,
            closing_events=self._closing,
            interrupted=self._interrupted,
            wall_s=round(time.perf_counter() - self._started, 3),
            stage_ms=self._times.percentiles(),
        )
