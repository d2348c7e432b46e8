"""Plays a file as if it were a camera: each frame when it is due, whether somebody is ready for it or not.

For `--policy latest` on recordings, and for tests of overload. It drops nothing itself: whoever reads too late gets late
frames at once, one after the other, and has to skip.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

from hoiclip_engine.frame import Frame
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo
from hoiclip_engine.video.source import VideoSource


class PacedSource:
    """Frames of a file in real time. The clock starts when the first frame is asked for."""

    is_live = True

    def __init__(self, source: VideoSource, speed: float = 1.0) -> None:
        """Takes the source over and closes it; speed 3 plays three times as fast.

        Raises:
            ValueError: speed is not positive and finite.
        """
        if not 0 < speed < float("inf"):
            raise ValueError(f"speed must be positive, got {speed}")
        self._source, self._speed = source, speed
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

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def stop(self) -> None:
        """Ends the wait for a frame, and the film."""
        self._stopped.set()

    def close(self) -> None:
        """Frees the file; may be called twice. Iteration ends."""
        self._stopped.set()
        self._frames.close()
        self._source.close()

    def _play(self) -> Generator[Frame, None, None]:
        started_s: float | None = None
        for frame in self._source:
            if started_s is None:
                started_s = time.monotonic() - frame.pts_s / self._speed
            due_s = started_s + frame.pts_s / self._speed
            if self._stopped.wait(max(0.0, due_s - time.monotonic())):
                return
            self._delivered += 1
            yield replace(frame, read_s=time.monotonic())
