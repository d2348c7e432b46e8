"""CLEAR MOT: misses, false alarms and identity switches, frame by frame.

Source: Bernardin and Stiefelhagen, Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics, 2008; MT, PT
and ML from Li et al., CVPR 2009; counted as TrackEval counts. As there, a moment in which nobody is there or nothing is
found neither ends nor begins a stretch of tracking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hoiclip.evaluation.video.moments import EPSILON, F64, I64, Moment, Numbered, numbered, share

MIN_OVERLAP = 0.5
_KEEP = 1000.0
"""What going on with the identity of the moment before is worth: more than any overlaps."""
_MOSTLY, _HARDLY = 0.8, 0.2
"""Shares of a true identity's moments beyond which it is mostly tracked, and below which mostly lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """Counts that add up over sequences."""

    tp: int = 0
    fn: int = 0
    fp: int = 0
    switches: int = 0
    """How often a true identity that is found again has got another number (IDSW)."""
    fragments: int = 0
    """How often a true identity is found again after it was missed."""
    mostly_tracked: int = 0
    partly_tracked: int = 0
    mostly_lost: int = 0
    overlap_sum: float = 0.0

    def __add__(self, other: Clear) -> Clear:
        return Clear(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})

    @property
    def summary(self) -> dict[str, float]:
        """MOTA = 1 - (FN + FP + IDSW) / true boxes, MOTP = mean overlap of what is found; MOTA can be negative."""
        return {
            "MOTA": share(self.tp - self.fp - self.switches, self.tp + self.fn),
            "MOTP": share(self.overlap_sum, self.tp),
            "Recall": share(self.tp, self.tp + self.fn),
            "Precision": share(self.tp, self.tp + self.fp),
        }

    @property
    def counts(self) -> dict[str, int]:
        """By their usual names."""
        return {
            "IDSW": self.switches,
            "FP": self.fp,
            "FN": self.fn,
            "MT": self.mostly_tracked,
            "PT": self.partly_tracked,
            "ML": self.mostly_lost,
            "Frag": self.fragments,
        }


def clear(sequences: Iterable[Sequence[Moment]]) -> Clear:
    """Sums over sequences that have nothing to do with each other."""
    total = Clear()
    for sequence in sequences:
        total = total + _one(numbered(sequence))
    return total


def _one(sequence: Numbered) -> Clear:
    people = len(sequence.true_count)
    last: I64 = np.full(people, -1, np.int64)  # the number each was last found under
    before = last.copy()  # the same, -1 where it was not found at the moment before
    found_for, begun = np.zeros(people, np.int64), np.zeros(people, np.int64)
    tp = switches = 0
    overlap_sum = 0.0
    for true, found, overlap in sequence:
        if not overlap.size:
            continue
        row, column = _matches(overlap, found == before[true][:, None])
        who, number = true[row], found[column]
        switches += int(((last[who] >= 0) & (last[who] != number)).sum())
        begun[who[before[who] < 0]] += 1
        last[who] = number
        before[:] = -1
        before[who] = number
        found_for[who] += 1
        tp += len(who)
        overlap_sum += float(overlap[row, column].sum())
    followed = found_for / sequence.true_count
    mostly, tracked = int((followed > _MOSTLY).sum()), int((followed >= _HARDLY).sum())
    return Clear(
        tp=tp,
        fn=int(sequence.true_count.sum()) - tp,
        fp=int(sequence.found_count.sum()) - tp,
        switches=switches,
        fragments=int(np.maximum(begun - 1, 0).sum()),
        mostly_tracked=mostly,
        partly_tracked=tracked - mostly,
        mostly_lost=people - tracked,
        overlap_sum=overlap_sum,
    )


def _matches(overlap: F64, goes_on: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> tuple[I64, I64]:
    """Rows and columns that belong together; who was found under a number keeps it while they overlap by half."""
    score = np.where(overlap >= MIN_OVERLAP - EPSILON, _KEEP * goes_on + overlap, 0.0)
    row, column = linear_sum_assignment(score, maximize=True)
    good = score[row, column] > EPSILON
    return row[good], column[good]
