"""Presentation times that always go forward, kept as the file gives them wherever that is possible.

Pure arithmetic on numbers; nothing here knows a container. A file's clock is trusted until its timestamps cannot be
true: until they stand still, run backwards or, in containers that allow it, leap. Some frames are read ahead then to
tell a new clock from a wild timestamp, and both from frames that are timed in the order of decoding.
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
"""Containers that do not know write 1000, 90000 and the like."""
RESTART_S = 1.0
"""A live clock that steps back by more than this started anew; less is a frame out of place."""
SQUEEZE_S = 0.001
"""How far a repaired frame follows the one before it; one tick of Matroska, so that it survives being written."""
MAX_SANE_S = 1e10
"""Three hundred years; beyond that a time stamp is garbage, and floats lose the microseconds."""
LOOK_AHEAD = 16
"""Frames; H.264 and HEVC move no frame further than that between decoding and presentation."""
JUMP_S = 10.0
"""A longer step ahead is a new clock where the container allows for one; ffmpeg's dts_delta_threshold."""
_HISTORY = 15


def nominal_step_s(*rates: Fraction | None) -> float:
    """Seconds between frames by the first rate that can be true."""
    for rate in rates:
        if rate is not None and 0 < rate <= MAX_SANE_RATE:
            return float(1 / rate)
    return float(1 / FALLBACK_RATE)


