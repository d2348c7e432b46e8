"""When things begin and how long they last: onset delay, and AP on the overlap of times.

Both ask what was said of the true pair, under whatever number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.evaluation.results import mean
from hoiclip.evaluation.video.align import Aligned
from hoiclip.evaluation.video.film_identities import pair_overlaps
from hoiclip.evaluation.video.moments import F64
from hoiclip.evaluation.video.ranked import Ranked, class_mean, kind
from hoiclip.evaluation.video.segments import Segment, segments
from hoiclip.vocabulary import Vocabulary

MIN_OVERLAP = 0.5
TIME_OVERLAPS = (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Onsets:
    """How late the beginnings of true events were told."""

    delays_s: tuple[float, ...]
    """Of those that were told while they lasted."""
    events: int
    """All of them."""

    def __add__(self, other: Onsets) -> Onsets:
        return Onsets(delays_s=self.delays_s + other.delays_s, events=self.events + other.events)

    @property
    def median_s(self) -> float:
        return float(np.median(self.delays_s)) if self.delays_s else math.nan

    @property
    def p90_s(self) -> float:
        return float(np.percentile(self.delays_s, 90)) if self.delays_s else math.nan

    @property
    def found(self) -> float:
        """Share of the events."""
        return len(self.delays_s) / self.events if self.events else math.nan


class Events:
    """The events of one film, true and found."""

    def __init__(self, film: Aligned, vocabulary: Vocabulary) -> None:
        self._film, self._labels = film, len(vocabulary.objects)
        self._true, self._found = segments(film.truth, vocabulary), segments(film.found, vocabulary)
        self._found.sort(key=lambda one: -one.score)
        self._overlaps = [pair_overlaps(true, found) for true, found in zip(film.truth, film.found, strict=True)]
        self._says: dict[tuple[int, int, int], Segment] = {  # who covers a frame, row and verb
            (number, row, one.verb): one
            for one in self._found
            for number, row in zip(one.frames, one.rows, strict=True)
        }

    def onsets(self) -> Onsets:
        """From the first frame that shows a true event to the first that says so, of a pair that overlaps by half.

        A verb that was believed too early is late by nothing: what is wrong with it lowers precision.
        """
        delays_s = [delay_s for one in self._true if (delay_s := self._delay_s(one)) is not None]
        return Onsets(delays_s=tuple(delays_s), events=len(self._true))

    def _delay_s(self, event: Segment) -> float | None:
        for number, row in zip(event.frames, event.rows, strict=True):
            for column in np.flatnonzero(self._overlaps[number][row] >= MIN_OVERLAP).tolist():
                if (number, column, event.verb) in self._says:
                    return self._film.truth[number].pts_s - event.start_s
        return None

    def ranked(self) -> Ranked:
        """Overlap is the IoU of the times, of events whose pairs overlap by half in half of their common frames."""
        true_kind = np.array([kind(one, self._labels) for one in self._true], np.int64)
        found_kind = np.array([kind(one, self._labels) for one in self._found], np.int64)
        overlap: F64 = np.zeros((len(self._found), len(self._true)))
        for n, g in np.argwhere(found_kind[:, None] == true_kind[None]):
            if self._same_pair(self._found[n], self._true[g]):
                overlap[n, g] = time_iou(self._found[n], self._true[g])
        score = np.array([one.score for one in self._found])
        return Ranked(score=score, kind=found_kind, overlap_ng=overlap, true_kind=true_kind)

    def _same_pair(self, found: Segment, true: Segment) -> bool:
        row_of = dict(zip(true.frames, true.rows, strict=True))
        overlaps = [
            self._overlaps[number][row_of[number], row]
            for number, row in zip(found.frames, found.rows, strict=True)
            if number in row_of
        ]
        return bool(overlaps) and float(np.median(overlaps)) >= MIN_OVERLAP


def event_map(films: Sequence[Events]) -> dict[float, float]:
    """Mean over verbs and objects of the AP, for each of TIME_OVERLAPS.

    Source: the metric of ActivityNet (Caba Heilbron et al., CVPR 2015), with pairs that must agree.
    """
    ranked = [film.ranked() for film in films]
    return {least: class_mean(ranked, least) for least in TIME_OVERLAPS}


def time_iou(a: Segment, b: Segment) -> float:
    """Common time over united time; 0 where one of both has none."""
    common = max(0.0, min(a.end_s, b.end_s) - max(a.start_s, b.start_s))
    union = (a.end_s - a.start_s) + (b.end_s - b.start_s) - common
    return common / union if union > 0 else 0.0


def mean_event_map(by_overlap: dict[float, float]) -> float:
    """Over the thresholds."""
    return mean(list(by_overlap.values()))
