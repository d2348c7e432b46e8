"""Clocks that turn the timestamps of files and live streams into strictly increasing seconds.

Pure arithmetic: nothing here knows containers or reads a clock. The timestamps of a file are trusted until they cannot
be true: until they stand still, run backwards or, in containers that allow it, jump. Some frames are read in advance to
distinguish a new clock from a wild timestamp, and both from timestamps in decoding order. A live source keeps its own
clock while a connection lasts, and the wall clock bridges its losses and jumps.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import TypeVar

T = TypeVar("T")
FALLBACK_RATE = Fraction(25)
MAX_SANE_RATE = 300
"""Containers without a known rate declare 1000, 90000 and the like."""
RESTART_S = 1.0
"""A live clock that steps back by more than this has restarted; less is a frame out of order."""
SQUEEZE_S = 0.001
"""Distance of a repaired frame from the one before it; one tick of Matroska, so that it survives muxing."""
MAX_SANE_S = 1e10
"""Three hundred years; beyond it a timestamp is garbage, and floats lose the microseconds."""
MAX_WINDOW = 16
"""Frames read in advance; H.264 and HEVC reorder no frame further than that."""
JUMP_S = 10.0
"""A longer step forward is a new clock where the container allows one; ffmpeg's dts_delta_threshold."""
LIVE_JUMP_S = 10.0
"""A step of a live clock that exceeds the elapsed time by more is a new clock; buffers hold less, also in HLS."""
_HISTORY = 15


def nominal_step_s(*rates: Fraction | None) -> float:
    """Seconds between frames, by the first plausible rate."""
    for rate in rates:
        if rate is not None and 0 < rate <= MAX_SANE_RATE:
            return float(1 / rate)
    return float(1 / FALLBACK_RATE)


def pts_to_seconds(pts: int | None, time_base: Fraction | None) -> float | None:
    """Converts a timestamp to seconds; None where it is missing or implausible."""
    if pts is None or not time_base:
        return None
    value = pts * time_base.numerator / time_base.denominator
    return value if math.isfinite(value) and abs(value) <= MAX_SANE_S else None


