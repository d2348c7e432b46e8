"""Sources around a film that a measurement needs: one that hands out a frame when asked, one that times decoding."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.video.frame_source import FrameSource, SourceCounters, SourceInfo

_KEPT = 256
"""Decoding times of frames whose results have not come; skipped ones never do."""


class Wrapped:
    """Another source, but for its frames."""

    is_live = False

    def __init__(self, source: FrameSource) -> None:
        self._source = source

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def counters(self) -> SourceCounters:
        return self._source.counters

    def stop(self) -> None:
        self._source.stop()

    def close(self) -> None:
        self._source.close()


class TimedDecoding(Wrapped):
    """Knows how long each frame took to decode, waiting for anybody not counted."""

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source)
        self.is_live = source.is_live
        self._ms: dict[int, float] = {}

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        items = iter(self._source)
        while True:
            started = time.monotonic()
            item = next(items, None)
            if item is None:
                return
            if isinstance(item, Frame):
                self._ms[item.index] = (time.monotonic() - started) * 1e3
                self._ms.pop(item.index - _KEPT, None)
            yield item

    def take_ms(self, index: int) -> float:
        return self._ms.pop(index, 0.0)


class OnDemand(Wrapped):
    """A live source that decodes its next frame when `release` says so: closed load."""

    is_live = True

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source)
        self._turns, self._stopped = threading.Semaphore(0), False

    def release(self) -> None:
        self._turns.release()

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        items = iter(self._source)
        while True:
            self._turns.acquire()
            item = next(items, None)
            if self._stopped or item is None:
                return
            yield replace(item, read_s=time.monotonic()) if isinstance(item, Frame) else item

    def stop(self) -> None:
        self._stopped = True
        self._turns.release()
        super().stop()

    def close(self) -> None:
        self._stopped = True
        self._turns.release()
        super().close()