class PresentationClock:
    """Times consecutive frames in strictly increasing seconds.

    Whatever pieces a file was spliced of, the steps within a piece are kept. Between two pieces stands the step of the
    first, unless the second begins later on the same clock: that is a pause.
    """

    def __init__(self, step_s: float, *, may_jump: bool = False, look_ahead: int = LOOK_AHEAD) -> None:
        """Starts before the first frame.

        Args:
            step_s: distance assumed where no timestamps tell it.
            may_jump: the container allows for clocks that leap, so that a leap is no pause (MPEG-TS and the like).
            look_ahead: frames that are read before one is timed.
        """
        if not step_s > 0:
            raise ValueError(f"step_s must be positive, got {step_s}")
        self.missing = 0
        """Frames without a timestamp."""
        self.repaired = 0
        """Timestamps that were moved, and clocks that were joined to the one before."""
        self._step_s, self._may_jump, self._look_ahead = step_s, may_jump, look_ahead
        self._ahead: deque[float | None] = deque()
        """Timestamps of the next frames, on the clock of the last one."""
        self._history: deque[float] = deque(maxlen=_HISTORY)
        """Last steps that the file itself gave."""
        self._offset_s = 0.0
        self._last_s: float | None = None
        self._since_sorted = math.inf
        self._joins: list[str] = []
        self._pauses: list[str] = []

    def timed(
        self, frames: Iterable[T], stamp_s: Callable[[T], float | None]
    ) -> Generator[tuple[T, float], None, None]:
        """Frames in presentation order with their seconds.

        Args:
            frames: in presentation order; read some frames ahead.
            stamp_s: seconds that the file gives a frame, None for none.
        """
        waiting: deque[T] = deque()
        for frame in frames:
            raw_s = stamp_s(frame)
            waiting.append(frame)
            self._ahead.append(None if raw_s is None else raw_s + self._offset_s)
            if len(waiting) > self._look_ahead:
                yield waiting.popleft(), self._next()
        while waiting:
            yield waiting.popleft(), self._next()

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for every kind of repair so far, and for long pauses that were kept."""
        lines = [_times("its clock starts anew or leaps", self._joins, "joined")] if self._joins else []
        moved = self.repaired - len(self._joins)
        if moved:
            lines.append(f"{moved} wrong timestamps, timed by the frames around them")
        if self.missing:
            lines.append(f"{self.missing} missing timestamps, timed by the frames around them")
        if self._pauses:
            lines.append(_times("its clock jumps ahead", self._pauses, "kept as a pause"))
        return tuple(lines)

    def _next(self) -> float:
        ahead, last_s = self._ahead, self._last_s
        steps = [*self._history, *_forward(ahead)]
        step_s = median_low(steps) if steps else self._step_s
        self._sort_if_jumbled(step_s)
        given_s = now_s = ahead[0]
        repaired = self.repaired
        if now_s is None:
            self.missing += 1
            now_s = self._between(step_s)
        elif last_s is None:
            now_s = self._first(now_s, step_s)
        elif now_s <= last_s or self._leaps(now_s - last_s, step_s) or self._returns_at(step_s):
            now_s = self._mended(now_s, last_s, step_s)
        if last_s is not None:
            if now_s <= last_s:
                self.repaired += given_s is not None and repaired == self.repaired
                now_s = last_s + min(SQUEEZE_S, step_s / 2)
            elif given_s is not None and repaired == self.repaired:
                self._history.append(now_s - last_s)
                if now_s - last_s > max(JUMP_S, 3 * step_s):
                    self._pauses.append(f"by {now_s - last_s:.0f} s after {last_s:.2f} s")
        self._last_s = now_s
        ahead.popleft()
        return now_s

    def _leaps(self, forward_s: float, step_s: float) -> bool:
        return self._may_jump and forward_s > max(JUMP_S, 3 * step_s)

    def _between(self, step_s: float) -> float:
        """A frame without a timestamp stands between its neighbours, or a step from one of them."""
        known = next(((n, stamp) for n, stamp in enumerate(self._ahead) if stamp is not None), None)
        if self._last_s is None:
            return 0.0 if known is None else known[1] - known[0] * step_s
        if known is not None:
            apart_s = (known[1] - self._last_s) / (known[0] + 1)
            if 0 < apart_s <= 2 * step_s:
                return self._last_s + apart_s
        return self._last_s + step_s

    def _first(self, now_s: float, step_s: float) -> float:
        """The first frame, which counts only if the clock of those after it is the same."""
        next_s = self._ahead[1] if len(self._ahead) > 1 else None
        if next_s is None or not (next_s <= now_s or self._leaps(next_s - now_s, step_s)) or not self._linked(1):
            return now_s
        self.repaired += 1
        return next_s - step_s

    def _mended(self, now_s: float, last_s: float, step_s: float) -> float:
        """The time of a frame that does not follow the last one."""
        back = self._returns_at(step_s)
        if back:
            until_s = self._ahead[back]
            assert until_s is not None
            for n in range(back):
                self._ahead[n] = last_s + (until_s - last_s) * (n + 1) / (back + 1)
            self.repaired += back
            return last_s + (until_s - last_s) / (back + 1)
        gap_s = median_low(self._history) if self._history else step_s
        shift_s = last_s + gap_s - now_s
        self._offset_s += shift_s
        for n, stamp in enumerate(self._ahead):
            self._ahead[n] = None if stamp is None else stamp + shift_s
        self.repaired += 1
        self._joins.append(f"by {now_s - last_s:+.2f} s after {last_s:.2f} s")
        return last_s + gap_s

    def _returns_at(self, step_s: float) -> int:
        """How many frames are out of place before the last frame's clock goes on; 0 if it does not, or if none is.

        Frames that are evenly timed among themselves are not out of place: they have a clock of their own.
        """
        last_s, wild_s = self._last_s, self._ahead[0]
        if last_s is None or wild_s is None or self._usual(wild_s - last_s, step_s):
            return 0
        for n in range(1, len(self._ahead)):
            stamp = self._ahead[n]
            if stamp is None or self._linked(n - 1):
                return 0
            # A single frame that is far ahead of both its neighbours says nothing of how far these are apart.
            reach_s = wild_s - last_s if n == 1 and wild_s - last_s > JUMP_S else 2 * step_s * (n + 1)
            if last_s < stamp <= last_s + reach_s and (stamp < wild_s or wild_s <= last_s):
                return n
        return 0

    def _usual(self, forward_s: float, step_s: float) -> bool:
        """Whether a step ahead is one as those before or around it."""
        history = self._history
        usual_s = max(step_s, median_low(history)) if history else step_s
        return 0 < forward_s <= 2 * usual_s or bool(history and _same(forward_s, history[-1]))

    def _linked(self, n: int) -> bool:
        """Whether frame n is evenly timed with those that follow it."""
        after = [stamp for stamp in list(self._ahead)[n : n + 3] if stamp is not None]
        steps = [b - a for a, b in pairwise(after)]
        if not steps or steps[0] <= 0:
            return False
        as_before = len(self._history) > 2 and all(_same(step, steps[0]) for step in self._history)
        return as_before or (len(steps) > 1 and _same(steps[0], steps[1]))

    def _sort_if_jumbled(self, step_s: float) -> None:
        """Puts right what is timed in the order of decoding: B-frames in containers without presentation times.

        Sorted timestamps are believed where they are even and those given are not.
        """
        self._since_sorted += 1
        stamps = [stamp for stamp in self._ahead if stamp is not None]
        if self._ahead[0] is None or all(a < b for a, b in pairwise(stamps)):
            return
        ordered = sorted(set(stamps))
        if len(ordered) < len(stamps) or (self._last_s is not None and ordered[0] <= self._last_s):
            return
        before = [] if self._last_s is None else [self._last_s]
        even_s = median_low(self._history or _forward(ordered))
        odd_sorted = sum(not _same(b - a, even_s) for a, b in pairwise([*before, *ordered]))
        odd_given = sum(not _same(b - a, step_s) for a, b in pairwise([*before, *stamps]))
        margin = 0 if self._since_sorted <= self._look_ahead else 2
        if odd_sorted + margin > odd_given:
            return
        self._since_sorted = 0
        at = self._ahead.index(ordered[0])
        if at:
            self._ahead[at], self._ahead[0] = self._ahead[0], ordered[0]
            self.repaired += 1


def _forward(stamps: Iterable[float | None]) -> list[float]:
    """Steps ahead between neighbours that both have a timestamp."""
    return [b - a for a, b in pairwise(stamps) if a is not None and b is not None and b > a]


def _same(step_s: float, other_s: float) -> bool:
    """Whether two steps are one: ticks of a millisecond, as of Matroska and FLV, round either by up to one."""
    return abs(step_s - other_s) <= 0.0015 + 0.05 * abs(other_s)


def _times(what: str, places: Sequence[str], done: str) -> str:
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{what} {places[0]}{more}; {done}"


def seconds(pts: int | None, time_base: Fraction | None) -> float | None:
    """A time stamp in seconds, None where there is none or where it cannot be one."""
    if pts is None or not time_base:
        return None
    value = pts * time_base.numerator / time_base.denominator
    return value if math.isfinite(value) and abs(value) <= MAX_SANE_S else None
