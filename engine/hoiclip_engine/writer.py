"""Writes results in a thread of its own, so that encoding and disks overlap with looking.

Results wait in a bounded queue: sinks that are too slow slow the stream, which then skips frames where its policy
allows, and counts them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from hoiclip.errors import HoiclipError
from hoiclip_engine.clock import StageTimes
from hoiclip_engine.frame import SourceEvent
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary, Sink

QUEUE_RESULTS = 4
"""Results waiting at most; each holds its frame's picture."""


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
            BaseException: what a sink raised for a result before.
        """
        self._results.put(result)
        if self._failure is not None:
            raise self._failure

    def abandon(self) -> None:
        """Whoever waits for a sink that hangs has had enough: nothing more is written or finished."""
        self._started.clear()
        self._abandoned = True

    def finish(self, summary: RunSummary) -> None:
        """Writes what waits and finishes each sink, even where another one fails.

        Raises:
            BaseException: the first failure that nobody has been told of.
        """
        failure: BaseException | None = None
        if self._thread.is_alive() and not self._abandoned:
            told = self._failure
            self._results.put(None)
            self._thread.join()
            failure = self._failure if told is None else None
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
                continue  # room for whoever waits to be told
            try:
                with self._times.measure("write"):
                    for sink in self._sinks:
                        if isinstance(result, SourceEvent):
                            sink.source_event(result)
                        else:
                            sink.write(result)
            except BaseException as error:
                self._failure = error
