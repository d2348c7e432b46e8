"""Writes results in a thread of its own, so that encoding and disks overlap with inference.

Results wait in a bounded queue: sinks that are too slow slow the stream, which then skips frames where its policy
allows, and counts them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

from rich.progress import Progress

from hoiclip.core.errors import PARTIAL, HoiclipError
from hoiclip_engine.streaming.stream import Stream
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink, StageTimes

_log = logging.getLogger("hoiclip")
QUEUE_RESULTS = 4
"""Results waiting at most; each holds the image of its frame."""
SHOW_EVERY_S = 0.1
"""Seconds between two drawings of a progress line."""


class SinkWriter:
    """Some sinks and the thread that writes to them. Every sink that was started is finished once, unless abandoned."""

    def __init__(self, sinks: Sequence[Sink], times: StageTimes) -> None:
        self._sinks, self._times = sinks, times
        self._started: list[Sink] = []
        self._results: queue.Queue[FrameResult | SourceEvent | None] = queue.Queue(QUEUE_RESULTS)
        self._failure: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="hoiclip-write", daemon=True)

    def start(self, header: RunHeader) -> None:
        """Starts the sinks, then the thread.

        Raises:
            SinkError: one cannot be started; call `finish` all the same.
        """
        for sink in self._sinks:
            sink.start(header)
            self._started.append(sink)
        self._thread.start()

    def put(self, result: FrameResult | SourceEvent) -> None:
        """Waits for room.

        Raises:
            BaseException: raised by a sink for an earlier result.
        """
        self._results.put(result)
        if self._failure is not None:
            raise self._failure

    def abandon(self) -> None:
        """Gives up on a sink that hangs: nothing more is written or finished."""
        self._started.clear()
        self._abandoned = True

    def finish(self, summary: RunSummary) -> None:
        """Writes what waits and finishes each sink, even where another one fails.

        Raises:
            BaseException: the first failure that has not been raised yet.
        """
        failure: BaseException | None = None
        if self._thread.is_alive() and not self._abandoned:
            already_raised = self._failure
            self._results.put(None)
            self._thread.join()
            failure = self._failure if already_raised is None else None
        for sink in self._started:
            try:
                sink.finish(summary)
            except HoiclipError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while (result := self._results.get()) is not None:
            if self._failure is not None or self._abandoned:
                continue  # frees room, so that a waiting `put` returns and raises
            try:
                with self._times.measure("write"):
                    for sink in self._sinks:
                        if isinstance(result, SourceEvent):
                            sink.source_event(result)
                        else:
                            sink.write(result)
            except BaseException as error:
                self._failure = error


class FrameMeter(Protocol):
    """Follows a stream that is written: called for every frame, and for every event of the source."""

    def __call__(self) -> None: ...
    def report(self, event: SourceEvent) -> None: ...


class Meter:
    """A line of a progress display: frames done, and their rate."""

    def __init__(self, bar: Progress, name: str, expected: int | None) -> None:
        self._bar, self._task, self._name = bar, bar.add_task(name, total=expected, rate=""), name
        self._frames, self._begun = 0, time.perf_counter()
        self._shown = 0.0

    def __call__(self) -> None:
        """Counts a frame. Drawing takes longer than some frames, so not each of them is shown."""
        self._frames += 1
        now = time.perf_counter()
        if now - self._shown >= SHOW_EVERY_S:
            self._shown = now
            rate = f"{self._frames / (now - self._begun):.1f} fps"
            self._bar.update(self._task, completed=self._frames, rate=rate)

    def report(self, event: SourceEvent) -> None:
        """Logs a loss or return of the source."""
        words = "lost" if event.event == "source_lost" else "back"
        line = f"{self._name} {words} at {event.pts_s:.2f} s: {event.reason}"
        _log.warning("%s", line, extra={"source": self._name})

    def close(self) -> None:
        """Removes the line."""
        self._bar.remove_task(self._task)


def feed(stream: Stream, sinks: Sequence[Sink], meter: FrameMeter) -> RunSummary:
    """Writes every result to every sink; each sink that was started is finished, whatever happens.

    Raises:
        HoiclipError: the source or a sink failed; with exit code 7 if some results were written before.
    """
    writer = SinkWriter(sinks, stream.times)

    def on_source_event(event: SourceEvent) -> None:
        meter.report(event)
        writer.put(event)

    stream.on_source_event = on_source_event
    frames = 0
    try:
        writer.start(stream.header)
        with closing(iter(stream)) as results:
            for result in results:
                writer.put(result)
                frames += 1
                meter()
    except HoiclipError as error:
        if frames:
            error.exit_code = PARTIAL
        raise
    except KeyboardInterrupt:
        writer.abandon()
        raise
    finally:
        stream.close()
        summary = stream.summary
        writer.finish(summary)
    return summary
