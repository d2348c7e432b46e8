"""Presentation times that always go forward, kept as the file gives them wherever that is possible.

Pure arithmetic on numbers; nothing here knows a container.
"""

from __future__ import annotations

import math
from fractions import Fraction

FALLBACK_RATE = Fraction(25)
MAX_SANE_RATE = 300
"""Containers that do not know write 1000, 90000 and the like."""
RESTART_S = 1.0
"""A step back by more than this is a clock that started anew, not a frame out of place."""
SQUEEZE_S = 0.001
"""How far a repaired frame follows the one before it; one tick of Matroska, so that it survives being written."""
MAX_SANE_S = 1e10
"""Three hundred years; beyond that a time stamp is garbage, and floats lose the microseconds."""


def nominal_step_s(*rates: Fraction | None) -> float:
    """Seconds between frames by the first rate that can be true."""
    for rate in rates:
        if rate is not None and 0 < rate <= MAX_SANE_RATE:
            return float(1 / rate)
    return float(1 / FALLBACK_RATE)


class PresentationClock:
    """Turns the time stamps of consecutive frames into strictly increasing seconds."""

    def __init__(self, step_s: float) -> None:
        """Starts before the first frame; step_s is the distance assumed after a frame without a time stamp."""
        if not step_s > 0:
            raise ValueError(f"step_s must be positive, got {step_s}")
        self.missing = 0
        self.repaired = 0
        self._step_s = step_s
        self._squeeze_s = min(SQUEEZE_S, step_s / 2)
        self._offset_s = 0.0
        self._last_s: float | None = None

    def next(self, pts: int | None, time_base: Fraction | None) -> float:
        """Seconds of the next frame in presentation order."""
        raw_s = seconds(pts, time_base)
        if raw_s is None:
            self.missing += 1
            now_s = 0.0 if self._last_s is None else self._last_s + self._step_s
        else:
            now_s = raw_s + self._offset_s
        if self._last_s is not None and now_s <= self._last_s:
            now_s = self._repair(now_s, self._last_s)
        self._last_s = now_s
        return now_s

    def _repair(self, now_s: float, last_s: float) -> float:
        self.repaired += 1
        if last_s - now_s <= RESTART_S:
            return last_s + self._squeeze_s
        # A concatenated recording: shift all that follows, so that its own intervals survive.
        self._offset_s += last_s + self._step_s - now_s
        return last_s + self._step_s


def seconds(pts: int | None, time_base: Fraction | None) -> float | None:
    """A time stamp in seconds, None where there is none or where it cannot be one."""
    if pts is None or not time_base:
        return None
    value = pts * time_base.numerator / time_base.denominator
    return value if math.isfinite(value) and abs(value) <= MAX_SANE_S else None
