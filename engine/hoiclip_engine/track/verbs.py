"""Start and end of a pair's verbs: scores averaged over time, then switched with hysteresis.

Rows are pairs; their owner adds, drops and names them. Everything counts seconds, never frames. Thresholds verb by verb
that were fitted to a model (benchmarks/fit_tracking.py) are in its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.core.array_types import F64, I64, Bool

_PTS_GRAIN_S = 1e-6
"""Presentation times are rounded; a duration short by less than this is long enough."""

_SOON_S = 1.0
"""An action seldom ends and begins again within this."""
_CLEAR_DOUBT = 0.2
"""Doubt up to which active and inactive verbs differ so clearly that one inference is believed."""

_FIRST_S, _PEAK_S, _LAST_S, _PEAK = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbConfig:
    """Thresholds and delays of verbs. Times in seconds, so that 15 and 60 fps behave alike."""

    start_score: float = 0.4
    """Averaged score from which a verb may be active."""
    end_score: float = 0.15
    """Averaged score below which it has ended."""
    min_duration_s: float = 0.1
    """Seconds that the score must stay at start_score or above before the verb counts; a blip starts no event."""
    half_life_s: float = 0.1
    """Seconds after which an old score counts half; 0 turns averaging off."""
    settle_s: float = 0.8
    """Seconds that a change must last which undoes one of the last second, if it is barely beyond its threshold; the
    clearer it is, the less."""
    adapt: bool = True
    """Whether a stream's scores decide on their scale, unless verbs have their own thresholds, and on how much of
    min_duration_s and half_life_s they need: little where active and inactive verbs clearly differ."""
    start_scores: tuple[float, ...] = ()
    """start_score verb by verb, as fitted to a model; verbs beyond have start_score."""
    end_scores: tuple[float, ...] = ()
    """end_score likewise."""

    def __post_init__(self) -> None:
        if not 0 <= self.end_score <= self.start_score <= 1:
            raise ValueError(
                f"scores must be 0 <= end_score <= start_score <= 1, got {self.end_score}, {self.start_score}"
            )
        if len(self.start_scores) != len(self.end_scores):
            raise ValueError(
                f"start_scores and end_scores must be of the same verbs, got {len(self.start_scores)} and "
                f"{len(self.end_scores)}"
            )
        if not all(0 <= end <= start <= 1 for start, end in zip(self.start_scores, self.end_scores, strict=True)):
            raise ValueError(
                f"every verb's scores must be 0 <= end <= start <= 1, got {self.start_scores}, {self.end_scores}"
            )
        for name in ("min_duration_s", "half_life_s", "settle_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a number of seconds, 0 or more, got {getattr(self, name)}")

    def thresholds(self, num_verbs: int) -> tuple[F64, F64]:
        """(V,) start and (V,) end scores."""
        start, end = np.full(num_verbs, self.start_score), np.full(num_verbs, self.end_score)
        known = min(num_verbs, len(self.start_scores))
        start[:known], end[:known] = self.start_scores[:known], self.end_scores[:known]
        return start, end

    def fitted(self, scores: Mapping[str, tuple[float, float]], verbs: tuple[str, ...]) -> VerbConfig:
        """The config with start and end scores by verb; one that has scores of its own keeps them."""
        usual = VerbConfig()
        if self.start_scores or (self.start_score, self.end_score) != (usual.start_score, usual.end_score):
            return self
        start, end = zip(*(scores[verb] for verb in verbs), strict=True)
        return replace(self, start_scores=start, end_scores=end)


class RunningAverage:
    """Exponential averages of C scores for each of P rows, independent of the frame rate.

    A score stands for the time since the previous inference. The first one of a row stands for no time at all: it is
    all that is known at first, and the second one replaces it, so that a lone wrong score leaves no trace.
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

    def observe(self, rows: I64, scores: F64, pts_s: float, doubt: float = 1.0) -> F64:
        """Takes (N, C) scores of the given rows and returns their new averages.

        Args:
            doubt: fraction of the half-life that is needed.
        """
        half_life_s = doubt * self._half_life_s
        first = np.isnan(self._last_s[rows])
        elapsed_s = np.where(first, 0.0, pts_s - self._last_s[rows])
        half_lives = elapsed_s / half_life_s if half_life_s > 0 else np.full(len(rows), np.inf)
        weight = 1 - np.exp2(-half_lives)
        total = self._weight[rows] * (1 - weight) + weight
        gain = np.where(first, 1.0, np.divide(weight, total, out=np.zeros_like(total), where=total > 0))
        self._weight[rows], self._last_s[rows] = total, pts_s
        averages: F64 = (1 - gain[:, None]) * self.mean[rows] + gain[:, None] * scores
        self.mean[rows] = averages
        return averages


@dataclass(frozen=True, slots=True)
class VerbHistory:
    """Start, peak and evidence of a verb that is active, or has just ended."""

    start_s: float
    peak_score: float
    evidence_s: tuple[float, ...]
    """Times of inferences, in order, none twice: the first, the best, the last from start_score on."""


@dataclass(frozen=True, slots=True)
class VerbChange:
    """Start or end of a row's verb."""

    row: int
    verb: int
    starts: bool
    pts_s: float
    """Time of its start, min_duration_s before it counted; or time at which its end was noticed."""
    history: VerbHistory


