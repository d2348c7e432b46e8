"""HOTA: detection and association in one number, over 19 thresholds of overlap.

Source: Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking, IJCV 2020; counted as TrackEval
counts, to 1e-6 (tests/hoiclip/test_video_identity.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hoiclip.core.array_types import F64, I64
from hoiclip.evaluation.video.identity import EPSILON, IdentityFrame, IdentitySequence, number_identities

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""(A,) overlaps from which two boxes may be one object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hota:
    """Sums per threshold that add up over sequences; all (A,)."""

    tp: F64
    fn: F64
    fp: F64
    ass_a_sum: F64
    """Over true positives: of their identity pair, frames together / frames of either."""
    ass_re_sum: F64
    """Frames together / frames of the ground-truth identity."""
    ass_pr_sum: F64
    """Frames together / frames of the found identity."""
    loc_sum: F64
    """Overlap of true positives."""

    def __add__(self, other: Hota) -> Hota:
        return Hota(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})

    @property
    def by_alpha(self) -> dict[str, F64]:
        """Each number at each threshold; 0 where nothing is counted, LocA 1."""
        tp = np.maximum(self.tp, 1)
        det_a = self.tp / np.maximum(self.tp + self.fn + self.fp, 1)
        ass_a = self.ass_a_sum / tp
        return {
            "HOTA": np.sqrt(det_a * ass_a),
            "DetA": det_a,
            "AssA": ass_a,
            "DetRe": self.tp / np.maximum(self.tp + self.fn, 1),
            "DetPr": self.tp / np.maximum(self.tp + self.fp, 1),
            "AssRe": self.ass_re_sum / tp,
            "AssPr": self.ass_pr_sum / tp,
            "LocA": np.where(self.tp > 0, self.loc_sum / tp, 1.0),
        }

    @property
    def summary(self) -> dict[str, float]:
        """Means over the thresholds, in [0, 1]."""
        return {name: float(values.mean()) for name, values in self.by_alpha.items()}


def hota(sequences: Iterable[Sequence[IdentityFrame]]) -> Hota:
    """Sums over independent sequences.

    DetA = TP / (TP + FN + FP); AssA = mean over TP of TPA / (TPA + FNA + FPA); HOTA = sqrt(DetA AssA).
    """
    total = Hota(**dict.fromkeys(Hota.__slots__, np.zeros(len(ALPHAS))))
    for sequence in sequences:
        total = total + _hota_sequence(number_identities(sequence))
    return total


def _hota_sequence(sequence: IdentitySequence) -> Hota:
    alignment = _Alignment(sequence)
    columns = len(sequence.found_count)
    codes, overlaps = [np.zeros(0, np.int64)], [np.zeros(0)]
    for gt, found, overlap in sequence:
        if overlap.size:
            row, column = linear_sum_assignment(alignment.of(gt, found) * overlap, maximize=True)
            codes.append(gt[row] * columns + found[column])
            overlaps.append(overlap[row, column])
    code, matched = np.concatenate(codes), np.concatenate(overlaps)
    sums = [_at(alpha, code, matched, sequence) for alpha in ALPHAS]
    tp, ass_a, ass_re, ass_pr, loc = np.array(sums).T
    return Hota(
        tp=tp,
        fn=sequence.gt_count.sum() - tp,
        fp=sequence.found_count.sum() - tp,
        ass_a_sum=ass_a,
        ass_re_sum=ass_re,
        ass_pr_sum=ass_pr,
        loc_sum=loc,
    )


def _at(alpha: float, code: I64, overlap: F64, sequence: IdentitySequence) -> tuple[float, float, float, float, float]:
    """True positives at one threshold and, summed over them, AssA, AssRe, AssPr and overlap."""
    good = overlap >= alpha - EPSILON
    pair, together = np.unique(code[good], return_counts=True)
    columns = max(len(sequence.found_count), 1)
    of_gt, of_found = sequence.gt_count[pair // columns], sequence.found_count[pair % columns]
    return (
        float(together.sum()),
        float((together * (together / np.maximum(of_gt + of_found - together, 1))).sum()),
        float((together * (together / np.maximum(of_gt, 1))).sum()),
        float((together * (together / np.maximum(of_found, 1))).sum()),
        float(overlap[good].sum()),
    )


class _Alignment:
    """Agreement of two identities over the whole sequence: the Jaccard index of their soft matches.

    Kept for pairs that ever overlap only, so that memory grows with the video and not with its square.
    """

    def __init__(self, sequence: IdentitySequence) -> None:
        self._columns = max(len(sequence.found_count), 1)
        codes, soft = [np.zeros(0, np.int64)], [np.zeros(0)]
        for gt, found, overlap in sequence:
            union = overlap.sum(axis=0)[None] + overlap.sum(axis=1)[:, None] - overlap
            row, column = np.nonzero((overlap > 0) & (union > EPSILON))
            codes.append(gt[row] * self._columns + found[column])
            soft.append(overlap[row, column] / union[row, column])
        self._codes, position = np.unique(np.concatenate(codes), return_inverse=True)
        together = np.bincount(position.reshape(-1), np.concatenate(soft), minlength=len(self._codes))
        gt, found = self._codes // self._columns, self._codes % self._columns
        either = sequence.gt_count[gt] + sequence.found_count[found] - together
        self._score = together / either

    def of(self, gt: I64, found: I64) -> F64:
        """(G, N)"""
        wanted = gt[:, None] * self._columns + found
        if not len(self._codes):
            return np.zeros(wanted.shape)
        position = np.minimum(np.searchsorted(self._codes, wanted), len(self._codes) - 1)
        return np.where(self._codes[position] == wanted, self._score[position], 0.0)