class PresentationClock:
    """Times consecutive frames in strictly increasing seconds.

    Where a file was spliced from pieces, the steps within a piece are kept. The step between two pieces is that of the
    first, unless the second begins later on the same clock: that is a pause.
    """

    def __init__(self, step_s: float, *, may_jump: bool = False, window: int = MAX_WINDOW) -> None:
        """Starts before the first frame.

        Args:
            step_s: distance between frames assumed where timestamps are missing.
            may_jump: whether the container allows clocks that jump, so that a jump is no pause (MPEG-TS and the like).
            window: frames that are read before one is timed.
        """
        if not step_s > 0:
            raise ValueError(f"step_s must be positive, got {step_s}")
        self.missing = 0
        """Frames without a timestamp."""
        self.repaired = 0
        """Timestamps that were moved, and clocks that were joined to the previous one."""
        self._step_s, self._may_jump, self._window = step_s, may_jump, window
        self._upcoming: deque[float | None] = deque()
        """Timestamps of the next frames, on the clock of the last one."""
        self._history: deque[float] = deque(maxlen=_HISTORY)
        """Latest steps between timestamps of the file."""
        self._offset_s = 0.0
        self._last_s: float | None = None
        self._since_sorted = math.inf
        self._restarts: list[str] = []
        self._pauses: list[str] = []

    def timed(
        self, frames: Iterable[T], timestamp_s: Callable[[T], float | None]
    ) -> Generator[tuple[T, float], None, None]:
        """Yields frames with their presentation times in seconds.

        Args:
            frames: in presentation order; up to a window of them is read in advance.
            timestamp_s: returns the timestamp of a frame in the file, in seconds; None for none.
        """
        waiting: deque[T] = deque()
        for frame in frames:
            raw_s = timestamp_s(frame)
            waiting.append(frame)
            self._upcoming.append(None if raw_s is None else raw_s + self._offset_s)
            if len(waiting) > self._window:
                yield waiting.popleft(), self._next()
        while waiting:
            yield waiting.popleft(), self._next()

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for every kind of repair so far, and for long pauses that were kept."""
        lines = [_describe("its clock starts anew or leaps", self._restarts, "joined")] if self._restarts else []
        moved = self.repaired - len(self._restarts)
        if moved:
            lines.append(f"{moved} wrong timestamps, timed by the frames around them")
        if self.missing:
            lines.append(f"{self.missing} missing timestamps, timed by the frames around them")
        if self._pauses:
            lines.append(_describe("its clock jumps ahead", self._pauses, "kept as a pause"))
        return tuple(lines)

    def _next(self) -> float:
        upcoming, last_s = self._upcoming, self._last_s
        steps = [*self._history, *_forward(upcoming)]
        step_s = median_low(steps) if steps else self._step_s
        self._sort_decoding_order(step_s)
        given_s = now_s = upcoming[0]
        repaired = self.repaired
        if now_s is None:
            self.missing += 1
            now_s = self._interpolate(step_s)
        elif last_s is None:
            now_s = self._first_time(now_s, step_s)
        elif now_s <= last_s or self._is_jump(now_s - last_s, step_s) or self._outlier_count(step_s):
            now_s = self._repair(now_s, last_s, step_s)
        if last_s is not None:
            if now_s <= last_s:
                self.repaired += given_s is not None and repaired == self.repaired
                now_s = last_s + min(SQUEEZE_S, step_s / 2)
            elif given_s is not None and repaired == self.repaired:
                self._history.append(now_s - last_s)
                if now_s - last_s > max(JUMP_S, 3 * step_s):
                    self._pauses.append(f"by {now_s - last_s:.0f} s after {last_s:.2f} s")
        self._last_s = now_s
        upcoming.popleft()
        return now_s

    def _is_jump(self, forward_s: float, step_s: float) -> bool:
        return self._may_jump and forward_s > max(JUMP_S, 3 * step_s)

    def _interpolate(self, step_s: float) -> float:
        """Time of a frame without a timestamp: between its neighbours, or a step from one of them."""
        known = next(((n, stamp) for n, stamp in enumerate(self._upcoming) if stamp is not None), None)
        if self._last_s is None:
            return 0.0 if known is None else known[1] - known[0] * step_s
        if known is not None:
            apart_s = (known[1] - self._last_s) / (known[0] + 1)
            if 0 < apart_s <= 2 * step_s:
                return self._last_s + apart_s
        return self._last_s + step_s

    def _first_time(self, now_s: float, step_s: float) -> float:
        """Time of the first frame: its timestamp only if the following frames have the same clock."""
        next_s = self._upcoming[1] if len(self._upcoming) > 1 else None
        if (
            next_s is None
            or not (next_s <= now_s or self._is_jump(next_s - now_s, step_s))
            or not self._is_evenly_timed(1)
        ):
            return now_s
        self.repaired += 1
        return next_s - step_s

    def _repair(self, now_s: float, last_s: float, step_s: float) -> float:
        """Time of a frame that does not follow the previous one."""
        back = self._outlier_count(step_s)
        if back:
            until_s = self._upcoming[back]
            assert until_s is not None
            for n in range(back):
                self._upcoming[n] = last_s + (until_s - last_s) * (n + 1) / (back + 1)
            self.repaired += back
            return last_s + (until_s - last_s) / (back + 1)
        gap_s = median_low(self._history) if self._history else step_s
        shift_s = last_s + gap_s - now_s
        self._offset_s += shift_s
        for n, stamp in enumerate(self._upcoming):
            self._upcoming[n] = None if stamp is None else stamp + shift_s
        self.repaired += 1
        self._restarts.append(f"by {now_s - last_s:+.2f} s after {last_s:.2f} s")
        return last_s + gap_s

    def _outlier_count(self, step_s: float) -> int:
        """Number of misplaced frames before the previous clock resumes; 0 if it does not, or if none is misplaced.

        Frames that are evenly timed among themselves are not misplaced: they have a clock of their own.
        """
        last_s, wild_s = self._last_s, self._upcoming[0]
        if last_s is None or wild_s is None or self._is_usual_step(wild_s - last_s, step_s):
            return 0
        for n in range(1, len(self._upcoming)):
            stamp = self._upcoming[n]
            if stamp is None or self._is_evenly_timed(n - 1):
                return 0
            # A single frame far later than both its neighbours says nothing about the distance between these.
            reach_s = wild_s - last_s if n == 1 and wild_s - last_s > JUMP_S else 2 * step_s * (n + 1)
            if last_s < stamp <= last_s + reach_s and (stamp < wild_s or wild_s <= last_s):
                return n
        return 0

    def _is_usual_step(self, forward_s: float, step_s: float) -> bool:
        """Whether a step forward is similar to those before or around it."""
        history = self._history
        usual_s = max(step_s, median_low(history)) if history else step_s
        return 0 < forward_s <= 2 * usual_s or bool(history and _same_step(forward_s, history[-1]))

    def _is_evenly_timed(self, n: int) -> bool:
        """Whether frame n is evenly timed with those that follow it."""
        after = [stamp for stamp in list(self._upcoming)[n : n + 3] if stamp is not None]
        steps = [b - a for a, b in pairwise(after)]
        if not steps or steps[0] <= 0:
            return False
        as_before = len(self._history) > 2 and all(_same_step(step, steps[0]) for step in self._history)
        return as_before or (len(steps) > 1 and _same_step(steps[0], steps[1]))

    def _sort_decoding_order(self, step_s: float) -> None:
        """Sorts timestamps in decoding order: those of B-frames in containers without presentation times.

        Sorted timestamps are used where they are even and the given ones are not.
        """
        self._since_sorted += 1
        stamps = [stamp for stamp in self._upcoming if stamp is not None]
        if self._upcoming[0] is None or all(a < b for a, b in pairwise(stamps)):
            return
        ordered = sorted(set(stamps))
        if len(ordered) < len(stamps) or (self._last_s is not None and ordered[0] <= self._last_s):
            return
        before = [] if self._last_s is None else [self._last_s]
        even_s = median_low(self._history or _forward(ordered))
        odd_sorted = sum(not _same_step(b - a, even_s) for a, b in pairwise([*before, *ordered]))
        odd_given = sum(not _same_step(b - a, step_s) for a, b in pairwise([*before, *stamps]))
        margin = 0 if self._since_sorted <= self._window else 2
        if odd_sorted + margin > odd_given:
            return
        self._since_sorted = 0
        at = self._upcoming.index(ordered[0])
        if at:
            self._upcoming[at], self._upcoming[0] = self._upcoming[0], ordered[0]
            self.repaired += 1


class LiveClock:
    """Times frames of a live source in order of arrival, in strictly increasing seconds."""

    def __init__(self) -> None:
        self.missing = 0
        self.repaired = 0
        self.last_s: float | None = None
        """Time of the previous frame; None before the first."""
        self._arrived_s = 0.0
        self._offset_s: float | None = None
        self._step_s = SQUEEZE_S

    def restart(self, step_s: float) -> None:
        """Expects the next frame from a new connection, whose timestamps are unrelated to the earlier ones.

        RTSP often has no timestamp for the first frame and delivers it in a burst with the second: step_s is then the
        distance between them.
        """
        self._offset_s, self._step_s = None, step_s

    def next(self, pts: int | None, time_base: Fraction | None, arrived_s: float) -> float:
        """Time of the next frame in seconds.

        Args:
            pts: timestamp of the stream, or None.
            time_base: of pts.
            arrived_s: arrival by a monotonic clock.
        """
        raw_s = pts_to_seconds(pts, time_base)
        self.missing += raw_s is None
        if self.last_s is None:
            now_s = 0.0 if raw_s is None else self._anchor(raw_s, raw_s)
        else:
            now_s = self._next_after(self.last_s, raw_s, max(SQUEEZE_S, arrived_s - self._arrived_s))
        if raw_s is not None:
            self._step_s = SQUEEZE_S
        self.last_s, self._arrived_s = now_s, arrived_s
        return now_s

    def _next_after(self, last_s: float, raw_s: float | None, passed_s: float) -> float:
        by_wall_s = last_s + passed_s
        if raw_s is None:
            return by_wall_s
        if self._offset_s is None:
            return self._anchor(raw_s, last_s + max(passed_s, self._step_s))
        now_s = raw_s + self._offset_s
        if last_s < now_s <= by_wall_s + LIVE_JUMP_S:
            return now_s
        self.repaired += 1
        if last_s - RESTART_S <= now_s <= last_s:
            return last_s + SQUEEZE_S
        return self._anchor(raw_s, by_wall_s)

    def _anchor(self, raw_s: float, now_s: float) -> float:
        self._offset_s = now_s - raw_s
        return now_s


def _forward(stamps: Iterable[float | None]) -> list[float]:
    """Positive steps between neighbours that both have a timestamp."""
    return [b - a for a, b in pairwise(stamps) if a is not None and b is not None and b > a]


def _same_step(step_s: float, other_s: float) -> bool:
    """Whether two steps are equal up to rounding: ticks of a millisecond, as in Matroska and FLV, round either."""
    return abs(step_s - other_s) <= 0.0015 + 0.05 * abs(other_s)


def _describe(subject: str, places: Sequence[str], done: str) -> str:
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{subject} {places[0]}{more}; {done}"
