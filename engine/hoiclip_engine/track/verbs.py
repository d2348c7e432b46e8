"""When verbs of a pair begin and end: scores averaged over time, then switched with hysteresis.

Rows are pairs; their owner adds, drops and names them. Everything counts seconds, never frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoiclip_engine.pairs import F64, I64, Bool

_PTS_GRAIN_S = 1e-6
"""Presentation times are rounded; a duration short by less than this is long enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbConfig:
    """How quickly verbs are believed. Times in seconds, so that 15 and 60 fps behave alike."""

    start_score: float = 0.4
    """Averaged score from which a verb may be going on."""
    end_score: float = 0.25
    """Averaged score below which it has ended."""
    min_duration_s: float = 0.2
    """Seconds that the score must stay at start_score or above before the verb counts; a blip starts no event."""
    half_life_s: float = 0.2
    """After how many seconds an old score counts half; 0 turns averaging off."""

    def __post_init__(self) -> None:
        if not 0 <= self.end_score <= self.start_score <= 1:
            raise ValueError(
                f"scores must be 0 <= end_score <= start_score <= 1, got {self.end_score}, {self.start_score}"
            )
        for name in ("min_duration_s", "half_life_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a number of seconds, 0 or more, got {getattr(self, name)}")


class RunningAverage:
    """Exponential averages of C scores for each of P rows, independent of the frame rate.

    A score stands for the time since the look before it. The first look of a row stands for no time at all: it is all
    that is known at first, and the second one replaces it, so that a lone wrong score leaves nothing behind.
    Source: first-order low-pass over the known time, y += w / (sum of weights) (x - y), w = 1 - 2^(-dt/h).
    """

    def __init__(self, columns: int, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self.mean = np.empty((0, columns))
        self._weight = np.empty(0)
        self._last_s = np.empty(0)

    def add(self, count: int) -> None:
        """New rows at the end, to be observed next."""
        self.mean = np.concatenate([self.mean, np.zeros((count, self.mean.shape[1]))])
        self._weight = np.append(self._weight, np.zeros(count))
        self._last_s = np.append(self._last_s, np.full(count, np.nan))

    def keep(self, rows: Bool) -> None:
        """Drops the rows where `rows` is False."""
        self.mean, self._weight, self._last_s = self.mean[rows], self._weight[rows], self._last_s[rows]

    def widen(self, columns: int) -> None:
        """Further columns at the end, in which nothing was seen so far."""
        self.mean = np.pad(self.mean, ((0, 0), (0, columns - self.mean.shape[1])))

    def observe(self, rows: I64, scores: F64, pts_s: float) -> F64:
        """Takes (N, C) scores of the given rows and returns their new averages."""
        first = np.isnan(self._last_s[rows])
        elapsed_s = np.where(first, 0.0, pts_s - self._last_s[rows])
        half_lives = elapsed_s / self._half_life_s if self._half_life_s > 0 else np.full(len(rows), np.inf)
        weight = 1 - np.exp2(-half_lives)
        total = self._weight[rows] * (1 - weight) + weight
        gain = np.where(first, 1.0, np.divide(weight, total, out=np.zeros_like(total), where=total > 0))
        self._weight[rows], self._last_s[rows] = total, pts_s
        averages: F64 = (1 - gain[:, None]) * self.mean[rows] + gain[:, None] * scores
        self.mean[rows] = averages
        return averages


@dataclass(frozen=True, slots=True)
class VerbChange:
    """A verb of a row begins or ends."""

    row: int
    verb: int
    starts: bool
    pts_s: float
    """When it began, which was min_duration_s before it was believed; or when it was found to have ended."""


class VerbSwitch:
    """Which of V verbs is going on for each of P rows."""

    def __init__(self, num_verbs: int, config: VerbConfig) -> None:
        self._config = config
        self.active = np.empty((0, num_verbs), bool)
        self._since_s = np.empty((0, num_verbs))  # when the score rose to start_score; nan where it is below

    def add(self, count: int) -> None:
        """New rows at the end with every verb off."""
        verbs = self.active.shape[1]
        self.active = np.concatenate([self.active, np.zeros((count, verbs), bool)])
        self._since_s = np.concatenate([self._since_s, np.full((count, verbs), np.nan)])

    def keep(self, rows: Bool) -> None:
        """Drops the rows where `rows` is False."""
        self.active, self._since_s = self.active[rows], self._since_s[rows]

    def widen(self, num_verbs: int) -> None:
        """Further verbs at the end, all of them off."""
        more = ((0, 0), (0, num_verbs - self.active.shape[1]))
        self.active, self._since_s = np.pad(self.active, more), np.pad(self._since_s, more, constant_values=np.nan)

    def observe(self, rows: I64, averages: F64, pts_s: float) -> list[VerbChange]:
        """Takes (N, V) averaged scores of the given rows; changes come in the order of rows, then verbs."""
        high = averages >= self._config.start_score
        since_s = np.where(high & np.isnan(self._since_s[rows]), pts_s, self._since_s[rows])
        since_s[~high] = np.nan
        active = self.active[rows]
        begun = ~active & (pts_s - since_s >= self._config.min_duration_s - _PTS_GRAIN_S)
        ended = active & (averages < self._config.end_score)
        self._since_s[rows] = since_s
        self.active[rows] = (active | begun) & ~ended
        return [
            VerbChange(int(rows[n]), int(v), bool(begun[n, v]), float(since_s[n, v]) if begun[n, v] else pts_s)
            for n, v in np.argwhere(begun | ended)
        ]

    def active_verbs(self, row: int) -> list[int]:
        """The verbs of a row that are going on."""
        return [int(verb) for verb in np.flatnonzero(self.active[row])]
