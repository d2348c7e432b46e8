"""Partners of entity tracks: who has been in a pair with whom, as evidence of identity beside overlap.

Detections of pairs come two by two. Where two people cross, or one was hidden for a while, boxes alone cannot decide
who is who; what they carry often can. A thrown object outruns what its own motion lets expect, and is still within the
reach of its thrower. Tracks are assigned in entities.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from hoiclip.core.array_types import F64, I64, Bool
from hoiclip_engine.track.assignment import overlap_within_label

_RIVALS = 8.0
"""Exponent of a pair's score over the best one of its members: beside a sure partner, others hardly count."""
_REMEMBER_S = 0.2
"""Seconds of sightings after which a former partner counts half."""
_UNDECIDED = 0.1
"""Overlap of no track, beside those of the tracks, so that a faint one alone does not decide on a partner."""
_SAME_LABEL = 0.5
"""Weight of the label alone, where no track overlaps a partner: a hidden suitcase is the first guess for a suitcase."""
_AGREEING = 2.0
"""Weight of agreeing partners, in units of the loss of overlap that is usual from one inference to the next."""
_CONTRADICTING = 0.8
"""Overlap, as a fraction of the usual one, that a human must have who appears with the partner of another."""
_BELONGS = 0.5
"""Tie to the partner from which an object is found again anywhere within the partner's reach."""
_USUAL_OVERLAP, _LEARNING = 0.7, 0.02
"""Overlap of a track with its next detection as long as nothing is known, and the weight of each new one."""


