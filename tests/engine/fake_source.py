"""A source of frames made on demand, which records how it was used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from hoiclip_engine.sources.base import SourceCounters, SourceInfo
from hoiclip_engine.types.frame import Frame, SourceEvent


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hoiclip-decode"]


class FakeSource:
    """Records the number of frames requested, and the thread that closed it."""

    def __init__(
        self,
        count: int,
        *,
        period_s: float | None = None,
        size_px: Callable[[int], tuple[int, int]] = lambda index: (64, 48),
        fail_at: int | None = None,
        error: BaseException | None = None,
        events: dict[int, SourceEvent] | None = None,
    ) -> None:
        """Creates a source of count frames.

        Args:
            period_s: of a live source; None for one that waits.
            events: delivered before the frame of their index.
        """
        self.made = self.closed = 0
        self.is_live = period_s is not None
        self.closed_by: threading.Thread | None = None
        self._count, self._size_px, self._fail_at, self._period_s = count, size_px, fail_at, period_s
        self._error = error or RuntimeError("decoder broke")
        self._events = events or {}
        self._stopped = threading.Event()
        self.info = SourceInfo(
            name="fake",
            width_px=64,
            height_px=48,
            time_base=Fraction(1, 1000),
            frames_declared=count,
            duration_s=None,
            average_rate=Fraction(25),
            codec="fake",
            pixel_format="rgb24",
            is_photo=False,
            rotation_deg=0,
        )

    @property
    def counters(self) -> SourceCounters:
        return SourceCounters(decoded=self.made, decode_errors=2, pts_missing=1, pts_repaired=3, reconnects=0)

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        begun_s = time.monotonic()
        for index in range(self._count):
            if index == self._fail_at:
                raise self._error
            if index in self._events:
                yield self._events[index]
            if self._period_s is not None:
                due_s = begun_s + index * self._period_s
                if self._stopped.wait(max(0.0, due_s - time.monotonic())):
                    return
            width_px, height_px = self._size_px(index)
            self.made += 1
            rgb = np.full((height_px, width_px, 3), index % 250, np.uint8)
            yield Frame(rgb, index / 25, index, time.monotonic())

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self.closed_by = threading.current_thread()
        self.closed += 1
