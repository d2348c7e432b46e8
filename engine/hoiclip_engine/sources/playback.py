"""Playback of files: in real time, as if they were cameras, or repeatedly, for measurements longer than a video.

`PacedSource` delivers each frame when it is due, for `--policy latest` on recordings and for overload tests. It drops
nothing itself: a slow reader gets late frames at once, one after the other, and has to skip.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

from hoiclip_engine.sources.base import FrameSource, SourceCounters, SourceInfo
from hoiclip_engine.sources.timestamps import nominal_step_s
from hoiclip_engine.types.frame import Frame, SourceEvent


class Pacer:
    """Waits until a frame is due. Its clock starts with the first frame."""

    def __init__(self, speed: float = 1.0, max_late_s: float = math.inf) -> None:
        """Speed 3 is three times as fast; a frame later than max_late_s restarts the clock.

        Raises:
            ValueError: speed is not positive and finite.
        """
        if not 0 < speed < math.inf:
            raise ValueError(f"speed must be positive, got {speed}")
        self._speed, self._max_late_s = speed, max_late_s
        self._zero_s: float | None = None

    def wait(self, pts_s: float, stopped: threading.Event) -> bool:
        """Returns when the frame of this time is due; False if stopped meanwhile."""
        now_s, since_zero_s = time.monotonic(), pts_s / self._speed
        if self._zero_s is None or now_s - (self._zero_s + since_zero_s) > self._max_late_s:
            self._zero_s = now_s - since_zero_s
        return not stopped.wait(max(0.0, self._zero_s + since_zero_s - now_s))


class PacedSource:
    """Frames of a file in real time. The clock starts when the first frame is requested."""

    is_live = True

    def __init__(self, source: FrameSource, speed: float = 1.0) -> None:
        """Takes ownership of the source; speed 3 plays three times as fast.

        Raises:
            ValueError: speed is not positive and finite.
        """
        self._source, self._pacer = source, Pacer(speed)
        self._stopped = threading.Event()
        self._delivered = 0
        self._frames = self._play()

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def counters(self) -> SourceCounters:
        """Current counts; a frame counts when it is due, not when it is decoded early."""
        return replace(self._source.counters, decoded=self._delivered)

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        return self._frames

    def stop(self) -> None:
        """Ends the wait for a frame, and the video."""
        self._stopped.set()
        self._source.stop()

    def close(self) -> None:
        """Frees the file; may be called twice. Iteration ends."""
        self._stopped.set()
        self._frames.close()
        self._source.close()

    def _play(self) -> Generator[Frame | SourceEvent, None, None]:
        for frame in self._source:
            if isinstance(frame, SourceEvent):
                yield frame
                continue
            if not self._pacer.wait(frame.pts_s, self._stopped):
                return
            self._delivered += 1
            yield replace(frame, read_s=time.monotonic())


class RepeatedSource:
    """Repeats a video on a continuous clock, decoding every pass anew. A video without frames ends at once."""

    is_live = False

    def __init__(self, open_video: Callable[[], FrameSource], until_s: float = float("inf")) -> None:
        """Opens the video for its first pass.

        Args:
            open_video: opens the video; called once for every pass.
            until_s: end on the continuous clock.
        """
        self._open_video, self._until_s = open_video, until_s
        self._source = open_video()
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
            self._source, started_s = self._open_video(), last_s + nominal_step_s(self._source.info.average_rate)

    def stop(self) -> None:
        self._stopped = True
        self._source.stop()

    def close(self) -> None:
        self._stopped = True
        self._source.close()
