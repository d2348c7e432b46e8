"""What a viewer would say of the shown interactions: how many of the true ones are found, how many shown are true.

Counts whole interactions (a pair, one verb, from when to when), long and short alike, where mean average precision
ranks by scores that no viewer sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hoiclip.evaluation.video.align import Aligned
from hoiclip.evaluation.video.film import Bool, FilmFrame
from hoiclip.evaluation.video.film_identities import pair_overlaps
from hoiclip.evaluation.video.moments import F64
from hoiclip.evaluation.video.segments import Segment, active_verbs, segments
from hoiclip.vocabulary import Vocabulary

_Rows = set[tuple[int, int, int]]
"""(frame, row, verb)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Interactions of one video, in order of their start."""

    found: tuple[Segment, ...]
    missed: tuple[Segment, ...]
    """Found and missed are the true ones that last long enough to ask for."""
    right: tuple[Segment, ...]
    wrong: tuple[Segment, ...]
    """Right and wrong are all that are shown, however short."""

    @property
    def recall(self) -> float:
        """Fraction of the true ones that are found; NaN where there are none."""
        return _fraction(len(self.found), len(self.missed))

    @property
    def precision(self) -> float:
        """Fraction of the shown ones that are true; NaN where there are none."""
        return _fraction(len(self.right), len(self.wrong))


def agreement(
    video: Aligned,
    vocabulary: Vocabulary,
    *,
    min_true_s: float = 0.5,
    min_overlap: float = 0.5,
    min_time: float = 0.5,
) -> Agreement:
    """Compares what is shown with the ground truth, interaction by interaction.

    In each frame, shown pairs with a verb are matched one to one with true pairs that do the same, so that a second
    box round the same pair is wrong. Under which identities a pair is shown does not matter here.

    Args:
        min_true_s: true interactions shorter than this are not asked for, though they may be shown.
        min_overlap: IoU that the human boxes and the object boxes must reach, both with the same label.
        min_time: fraction of its frames in which an interaction must be matched to count as found or right.
    """
    true_rows: _Rows = set()
    shown_rows: _Rows = set()
    for number, (true, shown) in enumerate(zip(video.truth, video.found, strict=True)):
        for verb, true_row, shown_row in _matches(true, shown, vocabulary, min_overlap):
            true_rows.add((number, true_row, verb))
            shown_rows.add((number, shown_row, verb))
    asked = [one for one in segments(video.truth, vocabulary) if one.end_s - one.start_s >= min_true_s]
    found, missed = _split(asked, true_rows, min_time)
    right, wrong = _split(segments(video.found, vocabulary), shown_rows, min_time)
    return Agreement(found=found, missed=missed, right=right, wrong=wrong)


def _matches(
    true: FilmFrame, shown: FilmFrame, vocabulary: Vocabulary, min_overlap: float
) -> list[tuple[int, int, int]]:
    """(verb, row of the true pair, row of the shown pair), each row at most once for a verb."""
    overlaps = pair_overlaps(true, shown)
    doing, said = _by_verb(true, vocabulary), _by_verb(shown, vocabulary)
    matched = []
    for verb in np.flatnonzero(doing.any(axis=0) & said.any(axis=0)).tolist():
        good: F64 = np.where(doing[:, verb, None] & said[None, :, verb] & (overlaps >= min_overlap), overlaps, 0.0)
        # One for each possible match, so that more matches count before better ones.
        rows, columns = linear_sum_assignment(np.where(good > 0, 1.0 + good / max(good.shape), 0.0), maximize=True)
        matched += [(verb, g, n) for g, n in zip(rows.tolist(), columns.tolist(), strict=True) if good[g, n] > 0]
    return matched


def _by_verb(frame: FilmFrame, vocabulary: Vocabulary) -> Bool:
    """(P, V) what goes on; doing nothing is no verb."""
    going_on = np.zeros((len(frame), len(vocabulary.verbs)), np.bool_)
    for row, verbs in enumerate(active_verbs(frame, vocabulary)):
        going_on[row, verbs] = True
    return going_on


def _split(
    shown: Sequence[Segment], matched: _Rows, min_time: float
) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """Those matched in enough of their frames, and the rest."""

    def agrees(one: Segment) -> bool:
        rows = zip(one.frames, one.rows, strict=True)
        return sum((frame, row, one.verb) in matched for frame, row in rows) >= min_time * len(one.frames)

    return tuple(one for one in shown if agrees(one)), tuple(one for one in shown if not agrees(one))


def _fraction(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else math.nan
