"""IDF1: how much of the time each true identity has one and the same number.

Source: Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, ECCV workshops
2016; counted as TrackEval counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hoiclip.evaluation.video.moments import F64, Moment, Numbered, numbered, share

MIN_OVERLAP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Idf1:
    """Counts that add up over sequences."""

    tp: int = 0
    """Moments in which a true identity is covered by the one found identity that it is given for the whole sequence."""
    fn: int = 0
    fp: int = 0

    def __add__(self, other: Idf1) -> Idf1:
        return Idf1(tp=self.tp + other.tp, fn=self.fn + other.fn, fp=self.fp + other.fp)

    @property
    def summary(self) -> dict[str, float]:
        """IDF1 = 2 IDTP / (2 IDTP + IDFP + IDFN), with recall and precision; in [0, 1], 0 of nothing."""
        return {
            "IDF1": share(self.tp, self.tp + 0.5 * (self.fp + self.fn)),
            "IDP": share(self.tp, self.tp + self.fp),
            "IDR": share(self.tp, self.tp + self.fn),
        }


def idf1(sequences: Iterable[Sequence[Moment]]) -> Idf1:
    """Sums over sequences that have nothing to do with each other.

    True identities are given found ones, one to one, so that the moments in which they overlap by half are most.
    """
    total = Idf1()
    for sequence in sequences:
        total = total + _one(sequence)
    return total


def _one(sequence: Sequence[Moment]) -> Idf1:
    rows = numbered(sequence)
    together = _moments_together(rows)
    row, column = linear_sum_assignment(together, maximize=True)
    tp = int(together[row, column].sum())
    return Idf1(tp=tp, fn=int(rows.true_count.sum()) - tp, fp=int(rows.found_count.sum()) - tp)


def _moments_together(sequence: Numbered) -> F64:
    """A row and a column for each true and found identity that is ever covered; others would only take memory."""
    true_rows, found_rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for true, found, overlap in sequence:
        row, column = np.nonzero(overlap >= MIN_OVERLAP)
        true_rows.append(true[row])
        found_rows.append(found[column])
    known_true, row = np.unique(np.concatenate(true_rows), return_inverse=True)
    known_found, column = np.unique(np.concatenate(found_rows), return_inverse=True)
    together = np.zeros((len(known_true), len(known_found)))
    np.add.at(together, (row.reshape(-1), column.reshape(-1)), 1)
    return together