@dataclass(frozen=True, slots=True)
class Ties:
    """Ties among N detections."""

    weights_nn: F64
    """Symmetric; 1 where two detections are each other's best partner, 0 where they are no pair."""
    is_human: Bool
    """(N,) True for the humans of pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedPairs:
    """P pairs among the N detections of one inference."""

    human: I64
    """(P,) index of its detection."""
    object: I64
    scores: F64
    """(P,) of any scale: they are compared with those of other pairs of the same human or object."""

    def ties(self, count: int) -> Ties:
        """Ties among all N detections."""
        weights, is_human = np.zeros((count, count)), np.zeros(count, bool)
        _weigh_pairs(self.human, self.object, self.scores, weights, is_human)
        return Ties(weights, is_human)


@dataclass(frozen=True, slots=True)
class PartnerEvidence:
    """Of T tracks and N detections: what partners add to an overlap, and the overlap they ask for."""

    added_tn: F64
    least_tn: F64

    def weigh(self, overlap_tn: F64) -> F64:
        """(T, N) overlaps and what agreeing partners add to them; 0 where an overlap is not what is asked for."""
        weighed: F64 = np.where(overlap_tn >= self.least_tn, overlap_tn + self.added_tn, 0.0)
        return weighed


class Partners:
    """Ties among T tracks, 1 where every sighting of one is with the other. The owner adds and drops rows."""

    def __init__(self) -> None:
        self._ties = np.empty((0, 0))
        self._usual_overlap = _USUAL_OVERLAP

    def add(self, count: int) -> None:
        """New rows at the end, without partners."""
        before, self._ties = self._ties, np.zeros((len(self._ties) + count,) * 2)
        self._ties[: len(before), : len(before)] = before

    def keep(self, rows: Bool) -> None:
        """Drops the rows where `rows` is False."""
        self._ties = self._ties[rows][:, rows]

    def learn_overlap(self, overlaps: F64) -> None:
        """Takes overlaps of detections with the expected boxes of their tracks, which were seen an inference ago."""
        if len(overlaps):
            weight = 1 - (1 - _LEARNING) ** len(overlaps)
            self._usual_overlap += weight * (float(overlaps.mean()) - self._usual_overlap)

    def learn(self, rows: I64, ties: Ties, elapsed_s: F64) -> None:
        """Takes a sighting.

        Args:
            rows: (N,) track of each detection, -1 where it has none.
            ties: of the detections.
            elapsed_s: (N,) since the track of the detection was seen before; 0 at its first sighting.
        """
        _learn(self._ties, rows, ties.weights_nn, elapsed_s)

    def evidence(
        self, far_tn: F64, labels_t: I64, labels_n: I64, usable: Bool, ties: Ties, min_overlap: float
    ) -> PartnerEvidence:
        """Compares the partners of the detections with those of the tracks.

        Objects pass from hand to hand, so that another human does not speak against an object.

        Args:
            far_tn: (T, N) overlaps of boxes grown by the doubt of their motion.
            usable: (N,) True for detections that take part.
            min_overlap: least overlap of all.
        """
        agree_tn, conflict_tn = np.zeros_like(far_tn), np.zeros_like(far_tn)
        own = (self._ties, labels_t, labels_n, ties.weights_nn, ties.is_human)
        _compare(far_tn, usable, *own, min_overlap, agree_tn, conflict_tn)
        more = max(_CONTRADICTING * (self._usual_overlap - min_overlap), 0.0)
        return PartnerEvidence(_AGREEING * (1 - self._usual_overlap) * agree_tn, min_overlap + more * conflict_tn)

    def within_reach(
        self, rows: I64, ties: Ties, expected_xyxy: F64, labels_t: I64, boxes_xyxy: F64, labels_n: I64
    ) -> F64:
        """(T, N) above 1 where a detection is as near to its track as its larger partner reaches, and 0 elsewhere.

        Args:
            rows: (N,) track of each detection, -1 where it has none yet; only partners that have one count.
        """
        belongs_tn, reach_px = np.zeros((len(expected_xyxy), len(rows))), np.zeros(len(rows))
        _reach(self._ties, rows, ties.weights_nn, boxes_xyxy, belongs_tn, reach_px)
        overlap_nt = overlap_within_label(boxes_xyxy, labels_n, expected_xyxy, labels_t, reach_px)
        reached = np.where((overlap_nt.T > 0) & (belongs_tn >= _BELONGS), 1 + overlap_nt.T, 0.0)
        return np.ascontiguousarray(reached)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _weigh_pairs(human: Any, object_: Any, scores: Any, weights: Any, is_human: Any) -> None:
    best = np.zeros(len(is_human))
    for p in range(len(scores)):
        is_human[human[p]] = True
        best[human[p]] = max(best[human[p]], scores[p])
        best[object_[p]] = max(best[object_[p]], scores[p])
    for p in range(len(scores)):
        a, b = human[p], object_[p]
        if scores[p] > 0.0:
            weight = (scores[p] / max(best[a], best[b])) ** _RIVALS
            weights[a, b] = weights[b, a] = max(weights[a, b], weight)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _learn(ties: Any, rows: Any, weights: Any, elapsed_s: Any) -> None:
    count = len(rows)
    now = np.empty(ties.shape[1])
    for n in range(count):
        now[:] = 0.0
        seen = False
        for m in range(count):
            if rows[n] >= 0 and rows[m] >= 0 and weights[n, m] > 0.0:
                now[rows[m]] = max(now[rows[m]], weights[n, m])
                seen = True
        if seen:  # a partner without a track is unknown, and decides nothing
            halves = min(elapsed_s[n] / _REMEMBER_S, 1.0) if elapsed_s[n] > 0.0 else 1.0
            gain = 1 - 2.0**-halves
            for t in range(len(now)):
                ties[rows[n], t] += gain * (now[t] - ties[rows[n], t])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _compare(
    far: Any,
    usable: Any,
    ties: Any,
    labels_t: Any,
    labels_n: Any,
    weights: Any,
    is_human: Any,
    min_overlap: float,
    agree: Any,
    conflict: Any,
) -> None:
    """Fills in (T, N) how far partners agree and contradict, from 0 to 1."""
    count_t, count_n = far.shape
    guess = np.zeros(count_t)
    for m in range(count_n):  # a partner: which tracks may it be?
        paired = False
        for n in range(count_n):
            paired = paired or weights[m, n] > 0.0
        if not paired:
            continue
        total, same = _UNDECIDED, 0
        for t in range(count_t):
            guess[t] = far[t, m] if usable[m] and far[t, m] >= min_overlap else 0.0
            total += guess[t]
            same += labels_t[t] == labels_n[m]
        for t in range(count_t):
            guess[t] /= total
            if labels_t[t] == labels_n[m]:
                guess[t] += _SAME_LABEL * _UNDECIDED / total / same
        for t in range(count_t):
            tied = 0.0
            for u in range(count_t):
                tied += ties[t, u] * guess[u]
            if tied > 0.0:
                for n in range(count_n):
                    agree[t, n] += tied * weights[m, n]
    for t in range(count_t):
        bound = min(ties[t].sum(), 1.0)
        for n in range(count_n):
            agree[t, n] = min(agree[t, n], 1.0)
            if is_human[n]:
                conflict[t, n] = max(bound - agree[t, n], 0.0) * weights[n].max()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _reach(ties: Any, rows: Any, weights: Any, boxes: Any, belongs: Any, reach_px: Any) -> None:
    """Fills in how much each detection's partners belong to each track, and how far they reach beyond its own size."""
    size_px = np.sqrt(np.maximum(boxes[:, 2] - boxes[:, 0], 0.0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0.0))
    for n in range(len(rows)):
        for m in range(len(rows)):
            if rows[m] >= 0 and weights[m, n] > 0.0:
                reach_px[n] = max(reach_px[n], (size_px[m] - size_px[n]) / 2)
                for t in range(len(ties)):
                    belongs[t, n] += ties[t, rows[m]] * weights[m, n]
