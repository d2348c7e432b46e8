"""Recorded detections of videos, replayed through trackers: the model runs once, trackers as often as needed.

Whether smoothing helps is a question of trackers; running the model again for it would only be slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hoiclip.core.detections import HOIDetections
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.video import (
    AlignedVideo,
    VideoFrame,
    VideoReport,
    align_video,
    measure_videos,
    read_ground_truth,
)
from hoiclip_engine.engine import Engine
from hoiclip_engine.sinks.hico_sink import video_frame
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.timestamps import nominal_step_s
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Ground truth of one video, and the model's detections in each frame."""

    name: str
    step_s: float
    times_s: tuple[float, ...]
    pairs: tuple[HOIDetections, ...]
    ground_truth: tuple[VideoFrame, ...]


def record_detections(engine: Engine, video: Path) -> Recording:
    """Detects in every frame of a video."""
    with open_video(video) as source:
        seen = [(frame.pts_s, engine.detect(frame.image)) for frame in source]
        step_s = nominal_step_s(source.info.average_rate)
    return Recording(
        name=video.name,
        step_s=step_s,
        times_s=tuple(pts_s for pts_s, _ in seen),
        pairs=tuple(pairs for _, pairs in seen),
        ground_truth=tuple(read_ground_truth(video.with_suffix(".jsonl"), engine.vocabulary)),
    )


def without_smoothing(config: TrackConfig) -> TrackConfig:
    """The config with the verbs of each single detection: no average, no hysteresis, no waiting."""
    chosen = config.verb
    verb = replace(
        chosen,
        half_life_s=0.0,
        min_duration_s=0.0,
        end_score=chosen.start_score,
        end_scores=chosen.start_scores,
    )
    return replace(config, verb=verb)


def replay_recordings(videos: Sequence[Recording], vocabulary: Vocabulary, config: TrackConfig) -> VideoReport:
    """Measures the results of a stream that detects in every frame and has this tracker."""
    return measure_videos([track_recording(video, vocabulary, config) for video in videos], vocabulary)


def track_recording(video: Recording, vocabulary: Vocabulary, config: TrackConfig) -> AlignedVideo:
    """Runs one recording through a tracker and aligns it with its ground truth."""
    tracker = PairTracker.for_vocabulary(vocabulary, config.for_detection_interval(video.step_s))
    found = [
        video_frame(index, pts_s, tracker.update(pairs, pts_s))
        for index, (pts_s, pairs) in enumerate(zip(video.times_s, video.pairs, strict=True))
    ]
    return align_video(video.name, video.ground_truth, found, len(vocabulary.verbs))
