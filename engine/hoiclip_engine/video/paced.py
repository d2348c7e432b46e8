"""Plays a file as if it were a camera: each frame when it is due, whether somebody is ready for it or not.

For `--policy latest` on recordings, and for tests of overload. It drops nothing itself: whoever reads too late gets
late frames at once, one after the other, and has to skip.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.video.frame_source import FrameSource, SourceCounters, SourceInfo


class Pacer:
    """Says when a frame is due. Its clock starts with the first frame."""

    def __init__(self, speed: float = 1.0, max_late_s: float = math.inf) -> None:
        """speed 3 is three times as fast; a frame later than max_late_s starts the clock anew.

        Raises:
            ValueError: speed is not positive and finite.
        """
        if not 0 < speed < math.inf:
            raise ValueError(f"speed must be positive, got {speed}")
        self._speed, self._max_late_s = speed, max_late_s
        self._zero_s: float | None = None

    def wait(self, pts_s: float, stopped: threading.Event) -> bool:
        """Comes back when the frame of this time is due: False if stopped meanwhile."""
        now_s, since_zero_s = time.monotonic(), pts_s / self._speed
        if self._zero_s is None or now_s - (self._zero_s + since_zero_s) > self._max_late_s:
            self._zero_s = now_s - since_zero_s
        return not stopped.wait(max(0.0, self._zero_s + since_zero_s - now_s))


class PacedSource:
    """Frames of a file in real time. The clock starts when the first frame is asked for."""

    is_live = True

    def __init__(self, source: FrameSource, speed: float = 1.0) -> None:
        """Takes the source over and closes it; speed 3 plays three times as fast.

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
        """As of now; a frame counts when it is due, not when it is decoded ahead."""
        return replace(self._source.counters, decoded=self._delivered)

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        return self._frames

    def stop(self) -> None:
        """Ends the wait for a frame, and the film."""
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
