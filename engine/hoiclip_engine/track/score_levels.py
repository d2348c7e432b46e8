"""Which scores of a stream can be trusted, learned from which detections are found again at the next one.

What is really there is found again; what a detector imagines comes and goes. The fraction found again, as a function
of the score, is small for scores that mean nothing and levels off where they mean something. Only the order of the
scores counts, so that a detector that says 0.4 where another says 0.9 is treated alike. What is done with the levels
is decided in entities.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from hoiclip_engine.pairs import F64, I64, Bool

_WINDOW = 512
"""Detections of a label that count, the newest ones: the scene and its light change."""
_LEAST = 32
"""Detections that must have been followed up before anything is learned from them."""
_REFIT_AFTER = 1 / 16
"""New detections, as a fraction of those known, after which levels are computed again."""
_HIGH, _LOW = 0.85, 0.5
"""Levels: the scores from which a detection is found again this often, compared with the best scores. By chance, next
to something else, one in three is; half of what is between chance and certainty is about 0.65, and starting a track
on nothing is worse than waiting."""
_CHANCE = 4.0
"""How much a few detections that were not found again are put down to chance: the more, the more often even the best
are missed, by the variance of that; 1 / sqrt(n) as much for n of them."""
_TOO_FEW = 4
"""Detections that were not found again, below which the others' scores do not speak against them."""
_LEAST_AGAIN = 0.5
"""Fraction of the best scores that must be found again; where even they come and go nothing can be learned."""


class ScoreLevels:
    """High and low scores by label. Keeps the last detections of each label, and of all of them together."""

    def __init__(self, high: float, low: float) -> None:
        """Args: high, low: levels until something is known."""
        self._usual = (high, low)
        self._all = _Window()
        self._by_label: dict[int, _Window] = {}

    def learn(self, labels: I64, scores: F64, again: Bool) -> None:
        """Takes (N,) labels and scores of detections, and whether each was found again at the next look."""
        if not len(labels):
            return
        self._all.add(scores, again, self._usual)
        for label in np.unique(labels).tolist():
            rows = labels == label
            self._by_label.setdefault(label, _Window()).add(scores[rows], again[rows], self._usual)

    def levels(self, labels: I64) -> tuple[F64, F64]:
        """(N,) high and (N,) low scores for detections of these labels."""
        found, row = np.unique(labels, return_inverse=True)
        known = np.array([self._of(label) for label in found.tolist()]).reshape(-1, 2)
        return known[row, 0], known[row, 1]

    def _of(self, label: int) -> tuple[float, float]:
        window = self._by_label.get(label)
        return (window and window.levels) or self._all.levels or self._usual


class _Window:
    """The last detections of a kind, in a ring."""

    def __init__(self) -> None:
        self._scores, self._again = np.empty(_WINDOW), np.empty(_WINDOW)
        self._count = self._since = 0
        self.levels: tuple[float, float] | None = None
        """None while nothing is known."""

    def add(self, scores: F64, again: Bool, usual: tuple[float, float]) -> None:
        scores, again = scores[-_WINDOW:], again[-_WINDOW:]
        places = (self._count + np.arange(len(scores))) % _WINDOW
        self._scores[places], self._again[places] = scores, again
        self._count += len(scores)
        self._since += len(scores)
        known = min(self._count, _WINDOW)
        if known >= _LEAST and self._since >= _REFIT_AFTER * known:
            self._since = 0
            high, low, flat = _fit(self._scores[:known], self._again[:known], _HIGH, _LOW)
            # Where the poorest scores seen are as good as the best, nothing speaks against poorer ones.
            self.levels = None if np.isnan(high) else (min(high, usual[0]), min(low, usual[1])) if flat else (high, low)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fit(scores: Any, again: Any, high_ratio: float, low_ratio: float) -> tuple[float, float, bool]:
    """High and low level of a window, NaN where nothing can be learned, and whether all scores are as good as high.

    The fraction found again is fitted as a function that never falls with the score (pool adjacent violators).
    """
    count = len(scores)
    order = np.argsort(scores, kind="mergesort")
    mean, size = np.empty(count), np.empty(count, np.int64)
    blocks = 0
    row = 0
    while row < count:
        first = row
        total = 0.0
        while row < count and scores[order[row]] == scores[order[first]]:  # equal scores cannot be told apart
            total += again[order[row]]
            row += 1
        mean[blocks], size[blocks] = total / (row - first), row - first
        blocks += 1
        while blocks > 1 and mean[blocks - 2] >= mean[blocks - 1]:
            both = size[blocks - 2] + size[blocks - 1]
            mean[blocks - 2] = (mean[blocks - 2] * size[blocks - 2] + mean[blocks - 1] * size[blocks - 1]) / both
            size[blocks - 2] = both
            blocks -= 1
    # The best scores: a sixth of them, as a few alone say little.
    wanted = max(_LEAST // 4, count // 6)
    best, taken = 0.0, 0
    for block in range(blocks - 1, -1, -1):
        part = min(size[block], wanted - taken)
        best += part * mean[block]
        taken += part
        if taken == wanted:
            break
    best /= taken
    if best < _LEAST_AGAIN:
        return np.nan, np.nan, False
    high = low = np.inf
    worse = 0  # detections below high
    doubt = _CHANCE * best * (1 - best)
    for block in range(blocks):
        probable = mean[block] + doubt / math.sqrt(size[block])
        if probable >= low_ratio * best and low == np.inf:
            low = scores[order[worse]]
        if probable >= high_ratio * best:
            high = scores[order[worse]]
            break
        worse += size[block]
    if worse < _TOO_FEW:
        return scores[order[0]], scores[order[0]], True
    return high, low, False
