"""Why a model misses interactions in videos: the analysis of images over all frames, and what became of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.analysis import FALSE_KINDS, FATES, AnalysisConfig, ErrorAnalysis, analyse
from hoiclip.evaluation.analysis.kinds import FOUND
from hoiclip.evaluation.analysis.tables import counted
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.video.align import Aligned
from hoiclip.evaluation.video.event_fates import EVENT_FATES, FALSE_EVENTS, MIN_TIME_IOU, VideoEvents, video_events
from hoiclip.evaluation.video.measure import frame_annotations, frame_predictions
from hoiclip.evaluation.video.moments import I64
from hoiclip.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class VideoErrors:
    """Frames as images, and events."""

    frames: ErrorAnalysis
    predictions: Sequence[PredictedPairs]
    """Of all frames of all videos, one video after the other."""
    annotations: Sequence[ImageAnnotation]
    video_of_frame: I64
    events: tuple[VideoEvents, ...]
    """One per video."""

    @property
    def event_counts(self) -> I64:
        """(videos, EVENT_FATES)"""
        return np.array([np.bincount(one.true_fate, minlength=len(EVENT_FATES)) for one in self.events], np.int64)

    @property
    def found_event_counts(self) -> I64:
        """(videos, FALSE_EVENTS)"""
        return np.array([np.bincount(one.found_kind, minlength=len(FALSE_EVENTS)) for one in self.events], np.int64)

    def frame_counts(self, video: int) -> tuple[I64, I64]:
        """Of one video: ground truth by FATES, top false positives by FALSE_KINDS."""
        fates, false = self.frames.fates, self.frames.false
        own = self.video_of_frame[fates.image] == video
        wrong = (self.video_of_frame[false.image] == video) & false.is_top
        return np.bincount(fates.fate[own], minlength=len(FATES)), np.bincount(
            false.kind[wrong], minlength=len(FALSE_KINDS)
        )

    @property
    def worst_first(self) -> list[int]:
        """Videos by the share of their ground truth that is not found, then by false positives."""

        def order(video: int) -> tuple[float, int]:
            fates, false = self.frame_counts(video)
            found = fates[FATES.index(FOUND)] / fates.sum() if fates.sum() else 1.0
            return float(found), -int(false.sum())

        return sorted(range(len(self.events)), key=order)

    def to_json(self) -> dict[str, Any]:
        """As that of images, with events and videos besides."""
        videos = []
        for video in self.worst_first:
            fates, false = self.frame_counts(video)
            videos.append(
                {
                    "name": self.events[video].name,
                    "frames": int((self.video_of_frame == video).sum()),
                    "ground_truth": counted(FATES, fates),
                    "false_positives_top": counted(FALSE_KINDS, false),
                    "true_events": counted(EVENT_FATES, self.event_counts[video]),
                    "found_events": counted(FALSE_EVENTS, self.found_event_counts[video]),
                }
            )
        return {
            **self.frames.to_json(),
            "events": {
                "min_time_iou": MIN_TIME_IOU,
                "true": counted(EVENT_FATES, self.event_counts.reshape(-1, len(EVENT_FATES)).sum(axis=0)),
                "found": counted(FALSE_EVENTS, self.found_event_counts.reshape(-1, len(FALSE_EVENTS)).sum(axis=0)),
            },
            "videos_worst_first": videos,
        }


def analyse_videos(
    videos: Sequence[Aligned],
    vocabulary: Vocabulary,
    sizes_wh: Sequence[tuple[int, int] | None] = (),
    config: AnalysisConfig | None = None,
) -> VideoErrors:
    """The analysis of every frame and of every event.

    Args:
        sizes_wh: of the frames of each video, in pixels; None, or nothing at all, where not known.
    """
    video_of_frame = np.repeat(np.arange(len(videos)), [len(one.truth) for one in videos])
    predictions, annotations = frame_predictions(videos, vocabulary), frame_annotations(videos, vocabulary)
    for row, video in enumerate(video_of_frame.tolist() if sizes_wh else ()):
        if size_wh := sizes_wh[video]:
            annotations[row] = replace(annotations[row], width_px=size_wh[0], height_px=size_wh[1])
    return VideoErrors(
        frames=analyse(predictions, annotations, vocabulary, config=config),
        predictions=predictions,
        annotations=annotations,
        video_of_frame=video_of_frame,
        events=tuple(video_events(one, vocabulary) for one in videos),
    )
