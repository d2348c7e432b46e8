"""The benchmark's replay of videos equals the stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.video_replay import record_detections, replay_recordings, without_smoothing
from hoiclip.synthetic.fixed_sets import VIDEO_CONFIG, VIDEO_SEEDS
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluation.videos import evaluate_videos, videos_in
from hoiclip_engine.track.pair_tracker import TrackConfig


def test_replayed_video_equals_the_video(tmp_path: Path) -> None:
    draw_videos(tmp_path, 1, replace(VIDEO_CONFIG, fps=8, duration_s=2.0), VIDEO_SEEDS["test"])
    videos = videos_in(tmp_path)
    with Engine.load("drawn", EngineConfig(backend="torch")) as engine:
        streamed = evaluate_videos(engine, videos).summary
        recording = [record_detections(engine, video) for video in videos]
        again = replay_recordings(recording, engine.vocabulary, engine.config.track).summary
        raw = replay_recordings(recording, engine.vocabulary, without_smoothing(TrackConfig()))
    for subject, numbers in streamed.items():
        assert again[subject] == pytest.approx(numbers, nan_ok=True), subject
    assert raw.flicker.changes > 0
