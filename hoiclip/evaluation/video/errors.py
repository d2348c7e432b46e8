"""Error analysis of videos: the analysis of images over all frames, and the fates of events.

An event is a verb segment. A found event belongs to the ground-truth pair that its pair overlaps by half, by the median
over the frames in which both are listed; whether the ground-truth pair does anything then does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F64, I64
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.error_analysis import FALSE_KINDS, FATES, AnalysisConfig, ErrorAnalysis, analyse_errors
from hoiclip.evaluation.error_analysis.attributes import counts_to_json
from hoiclip.evaluation.error_analysis.classify import FOUND
from hoiclip.evaluation.triplets import PredictedTriplets
from hoiclip.evaluation.video.events import MIN_OVERLAP, time_iou
from hoiclip.evaluation.video.frames import AlignedVideo, VerbSegment, frame_ends_s, verb_segments
from hoiclip.evaluation.video.identity import pair_overlaps
from hoiclip.evaluation.video.measure import frame_annotations, frame_predictions

MIN_TIME_IOU = 0.5
EVENT_FOUND, EVENT_WRONG_TIMES, EVENT_WRONG_VERB, EVENT_NOT_ACTIVE, EVENT_MISSED = (
    "found",
    "wrong times",
    "wrong verb",
    "not active",
    "missed",
)
EVENT_FATES = (EVENT_FOUND, EVENT_WRONG_TIMES, EVENT_WRONG_VERB, EVENT_NOT_ACTIVE, EVENT_MISSED)
EVENT_RIGHT, EVENT_BACKGROUND = "right", "nothing there"
FOUND_EVENT_KINDS = (EVENT_RIGHT, EVENT_WRONG_TIMES, EVENT_WRONG_VERB, EVENT_BACKGROUND)
EVENT_FATE_MEANINGS = {
    EVENT_FOUND: f"a found event of its pair and verb has a time IoU of at least {MIN_TIME_IOU:g}",
    EVENT_WRONG_TIMES: "found events of its pair and verb cover less of its time, or break it into pieces",
    EVENT_WRONG_VERB: "its pair is found with other verbs only meanwhile",
    EVENT_NOT_ACTIVE: "its pair is followed for half of the time or more, but no verb is active",
    EVENT_MISSED: "its pair is not followed",
}
FOUND_EVENT_MEANINGS = {
    EVENT_RIGHT: f"its pair does that, with a time IoU of at least {MIN_TIME_IOU:g}",
    EVENT_WRONG_TIMES: "its pair does that, but covers less of its time",
    EVENT_WRONG_VERB: "its pair does not do that at any moment of it",
    EVENT_BACKGROUND: "no ground-truth pair is where it is",
}


@dataclass(frozen=True, kw_only=True)
class VideoErrors:
    """Errors of several videos: of their frames as images, and of their events."""

    frames: ErrorAnalysis
    predictions: Sequence[PredictedTriplets]
    """Predictions of all frames of all videos, one video after the other."""
    annotations: Sequence[ImageAnnotation]
    video_of_frame: I64
    events: tuple[EventErrors, ...]
    """One per video."""

    @property
    def event_counts(self) -> I64:
        """(videos, EVENT_FATES)"""
        return np.array([np.bincount(events.gt_fate, minlength=len(EVENT_FATES)) for events in self.events], np.int64)

    @property
    def found_event_counts(self) -> I64:
        """(videos, FALSE_EVENTS)"""
        return np.array(
            [np.bincount(events.found_kind, minlength=len(FOUND_EVENT_KINDS)) for events in self.events], np.int64
        )

    def frame_counts(self, video: int) -> tuple[I64, I64]:
        """Counts of one video: ground truth by FATES, top false positives by FALSE_KINDS."""
        fates, false = self.frames.fates, self.frames.false
        own = self.video_of_frame[fates.image] == video
        wrong = (self.video_of_frame[false.image] == video) & false.is_top
        return np.bincount(fates.fate[own], minlength=len(FATES)), np.bincount(
            false.kind[wrong], minlength=len(FALSE_KINDS)
        )

    @property
    def worst_first(self) -> list[int]:
        """Videos by the fraction of their ground truth that is not found, then by false positives."""

        def order(video: int) -> tuple[float, int]:
            fates, false = self.frame_counts(video)
            found = fates[FATES.index(FOUND)] / fates.sum() if fates.sum() else 1.0
            return float(found), -int(false.sum())

        return sorted(range(len(self.events)), key=order)

    def to_json(self) -> dict[str, Any]:
        """The JSON of images, with events and videos besides."""
        videos = []
        for video in self.worst_first:
            fates, false = self.frame_counts(video)
            videos.append(
                {
                    "name": self.events[video].name,
                    "frames": int((self.video_of_frame == video).sum()),
                    "ground_truth": counts_to_json(FATES, fates),
                    "false_positives_top": counts_to_json(FALSE_KINDS, false),
                    "true_events": counts_to_json(EVENT_FATES, self.event_counts[video]),
                    "found_events": counts_to_json(FOUND_EVENT_KINDS, self.found_event_counts[video]),
                }
            )
        return {
            **self.frames.to_json(),
            "events": {
                "min_time_iou": MIN_TIME_IOU,
                "true": counts_to_json(EVENT_FATES, self.event_counts.reshape(-1, len(EVENT_FATES)).sum(axis=0)),
                "found": counts_to_json(
                    FOUND_EVENT_KINDS, self.found_event_counts.reshape(-1, len(FOUND_EVENT_KINDS)).sum(axis=0)
                ),
            },
            "videos_worst_first": videos,
        }


def analyse_videos(
    videos: Sequence[AlignedVideo],
    vocabulary: Vocabulary,
    sizes_wh: Sequence[tuple[int, int] | None] = (),
    config: AnalysisConfig | None = None,
) -> VideoErrors:
    """Analyses every frame and every event.

    Args:
        sizes_wh: size of the frames of each video, in pixels; None, or an empty sequence, where not known.
    """
    video_of_frame = np.repeat(np.arange(len(videos)), [len(video.ground_truth) for video in videos])
    predictions, annotations = frame_predictions(videos, vocabulary), frame_annotations(videos, vocabulary)
    for row, video in enumerate(video_of_frame.tolist() if sizes_wh else ()):
        if size_wh := sizes_wh[video]:
            annotations[row] = replace(annotations[row], width_px=size_wh[0], height_px=size_wh[1])
    return VideoErrors(
        frames=analyse_errors(predictions, annotations, vocabulary, config=config),
        predictions=predictions,
        annotations=annotations,
        video_of_frame=video_of_frame,
        events=tuple(classify_events(video, vocabulary) for video in videos),
    )


@dataclass(frozen=True, slots=True)
class EventErrors:
    """Events of one video, of ground truth and results, each with its fate or kind."""

    name: str
    start_s: float
    end_s: float
    gt: tuple[VerbSegment, ...]
    gt_fate: NDArray[np.int64]
    """Index into EVENT_FATES, one per ground-truth event."""
    found: tuple[VerbSegment, ...]
    found_kind: NDArray[np.int64]
    """Index into FALSE_EVENTS, one per found event."""
    found_pair: tuple[int | None, ...]
    """Identity of the ground-truth pair of each found event; None where there is none."""


def classify_events(video: AlignedVideo, vocabulary: Vocabulary) -> EventErrors:
    """Compares all events of a video."""
    overlaps = [pair_overlaps(gt, found) for gt, found in zip(video.ground_truth, video.found, strict=True)]
    gt, found = verb_segments(video.ground_truth, vocabulary), verb_segments(video.found, vocabulary)
    owners = tuple(_owner(event, video, overlaps) for event in found)
    fates = [_event_fate(event, found, owners, overlaps) for event in gt]
    kinds = [_event_kind(event, owner, gt) for event, owner in zip(found, owners, strict=True)]
    times_s = [frame.pts_s for frame in video.ground_truth]
    return EventErrors(
        name=video.name,
        start_s=min(times_s, default=0.0),
        end_s=max(frame_ends_s(video.ground_truth), default=0.0),
        gt=tuple(gt),
        gt_fate=np.array([EVENT_FATES.index(fate) for fate in fates], np.int64),
        found=tuple(found),
        found_kind=np.array([FOUND_EVENT_KINDS.index(kind) for kind in kinds], np.int64),
        found_pair=owners,
    )


def _owner(event: VerbSegment, video: AlignedVideo, overlaps: Sequence[F64]) -> int | None:
    """The ground-truth pair of a found event."""
    of_pair: dict[int, list[float]] = {}
    for number, row in zip(event.frames, event.rows, strict=True):
        for pair, overlap in zip(
            video.ground_truth[number].pair.tolist(), overlaps[number][:, row].tolist(), strict=True
        ):
            of_pair.setdefault(pair, []).append(overlap)
    medians = {pair: float(np.median(values)) for pair, values in of_pair.items()}
    best = max(medians, key=lambda pair: medians[pair], default=None)
    return best if best is not None and medians[best] >= MIN_OVERLAP else None


def _event_fate(
    event: VerbSegment, found: Sequence[VerbSegment], owners: Sequence[int | None], overlaps: Sequence[F64]
) -> str:
    same_pair = [other for other, owner in zip(found, owners, strict=True) if owner == event.pair]
    meanwhile = [other for other in same_pair if other.start_s < event.end_s and event.start_s < other.end_s]
    same_verb = [other for other in meanwhile if other.verb == event.verb]
    if same_verb:
        return EVENT_FOUND if max(time_iou(other, event) for other in same_verb) >= MIN_TIME_IOU else EVENT_WRONG_TIMES
    if meanwhile:
        return EVENT_WRONG_VERB
    listed = [
        bool((overlaps[number][row] >= MIN_OVERLAP).any()) for number, row in zip(event.frames, event.rows, strict=True)
    ]
    return EVENT_NOT_ACTIVE if 2 * sum(listed) >= len(listed) else EVENT_MISSED


def _event_kind(event: VerbSegment, owner: int | None, gt: Sequence[VerbSegment]) -> str:
    if owner is None:
        return EVENT_BACKGROUND
    best_iou = max(
        [time_iou(event, other) for other in gt if (other.pair, other.verb) == (owner, event.verb)], default=0.0
    )
    if best_iou >= MIN_TIME_IOU:
        return EVENT_RIGHT
    return EVENT_WRONG_TIMES if best_iou > 0 else EVENT_WRONG_VERB
