"""A film that starts over when it ends, on a clock that goes on: for measurements that last longer than a film."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.video.frame_source import FrameSource, SourceCounters, SourceInfo
from hoiclip_engine.video.timestamps import nominal_step_s


class Repeated:
    """Every pass is decoded anew. A film without frames ends at once."""

    is_live = False

    def __init__(self, opened: Callable[[], FrameSource], until_s: float = float("inf")) -> None:
        """
        Args:
            opened: opens the film; called once for every pass.
            until_s: where it ends, on its own clock.
        """
        self._opened, self._until_s = opened, until_s
        self._source = opened()
        self._delivered = 0
        self._stopped = False

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def counters(self) -> SourceCounters:
        return replace(self._source.counters, decoded=self._delivered)

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        started_s, last_s = 0.0, 0.0
        while not self._stopped:
            before = self._delivered
            for frame in self._source:
                if self._stopped:
                    return
                if isinstance(frame, SourceEvent):
                    yield frame
                    continue
                last_s = started_s + frame.pts_s
                if last_s >= self._until_s:
                    return
                yield replace(frame, pts_s=last_s, index=self._delivered)
                self._delivered += 1
            if self._delivered == before:
                return
            self._source.close()
            self._source, started_s = self._opened(), last_s + nominal_step_s(self._source.info.average_rate)

    def stop(self) -> None:
        self._stopped = True
        self._source.stop()

    def close(self) -> None:
        self._stopped = True
        self._source.close()
