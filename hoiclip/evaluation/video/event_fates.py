"""What became of every event of a video: found, found at the wrong times, under another verb, or missed.

An event is a segment (segments.py). A found event belongs to the true pair that its pair overlaps by half, by the
median over the frames in which both are listed; whether the true pair does anything then does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.evaluation.video.align import Aligned
from hoiclip.evaluation.video.events import MIN_OVERLAP, time_iou
from hoiclip.evaluation.video.film_identities import pair_overlaps
from hoiclip.evaluation.video.moments import F64
from hoiclip.evaluation.video.segments import Segment, frame_ends_s, segments
from hoiclip.vocabulary import Vocabulary

MIN_TIME_IOU = 0.5
FOUND, WRONG_TIMES, WRONG_VERB, NOT_ACTIVE, MISSED = "found", "wrong times", "wrong verb", "not active", "missed"
EVENT_FATES = (FOUND, WRONG_TIMES, WRONG_VERB, NOT_ACTIVE, MISSED)
RIGHT, NOTHING_THERE = "right", "nothing there"
FALSE_EVENTS = (RIGHT, WRONG_TIMES, WRONG_VERB, NOTHING_THERE)
EVENT_MEANINGS = {
    FOUND: f"a found event of its pair and verb has a time IoU of at least {MIN_TIME_IOU:g}",
    WRONG_TIMES: "found events of its pair and verb share less of its time, or break it into pieces",
    WRONG_VERB: "its pair is said to do only other things meanwhile",
    NOT_ACTIVE: "its pair is followed for half of the time or more, but no verb is active",
    MISSED: "its pair is not followed",
}
FALSE_EVENT_MEANINGS = {
    RIGHT: f"its pair does that, with a time IoU of at least {MIN_TIME_IOU:g}",
    WRONG_TIMES: "its pair does that, but shares less of its time",
    WRONG_VERB: "its pair does not do that at any moment of it",
    NOTHING_THERE: "no true pair is where it is",
}


@dataclass(frozen=True, slots=True)
class VideoEvents:
    """The events of one video, true and found, each with what it is."""

    name: str
    start_s: float
    end_s: float
    true: tuple[Segment, ...]
    true_fate: NDArray[np.int64]
    """Index into EVENT_FATES, one per true event."""
    found: tuple[Segment, ...]
    found_kind: NDArray[np.int64]
    """Index into FALSE_EVENTS, one per found event."""
    found_pair: tuple[int | None, ...]
    """Identity of the true pair that each found event is of; None where there is none."""


def video_events(video: Aligned, vocabulary: Vocabulary) -> VideoEvents:
    """Compares all events of a video."""
    overlaps = [pair_overlaps(true, found) for true, found in zip(video.truth, video.found, strict=True)]
    true, found = segments(video.truth, vocabulary), segments(video.found, vocabulary)
    owners = tuple(_owner(one, video, overlaps) for one in found)
    fates = [_fate(one, found, owners, overlaps) for one in true]
    kinds = [_kind(one, owner, true) for one, owner in zip(found, owners, strict=True)]
    times_s = [frame.pts_s for frame in video.truth]
    return VideoEvents(
        name=video.name,
        start_s=min(times_s, default=0.0),
        end_s=max(frame_ends_s(video.truth), default=0.0),
        true=tuple(true),
        true_fate=np.array([EVENT_FATES.index(fate) for fate in fates], np.int64),
        found=tuple(found),
        found_kind=np.array([FALSE_EVENTS.index(kind) for kind in kinds], np.int64),
        found_pair=owners,
    )


def _owner(event: Segment, video: Aligned, overlaps: Sequence[F64]) -> int | None:
    """The true pair that a found event is of."""
    of_pair: dict[int, list[float]] = {}
    for number, row in zip(event.frames, event.rows, strict=True):
        for pair, overlap in zip(video.truth[number].pair.tolist(), overlaps[number][:, row].tolist(), strict=True):
            of_pair.setdefault(pair, []).append(overlap)
    medians = {pair: float(np.median(values)) for pair, values in of_pair.items()}
    best = max(medians, key=lambda pair: medians[pair], default=None)
    return best if best is not None and medians[best] >= MIN_OVERLAP else None


def _fate(event: Segment, found: Sequence[Segment], owners: Sequence[int | None], overlaps: Sequence[F64]) -> str:
    same_pair = [one for one, owner in zip(found, owners, strict=True) if owner == event.pair]
    meanwhile = [one for one in same_pair if one.start_s < event.end_s and event.start_s < one.end_s]
    same_verb = [one for one in meanwhile if one.verb == event.verb]
    if same_verb:
        return FOUND if max(time_iou(one, event) for one in same_verb) >= MIN_TIME_IOU else WRONG_TIMES
    if meanwhile:
        return WRONG_VERB
    listed = [
        bool((overlaps[number][row] >= MIN_OVERLAP).any()) for number, row in zip(event.frames, event.rows, strict=True)
    ]
    return NOT_ACTIVE if 2 * sum(listed) >= len(listed) else MISSED


def _kind(event: Segment, owner: int | None, true: Sequence[Segment]) -> str:
    if owner is None:
        return NOTHING_THERE
    shared = max([time_iou(event, one) for one in true if (one.pair, one.verb) == (owner, event.verb)], default=0.0)
    if shared >= MIN_TIME_IOU:
        return RIGHT
    return WRONG_TIMES if shared > 0 else WRONG_VERB
