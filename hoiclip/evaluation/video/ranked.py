"""Predicted segments against true ones: who hits, by falling score, and average precision of that.

What it means that two segments overlap is decided by trajectories.py and events.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.evaluation.average_precision import envelope_area
from hoiclip.evaluation.results import mean
from hoiclip.evaluation.video.moments import F64, I64
from hoiclip.evaluation.video.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One film's segments, predicted ones in the order of falling score."""

    score: F64
    """(N,)"""
    kind: I64
    """(N,) number of verb and label."""
    overlap_ng: F64
    """(N, G) 0 where verb or label differ."""
    true_kind: I64
    """(G,)"""

    def hits(self, min_overlap: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(N,) whether each takes a true segment: of those still free the one it overlaps most, if enough."""
        free = np.ones(len(self.true_kind), np.bool_)
        hit = np.zeros(len(self.score), np.bool_)
        for row, overlaps in enumerate(self.overlap_ng):
            possible = np.where(free, overlaps, 0.0)
            if len(possible) and possible.max() >= min_overlap:
                hit[row] = True
                free[possible.argmax()] = False
        return hit


def kind(segment: Segment, labels: int) -> int:
    """What is done with what, as one number; no object is the last label."""
    return segment.verb * (labels + 1) + segment.label % (labels + 1)


def class_mean(films: Sequence[Ranked], min_overlap: float) -> float:
    """Mean over the kinds that truth has of their AP over all films; NaN without truth.

    AP is the area under the precision envelope.
    """
    none = np.zeros(0)
    score = np.concatenate([none, *(film.score for film in films)])
    which = np.concatenate([none, *(film.kind for film in films)])
    hit = np.concatenate([none, *(film.hits(min_overlap) for film in films)]).astype(np.bool_)
    kinds, counts = np.unique(np.concatenate([none, *(film.true_kind for film in films)]), return_counts=True)
    order = np.argsort(-score, kind="stable")
    which, hit = which[order], hit[order]
    return mean([envelope_area(hit[which == one], int(n)) for one, n in zip(kinds, counts, strict=True)])
