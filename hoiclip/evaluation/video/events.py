"""Metrics of verbs over time: onset delay, AP on the overlap of times, flicker, and agreement with the ground truth.

All but flicker compare found pairs with the ground-truth pairs that they overlap, whatever their identities. Flicker
has no standard; its formulas are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hoiclip.core.array_types import F64, Bool
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.results import mean
from hoiclip.evaluation.video.frames import (
    AlignedVideo,
    VerbSegment,
    VideoFrame,
    active_verbs,
    frame_ends_s,
    verb_segments,
)
from hoiclip.evaluation.video.identity import pair_overlaps
from hoiclip.evaluation.video.trajectories import Ranked, class_mean, segment_kind

MIN_OVERLAP = 0.5
TIME_OVERLAPS = (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Onsets:
    """Delays of the onsets of ground-truth events."""

    delays_s: tuple[float, ...]
    """Delays of the events that were found while they lasted."""
    events: int
    """Number of all events."""

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
        """Fraction of the events that were found while they lasted."""
        return len(self.delays_s) / self.events if self.events else math.nan


class VideoEvents:
    """Events of one video, of ground truth and results, with the overlaps of their pairs."""

    def __init__(self, video: AlignedVideo, vocabulary: Vocabulary) -> None:
        self._video, self._labels = video, len(vocabulary.objects)
        self._gt, self._found = verb_segments(video.ground_truth, vocabulary), verb_segments(video.found, vocabulary)
        self._found.sort(key=lambda segment: -segment.score)
        self._overlaps = [pair_overlaps(gt, found) for gt, found in zip(video.ground_truth, video.found, strict=True)]
        self._segment_at: dict[tuple[int, int, int], VerbSegment] = {  # by frame, row and verb
            (number, row, segment.verb): segment
            for segment in self._found
            for number, row in zip(segment.frames, segment.rows, strict=True)
        }

    def onsets(self) -> Onsets:
        """Delays from the first frame of a ground-truth event to the first that has its verb on an overlapping pair.

        A verb that became active too early has a delay of 0: its error lowers precision.
        """
        delays_s = [delay_s for segment in self._gt if (delay_s := self._delay_s(segment)) is not None]
        return Onsets(delays_s=tuple(delays_s), events=len(self._gt))

    def _delay_s(self, event: VerbSegment) -> float | None:
        for number, row in zip(event.frames, event.rows, strict=True):
            for column in np.flatnonzero(self._overlaps[number][row] >= MIN_OVERLAP).tolist():
                if (number, column, event.verb) in self._segment_at:
                    return self._video.ground_truth[number].pts_s - event.start_s
        return None

    def ranked(self) -> Ranked:
        """Events by score. Overlap is the IoU of times, if the pairs overlap by half in half of their common frames."""
        gt_kind = np.array([segment_kind(segment, self._labels) for segment in self._gt], np.int64)
        found_kind = np.array([segment_kind(segment, self._labels) for segment in self._found], np.int64)
        overlap: F64 = np.zeros((len(self._found), len(self._gt)))
        for n, g in np.argwhere(found_kind[:, None] == gt_kind[None]):
            if self._same_pair(self._found[n], self._gt[g]):
                overlap[n, g] = time_iou(self._found[n], self._gt[g])
        score = np.array([segment.score for segment in self._found])
        return Ranked(score=score, kind=found_kind, overlap_ng=overlap, gt_kind=gt_kind)

    def _same_pair(self, found: VerbSegment, gt: VerbSegment) -> bool:
        row_of = dict(zip(gt.frames, gt.rows, strict=True))
        overlaps = [
            self._overlaps[number][row_of[number], row]
            for number, row in zip(found.frames, found.rows, strict=True)
            if number in row_of
        ]
        return bool(overlaps) and float(np.median(overlaps)) >= MIN_OVERLAP


def event_map(videos: Sequence[VideoEvents]) -> dict[float, float]:
    """Mean over verbs and objects of the AP, for each of TIME_OVERLAPS.

    Source: the metric of ActivityNet (Caba Heilbron et al., CVPR 2015), with pairs that must agree.
    """
    ranked = [video.ranked() for video in videos]
    return {threshold: class_mean(ranked, threshold) for threshold in TIME_OVERLAPS}


def time_iou(a: VerbSegment, b: VerbSegment) -> float:
    """Common time over united time; 0 where either is empty."""
    common = max(0.0, min(a.end_s, b.end_s) - max(a.start_s, b.start_s))
    union = (a.end_s - a.start_s) + (b.end_s - b.start_s) - common
    return common / union if union > 0 else 0.0


def mean_event_map(by_overlap: dict[float, float]) -> float:
    """Mean over the thresholds."""
    return mean(list(by_overlap.values()))


MAX_FLICKER_S = 1.0
"""A change that is undone within this time is flicker: nothing that people do stops and starts again so quickly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flicker:
    """Changes of active verbs; counts that add up over videos."""

    changes: int = 0
    """Verbs that become active or inactive from one frame that lists a pair to the next that does."""
    undone: int = 0
    """Changes that undo one of the same verb of the same pair less than MAX_FLICKER_S before."""
    pair_s: float = 0.0
    """Seconds that pairs are listed, those that never do anything left out."""

    def __add__(self, other: Flicker) -> Flicker:
        return Flicker(
            changes=self.changes + other.changes,
            undone=self.undone + other.undone,
            pair_s=self.pair_s + other.pair_s,
        )

    @property
    def changes_per_minute(self) -> float:
        """Changes per pair-minute; NaN where no pair ever does anything."""
        return 60 * self.changes / self.pair_s if self.pair_s else math.nan

    @property
    def per_minute(self) -> float:
        """Undone changes per pair-minute."""
        return 60 * self.undone / self.pair_s if self.pair_s else math.nan


