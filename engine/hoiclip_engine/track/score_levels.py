"""Scores of a stream from which detections can be trusted, learned from which of them are found again look after look.

What is really there is found again for a while; what a detector imagines comes and goes. The fraction found again is
small for scores that mean nothing and large for those that mean something: the level is the score that separates the
two best. Only the order of the scores counts, so that a detector that says 0.4 where another says 0.9 is treated alike.
What is done with the levels is decided in entities.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from hoiclip_engine.pairs import F64, I64, Bool
from hoiclip_engine.track.assignment import best_overlapping

_LOOKS = 3
"""Looks at all of which a detection must be found again. What is imagined is found at the next one half of the time, as
something else or once more, and at three in a row seldom."""
_WINDOW = 1024
"""Detections of a label that count, the newest ones: the scene and its light change, but what a camera that stands
imagines stays for long, and must not be all that is known."""
_LEAST = 32
"""Detections that must have been followed up before anything is learned from them."""
_LEAST_AGAIN = 0.1
"""Fraction that must be found again; where nearly all come and go nothing can be learned."""
_REFIT_AFTER = 1 / 8
"""New detections, as a fraction of those known, after which levels are computed again."""
_OF_OTHERS = 128.0
"""Detections of a label that those of all labels together count for: what a label with few of its own goes by."""
_TOO_FEW = 4.0
"""Detections on either side of a level at least."""
_CLEARLY = 9.0
"""How much better two fractions must describe what was found again than one, in squared standard deviations."""
_FAINT = 0.25
"""Fraction of what is below the level, the poorest, that is not believed to prolong a track either."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Detections of one look, and where each is now among those of the last one: -1 once it was not found."""

    labels: I64
    scores: F64
    now: I64


class ScoreLevels:
    """High and low scores by label. Keeps the last detections of each label, and of all of them together."""

    def __init__(self, high: float, low: float, doubtful_ratio: float) -> None:
        """Args:
        high, low: levels until something is known.
        doubtful_ratio: fraction found again below a level, of that above it, from which both are taken to be of things.
        """
        self._usual = (high, low)
        self._doubtful_ratio = doubtful_ratio
        self._looks: list[_Look] = []
        self._boxes_xyxy = self._expected_xyxy = np.empty((0, 4))  # of the last look, and where they go from there
        self._labels = np.empty(0, np.int64)
        self._all = _Window()
        self._by_label: dict[int, _Window] = {}

    def learn(self, boxes_xyxy: F64, labels: I64, scores: F64) -> None:
        """Takes the (N, 4) boxes, (N,) labels and scores of all detections of a look."""
        at = self._follow(boxes_xyxy, labels)
        at = np.append(at, -1)  # where -1 leads: what was lost stays lost
        self._looks = [_Look(look.labels, look.scores, at[look.now]) for look in self._looks]
        if len(self._looks) == _LOOKS:
            self._take(self._looks.pop(0))
        self._looks.append(_Look(labels, scores, np.arange(len(labels))))

    def _follow(self, boxes_xyxy: F64, labels: I64) -> I64:
        """Which of the detections is each of the last look, -1 where none: near where it was going."""
        at = best_overlapping(self._expected_xyxy, self._labels, boxes_xyxy, labels)
        found = np.flatnonzero(at >= 0)
        moved_px = boxes_xyxy[at[found]] - self._boxes_xyxy[found]
        expected = boxes_xyxy.copy()
        expected[at[found]] += np.tile((moved_px[:, :2] + moved_px[:, 2:]) / 2, 2)
        self._boxes_xyxy, self._expected_xyxy, self._labels = boxes_xyxy, expected, labels
        return at

    def levels(self, labels: I64) -> tuple[F64, F64]:
        """(N,) high and (N,) low scores for detections of these labels."""
        names = labels.tolist()
        known = {label: self._of(label) for label in set(names)}
        high, low = np.array([known[label] for label in names]).reshape(-1, 2).T
        return high, low

    def _take(self, look: _Look) -> None:
        again = look.now >= 0
        self._all.add(look.scores, again)
        for label in set(look.labels.tolist()):
            rows = look.labels == label
            self._by_label.setdefault(label, _Window()).add(look.scores[rows], again[rows])

    def _of(self, label: int) -> tuple[float, float]:
        if self._all.known < _LEAST:
            return self._usual
        window = self._by_label.setdefault(label, _Window())
        if window.due:
            high, low, clear = _split(*window.newest, *self._all.newest, self._doubtful_ratio)
            if not clear and self._all.newest[1].mean() < _LEAST_AGAIN:
                high, low = self._usual
            # Where the poorest scores seen are as good as the best, nothing speaks against poorer ones.
            window.levels = (high, low) if clear else (min(high, self._usual[0]), min(low, self._usual[1]))
        return window.levels


class _Window:
    """The last detections of a kind, in a ring."""

    def __init__(self) -> None:
        self._scores, self._again = np.empty(_WINDOW), np.empty(_WINDOW)
        self._count = 0
        self._fitted = -1
        self._levels = (np.inf, np.inf)

    @property
    def known(self) -> int:
        """Detections that are remembered."""
        return min(self._count, _WINDOW)

    @property
    def newest(self) -> tuple[F64, F64]:
        """Scores, and 1 where found again."""
        return self._scores[: self.known], self._again[: self.known]

    @property
    def due(self) -> bool:
        """Whether levels are to be computed, again or for the first time."""
        return self._fitted < 0 or self._count - self._fitted > _REFIT_AFTER * self.known

    @property
    def levels(self) -> tuple[float, float]:
        return self._levels

    @levels.setter
    def levels(self, levels: tuple[float, float]) -> None:
        self._levels, self._fitted = levels, self._count

    def add(self, scores: F64, again: Bool) -> None:
        scores, again = scores[-_WINDOW:], again[-_WINDOW:]
        places = (self._count + np.arange(len(scores))) % _WINDOW
        self._scores[places], self._again[places] = scores, again
        self._count += len(scores)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _split(
    own: Any, own_again: Any, others: Any, others_again: Any, doubtful_ratio: float
) -> tuple[float, float, bool]:
    """High and low level of a label, and whether there is a difference; without any, the lowest score twice.

    The score that leaves most of the variance of being found again between its two sides, as Otsu's threshold does.
    """
    scores, again = np.concatenate((own, others)), np.concatenate((own_again, others_again))
    weight = np.ones(len(scores))
    weight[len(own) :] = _OF_OTHERS / len(others)
    order = np.argsort(scores)
    total, found = weight.sum(), (weight * again).sum()
    usual = max(found / total * (1 - found / total), 1e-9)
    best, split, below, found_below = _CLEARLY, -1, 0.0, 0.0
    for row in range(len(order) - 1):
        below += weight[order[row]]
        found_below += weight[order[row]] * again[order[row]]
        above = total - below
        if scores[order[row]] == scores[order[row + 1]] or below < _TOO_FEW or above < _TOO_FEW:
            continue
        low, high = found_below / below, (found - found_below) / above
        clear = (high - low) ** 2 * below * above / total / usual
        if clear > best and low < doubtful_ratio * high:
            best, split = clear, row
    if split < 0:
        return scores[order[0]], scores[order[0]], False
    wanted = 0.0
    for row in range(split + 1):
        wanted += _FAINT * weight[order[row]]
    row = 0
    while wanted > 0:
        wanted -= weight[order[row]]
        row += 1
    return scores[order[split + 1]], scores[order[row]], True
