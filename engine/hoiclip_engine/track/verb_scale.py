"""On which scale a stream's verb scores are: what verbs score that go on, and what the others do.

Thresholds are meant for a detector that says 0 and 0.8. Where the scores of a stream form two groups elsewhere, they
are mapped there; where they form none, as those of an unsure model or of a scene in which nothing happens, they are
taken as they are. Thresholds that were fitted to a model need none of this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from hoiclip_engine.pairs import F64

_WINDOW = 2048
"""Scores that count, the newest ones."""
_LEAST = 64
"""Scores needed before two groups are looked for."""
_REFIT_AFTER = 1 / 8
"""New scores, as a fraction of those known, after which the groups are computed again."""
_GROUPED = 0.8
"""Fraction of the variance that lies between two groups: 0.64 of a single bell, 0.75 of an even spread."""
_ON_SCORE = 0.8
"""What a verb that goes on scores on the scale of the thresholds."""


class VerbScale:
    """Maps the scores of one stream. Keeps its last scores."""

    def __init__(self) -> None:
        self._scores = np.empty(_WINDOW)
        self._count = self._since = 0
        self._off, self._on = 0.0, _ON_SCORE
        self.doubt = 1.0
        """How little a single score tells, in [0, 1]: 0 of two groups without any spread, 1 where there are none."""

    def learn(self, scores: F64) -> None:
        """Takes verb scores of any shape; 0 stands for a verb that was not scored."""
        scores = scores[scores > 0][-_WINDOW:]
        self._scores[(self._count + np.arange(len(scores))) % _WINDOW] = scores
        self._count += len(scores)
        self._since += len(scores)
        known = min(self._count, _WINDOW)
        if known >= _LEAST and self._since >= _REFIT_AFTER * known:
            self._since = 0
            off, on, grouped = _two_groups(np.sort(self._scores[:known]))
            self._off, self._on = (off, on) if grouped >= _GROUPED else (0.0, _ON_SCORE)
            self.doubt = min(1.0, (1 - grouped) / (1 - _GROUPED))

    def __call__(self, scores: F64) -> F64:
        """The same scores on the scale of the thresholds, in [0, 1]."""
        mapped: F64 = np.clip(_ON_SCORE * (scores - self._off) / (self._on - self._off), 0.0, 1.0)
        return mapped


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _two_groups(ordered: Any) -> tuple[float, float, float]:
    """Means of the two groups that differ most, and the fraction of the variance between them.

    Source: Otsu, A threshold selection method from gray-level histograms, 1979.
    """
    count, total, squares = len(ordered), 0.0, 0.0
    for score in ordered:
        total += score
        squares += score * score
    variance = squares / count - (total / count) ** 2
    off, on, most, below = 0.0, 0.0, 0.0, 0.0
    for n in range(1, count):
        below += ordered[n - 1]
        low, high = below / n, (total - below) / (count - n)
        between = n / count * (1 - n / count) * (high - low) ** 2
        if between > most:
            off, on, most = low, high, between
    return off, on, most / variance if variance > 1e-12 else 0.0