def flicker(frames: Sequence[VideoFrame], vocabulary: Vocabulary) -> Flicker:
    """Counts the changes of one video, also of its ground truth: that is the least a perfect result flickers.

    A pair that is listed for the first time comes from doing nothing.
    """
    doing: dict[int, set[int]] = {}
    listed_s: dict[int, float] = {}
    changed_s: dict[tuple[int, int], float] = {}
    changes = undone = 0
    for frame, end_s in zip(frames, frame_ends_s(frames), strict=True):
        for pair, verbs in zip(frame.pair.tolist(), active_verbs(frame, vocabulary), strict=True):
            changed = set(verbs) ^ doing.get(pair, set())
            doing[pair] = set(verbs)
            listed_s[pair] = listed_s.get(pair, 0.0) + end_s - frame.pts_s
            changes += len(changed)
            for verb in changed:
                undone += frame.pts_s - changed_s.get((pair, verb), -math.inf) < MAX_FLICKER_S
                changed_s[pair, verb] = frame.pts_s
    acted = {pair for pair, _ in changed_s}
    return Flicker(changes=changes, undone=undone, pair_s=sum(listed_s[pair] for pair in acted))


_Rows = set[tuple[int, int, int]]
"""(frame, row, verb)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Interactions of one video, long and short alike, in order of their start."""

    found: tuple[VerbSegment, ...]
    missed: tuple[VerbSegment, ...]
    """Found and missed are those of the ground truth that last long enough to be required."""
    right: tuple[VerbSegment, ...]
    wrong: tuple[VerbSegment, ...]
    """Right and wrong are all that are shown, however short."""

    @property
    def recall(self) -> float:
        """Fraction of the required ones that are found; NaN where there are none."""
        return _ratio(len(self.found), len(self.missed))

    @property
    def precision(self) -> float:
        """Fraction of the shown ones that are right; NaN where there are none."""
        return _ratio(len(self.right), len(self.wrong))


def measure_agreement(
    video: AlignedVideo,
    vocabulary: Vocabulary,
    *,
    min_gt_s: float = 0.5,
    min_overlap: float = 0.5,
    min_time: float = 0.5,
) -> Agreement:
    """Compares the shown interactions with the ground truth, as a viewer would: each a pair, one verb, and its times.

    Mean average precision, in contrast, ranks by scores that no viewer sees. In each frame, shown pairs with a verb are
    matched one to one with ground-truth pairs that do the same, so that a second box round the same pair is wrong.
    Identities do not matter here.

    Args:
        min_gt_s: ground-truth interactions shorter than this are not required, though they may be shown.
        min_overlap: IoU that the human boxes and the object boxes must reach, both with the same label.
        min_time: fraction of its frames in which an interaction must be matched to count as found or right.
    """
    gt_rows: _Rows = set()
    shown_rows: _Rows = set()
    for number, (gt, shown) in enumerate(zip(video.ground_truth, video.found, strict=True)):
        for verb, gt_row, shown_row in _match_by_verb(gt, shown, vocabulary, min_overlap):
            gt_rows.add((number, gt_row, verb))
            shown_rows.add((number, shown_row, verb))
    asked = [
        segment
        for segment in verb_segments(video.ground_truth, vocabulary)
        if segment.end_s - segment.start_s >= min_gt_s
    ]
    found, missed = _split_by_match(asked, gt_rows, min_time)
    right, wrong = _split_by_match(verb_segments(video.found, vocabulary), shown_rows, min_time)
    return Agreement(found=found, missed=missed, right=right, wrong=wrong)


def _match_by_verb(
    gt: VideoFrame, shown: VideoFrame, vocabulary: Vocabulary, min_overlap: float
) -> list[tuple[int, int, int]]:
    """(verb, row of the ground-truth pair, row of the shown pair), each row at most once for a verb."""
    overlaps = pair_overlaps(gt, shown)
    gt_active, shown_active = _active_by_verb(gt, vocabulary), _active_by_verb(shown, vocabulary)
    matched = []
    for verb in np.flatnonzero(gt_active.any(axis=0) & shown_active.any(axis=0)).tolist():
        good: F64 = np.where(
            gt_active[:, verb, None] & shown_active[None, :, verb] & (overlaps >= min_overlap), overlaps, 0.0
        )
        # One for each possible match, so that more matches count before better ones.
        rows, columns = linear_sum_assignment(np.where(good > 0, 1.0 + good / max(good.shape), 0.0), maximize=True)
        matched += [(verb, g, n) for g, n in zip(rows.tolist(), columns.tolist(), strict=True) if good[g, n] > 0]
    return matched


def _active_by_verb(frame: VideoFrame, vocabulary: Vocabulary) -> Bool:
    """(P, V) active verbs; "no_interaction" is none."""
    active = np.zeros((len(frame), len(vocabulary.verbs)), np.bool_)
    for row, verbs in enumerate(active_verbs(frame, vocabulary)):
        active[row, verbs] = True
    return active


def _split_by_match(
    shown: Sequence[VerbSegment], matched: _Rows, min_time: float
) -> tuple[tuple[VerbSegment, ...], tuple[VerbSegment, ...]]:
    """Segments matched in enough of their frames, and the rest."""

    def agrees(segment: VerbSegment) -> bool:
        rows = zip(segment.frames, segment.rows, strict=True)
        return sum((frame, row, segment.verb) in matched for frame, row in rows) >= min_time * len(segment.frames)

    return tuple(segment for segment in shown if agrees(segment)), tuple(
        segment for segment in shown if not agrees(segment)
    )


def _ratio(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else math.nan