class VerbSwitch:
    """Active verbs, of V, for each of P rows."""

    def __init__(self, num_verbs: int, config: VerbConfig) -> None:
        self._config = config
        self._start, self._end = config.thresholds(num_verbs)
        self.active = np.empty((0, num_verbs), bool)
        self._since_s = np.empty((0, num_verbs))  # time at which the score rose to start_score; nan below it
        self._until_s = np.empty((0, num_verbs))  # time at which it fell below end_score; nan above it
        self._changed_s = np.empty((0, num_verbs))  # of the last change
        self._histories = np.zeros((4, 0, num_verbs))  # since it last began to rise: _FIRST_S, _PEAK_S, _LAST_S, _PEAK

    def add(self, count: int) -> None:
        """New rows at the end with every verb off."""
        verbs = self.active.shape[1]
        self.active = np.concatenate([self.active, np.zeros((count, verbs), bool)])
        self._since_s = np.concatenate([self._since_s, np.full((count, verbs), np.nan)])
        self._until_s = np.concatenate([self._until_s, np.full((count, verbs), np.nan)])
        self._changed_s = np.concatenate([self._changed_s, np.full((count, verbs), -np.inf)])
        self._histories = np.concatenate([self._histories, np.zeros((4, count, verbs))], axis=1)

    def keep(self, rows: Bool) -> None:
        """Drops the rows where `rows` is False."""
        self.active, self._since_s, self._histories = self.active[rows], self._since_s[rows], self._histories[:, rows]
        self._until_s, self._changed_s = self._until_s[rows], self._changed_s[rows]

    def widen(self, num_verbs: int) -> None:
        """Further verbs at the end, all of them off."""
        more = ((0, 0), (0, num_verbs - self.active.shape[1]))
        self._start, self._end = self._config.thresholds(num_verbs)
        self.active, self._since_s = np.pad(self.active, more), np.pad(self._since_s, more, constant_values=np.nan)
        self._until_s = np.pad(self._until_s, more, constant_values=np.nan)
        self._changed_s = np.pad(self._changed_s, more, constant_values=-np.inf)
        self._histories = np.pad(self._histories, ((0, 0), *more))

    def observe(self, rows: I64, averages: F64, pts_s: float, doubt: float = 1.0) -> list[VerbChange]:
        """Takes (N, V) averaged scores of the given rows; changes come in the order of rows, then verbs.

        Args:
            doubt: fraction of min_duration_s that is needed. Where any is, a single inference suffices only if there is
                hardly any doubt, and the verb has not just changed.
        """
        high, low, active = averages >= self._start, averages < self._end, self.active[rows]
        rising = high & np.isnan(self._since_s[rows])
        since_s = np.where(high, np.where(rising, pts_s, self._since_s[rows]), np.nan)
        until_s = np.where(low, np.fmin(self._until_s[rows], pts_s), np.nan)
        soon = pts_s - self._changed_s[rows] < _SOON_S
        start_s, end_s = self._patience_s(averages, soon)
        at_once = (~soon & (doubt <= _CLEAR_DOUBT)) | (self._config.min_duration_s == 0)
        least_s = np.where(at_once, 0.0, doubt * self._config.min_duration_s)
        begun = ~active & (pts_s - since_s >= np.maximum(least_s, start_s) - _PTS_GRAIN_S)
        begun &= at_once | (pts_s > since_s)
        ended = active & (pts_s - until_s >= end_s - _PTS_GRAIN_S)
        if doubt < 1:  # without an average to bridge it, a lone miss must not end anything either
            ended &= at_once | (pts_s > until_s)
        self._since_s[rows], self._until_s[rows] = since_s, until_s
        self._remember(rows, averages, pts_s, rising & ~active, high)
        self.active[rows] = (active | begun) & ~ended
        self._changed_s[rows] = np.where(begun | ended, pts_s, self._changed_s[rows])
        return [self._change(int(rows[n]), int(v), bool(begun[n, v]), pts_s) for n, v in np.argwhere(begun | ended)]

    def _patience_s(self, averages: F64, soon: Bool) -> tuple[F64, F64]:
        """(N, V) seconds that starts and ends must last which would undo a change of a moment ago (`soon`)."""
        settle_s = np.where(soon, self._config.settle_s, 0.0)
        beyond = np.clip(averages / np.maximum(self._start, _PTS_GRAIN_S) - 1, 0, 1)
        below = np.clip(1 - averages / np.maximum(self._end, _PTS_GRAIN_S), 0, 1)
        return settle_s * (1 - beyond), settle_s * (1 - below)

    def _remember(self, rows: I64, averages: F64, pts_s: float, new: Bool, high: Bool) -> None:
        histories = self._histories[:, rows]
        histories[_FIRST_S][new] = pts_s
        best = new | (averages > histories[_PEAK])
        histories[_PEAK_S][best] = pts_s
        histories[_PEAK][best] = averages[best]
        histories[_LAST_S][high] = pts_s
        self._histories[:, rows] = histories

    def _change(self, row: int, verb: int, starts: bool, pts_s: float) -> VerbChange:
        history = self.history(row, verb)
        return VerbChange(row, verb, starts, history.start_s if starts else pts_s, history)

    def history(self, row: int, verb: int) -> VerbHistory:
        """History of an active verb."""
        first_s, peak_s, last_s, peak = self._histories[:, row, verb].tolist()
        return VerbHistory(first_s, peak, tuple(sorted({first_s, peak_s, last_s})))

    def active_verbs(self, row: int) -> list[int]:
        """Indices of a row's active verbs."""
        return [int(verb) for verb in np.flatnonzero(self.active[row])]
