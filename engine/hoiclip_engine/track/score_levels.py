"""Meaning of a stream's scores, learned from the stream: levels of detection scores, and the scale of verb scores.

Real objects are found again for a while; false detections come and go. The fraction found again is small for scores
that mean nothing and large for those that mean something: the level is the score that separates the two best. Only the
order of the scores counts, so that a detector that scores 0.4 where another scores 0.9 is treated alike. entities.py
applies the levels.

Thresholds of verbs are meant for scores near 0 and 0.8. Where the verb scores of a stream form two groups elsewhere,
they are mapped there; where they form none, as those of an unsure model or of a scene in which nothing happens, they
are taken as they are. Thresholds that were fitted to a model need none of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from hoiclip.core.array_types import F64, I64, Bool
from hoiclip_engine.track.assignment import best_overlapping

_INFERENCES = 3
"""Inferences at all of which a detection must be found again. False detections are found at the next one half of the
time, as something else or once more, and at three in a row seldom."""
_WINDOW = 1024
"""Detections of a label that count, the newest ones: the scene and its light change, but false detections of a static
camera stay for long, and must not be all that is known."""
_LEAST = 32
"""Detections that must have been followed up before anything is learned from them."""
_LEAST_AGAIN = 0.1
"""Fraction that must be found again; where nearly all come and go there is nothing to learn."""
_REFIT_AFTER = 1 / 8
"""New scores, as a fraction of those known, after which levels or groups are computed again."""
_OF_OTHERS = 128.0
"""Detections of a label that those of all labels together count for: they decide for a label with few of its own."""
_TOO_FEW = 4.0
"""Detections on either side of a level at least."""
_CLEARLY = 9.0
"""Squared standard deviations by which two fractions must describe the detections found again better than one."""
_FAINT = 0.25
"""Fraction of the detections below the level, the poorest, that may not prolong a track either."""

_VERB_WINDOW = 2048
"""Verb scores that count, the newest ones."""
_LEAST_VERB_SCORES = 64
"""Verb scores needed before they are split into two groups."""
_GROUPED = 0.8
"""Fraction of the variance that lies between two groups: 0.64 of a single bell, 0.75 of an even spread."""
_ON_SCORE = 0.8
"""Score of an active verb on the scale of the thresholds."""


@dataclass(frozen=True, slots=True)
class _FollowedDetections:
    """Detections of one inference, and the index of each among those of the last one: -1 once it was not found."""

    labels: I64
    scores: F64
    now: I64


class ScoreLevels:
    """High and low scores by label. Keeps the last detections of each label, and of all of them together."""

    def __init__(self, high: float, low: float, doubtful_ratio: float) -> None:
        """Args:
        high, low: levels until something is known.
        doubtful_ratio: fraction found again below a level, of that above it, from which both are taken to be real.
        """
        self._usual = (high, low)
        self._doubtful_ratio = doubtful_ratio
        self._inferences: list[_FollowedDetections] = []
        self._boxes_xyxy = self._expected_xyxy = np.empty((0, 4))  # of the last inference, and as expected at the next
        self._labels = np.empty(0, np.int64)
        self._all = _Window()
        self._by_label: dict[int, _Window] = {}

    def learn(self, boxes_xyxy: F64, labels: I64, scores: F64) -> None:
        """Takes the (N, 4) boxes, (N,) labels and scores of all detections of an inference."""
        at = self._follow(boxes_xyxy, labels)
        at = np.append(at, -1)  # the end of -1: a lost detection stays lost
        self._inferences = [
            _FollowedDetections(followed.labels, followed.scores, at[followed.now]) for followed in self._inferences
        ]
        if len(self._inferences) == _INFERENCES:
            self._take(self._inferences.pop(0))
        self._inferences.append(_FollowedDetections(labels, scores, np.arange(len(labels))))

    def _follow(self, boxes_xyxy: F64, labels: I64) -> I64:
        """Index of the detection near the expected place of each one of the last inference, -1 where none."""
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

    def _take(self, followed: _FollowedDetections) -> None:
        again = followed.now >= 0
        self._all.add(followed.scores, again)
        for label in set(followed.labels.tolist()):
            rows = followed.labels == label
            self._by_label.setdefault(label, _Window()).add(followed.scores[rows], again[rows])

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


class VerbScale:
    """Maps the verb scores of one stream to the scale of the thresholds. Keeps the last ones."""

    def __init__(self) -> None:
        self._scores = np.empty(_VERB_WINDOW)
        self._count = self._since = 0
        self._off, self._on = 0.0, _ON_SCORE
        self.doubt = 1.0
        """Uncertainty of a single score, in [0, 1]: 0 of two groups without any spread, 1 where there are none."""

    def learn(self, scores: F64) -> None:
        """Takes verb scores of any shape; 0 stands for a verb that was not scored."""
        scores = scores[scores > 0][-_VERB_WINDOW:]
        self._scores[(self._count + np.arange(len(scores))) % _VERB_WINDOW] = scores
        self._count += len(scores)
        self._since += len(scores)
        known = min(self._count, _VERB_WINDOW)
        if known >= _LEAST_VERB_SCORES and self._since >= _REFIT_AFTER * known:
            self._since = 0
            off, on, grouped = _two_groups(np.sort(self._scores[:known]))
            self._off, self._on = (off, on) if grouped >= _GROUPED else (0.0, _ON_SCORE)
            self.doubt = min(1.0, (1 - grouped) / (1 - _GROUPED))

    def __call__(self, scores: F64) -> F64:
        """Scores on the scale of the thresholds, in [0, 1]."""
        mapped: F64 = np.clip(_ON_SCORE * (scores - self._off) / (self._on - self._off), 0.0, 1.0)
        return mapped


class _Window:
    """The last detections of a kind, in a ring."""

    def __init__(self) -> None:
        self._scores, self._again = np.empty(_WINDOW), np.empty(_WINDOW)
        self._count = 0
        self._fitted = -1
        self._levels = (np.inf, np.inf)

    @property
    def known(self) -> int:
        """Number of detections in the window."""
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
    """High and low level of a label, and whether they differ; if not, the lowest score twice.

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
