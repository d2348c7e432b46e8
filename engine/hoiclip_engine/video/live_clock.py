"""Time of a live source: the source's own while it lasts, and by the wall clock across its losses and jumps.

Pure arithmetic; nothing here waits or looks at a clock.
"""

from __future__ import annotations

from fractions import Fraction

from hoiclip_engine.video.timestamps import RESTART_S, SQUEEZE_S, seconds

JUMP_S = 10.0
"""A step longer than the time that passed by this much is a new clock; buffers hold less, those of HLS included."""


class LiveClock:
    """Strictly increasing seconds for frames in order of arrival."""

    def __init__(self) -> None:
        self.missing = 0
        self.repaired = 0
        self.last_s: float | None = None
        """Of the frame before; None before the first."""
        self._arrived_s = 0.0
        self._offset_s: float | None = None
        self._step_s = SQUEEZE_S

    def restart(self, step_s: float) -> None:
        """The next frame comes from a new connection: its time stamps mean nothing to those before.

        RTSP often has no time stamp for its first frame and brings it in one burst with the second: step_s is their
        distance then.
        """
        self._offset_s, self._step_s = None, step_s

    def next(self, pts: int | None, time_base: Fraction | None, arrived_s: float) -> float:
        """Seconds of the next frame.

        Args:
            pts: as the stream gives it, or None.
            time_base: of pts.
            arrived_s: by a clock that only goes forward.
        """
        raw_s = seconds(pts, time_base)
        self.missing += raw_s is None
        if self.last_s is None:
            now_s = 0.0 if raw_s is None else self._anchor(raw_s, raw_s)
        else:
            now_s = self._after(self.last_s, raw_s, max(SQUEEZE_S, arrived_s - self._arrived_s))
        if raw_s is not None:
            self._step_s = SQUEEZE_S
        self.last_s, self._arrived_s = now_s, arrived_s
        return now_s

    def _after(self, last_s: float, raw_s: float | None, passed_s: float) -> float:
        by_wall_s = last_s + passed_s
        if raw_s is None:
            return by_wall_s
        if self._offset_s is None:
            return self._anchor(raw_s, last_s + max(passed_s, self._step_s))
        now_s = raw_s + self._offset_s
        if last_s < now_s <= by_wall_s + JUMP_S:
            return now_s
        self.repaired += 1
        if last_s - RESTART_S <= now_s <= last_s:
            return last_s + SQUEEZE_S
        return self._anchor(raw_s, by_wall_s)

    def _anchor(self, raw_s: float, now_s: float) -> float:
        self._offset_s = now_s - raw_s
        return now_s
