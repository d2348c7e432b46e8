"""A file played as a camera: every frame when it is due, and waiting that can be stopped."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.playback import PacedSource
from tests.engine.video_files import write_clip

LATE_S = 0.05
"""A loaded machine wakes a thread late, never early."""


@pytest.mark.parametrize("speed", [1.0, 3.0])
def test_paced_frames_arrive_when_due(tmp_path: Path, speed: float) -> None:
    source = PacedSource(open_video(write_clip(tmp_path / "clip.mp4", [500, 540, 700, 740])), speed)
    frames = [(frame.pts_s, frame.read_s, time.monotonic()) for frame in source]
    source.close()
    first_pts_s, first_read_s, _ = frames[0]
    for pts_s, read_s, seen_s in frames:
        due_s = first_read_s + (pts_s - first_pts_s) / speed
        assert due_s - 1e-3 <= read_s <= seen_s <= due_s + LATE_S
    assert source.is_live
    assert source.counters.decoded == 4


def test_late_reader_gets_all_frames_without_further_wait(tmp_path: Path) -> None:
    source = PacedSource(open_video(write_clip(tmp_path / "clip.mp4", [0, 100, 200])))
    frames = iter(source)
    next(frames)
    time.sleep(0.25)
    began_s = time.monotonic()
    assert [frame.index for frame in frames] == [1, 2]
    assert time.monotonic() - began_s < LATE_S
    source.close()


def test_paced_stop_ends_a_long_wait(tmp_path: Path) -> None:
    source = PacedSource(open_video(write_clip(tmp_path / "clip.mp4", [0, 60_000])))
    frames = iter(source)
    next(frames)
    began_s = time.monotonic()
    threading.Timer(0.1, source.stop).start()
    assert list(frames) == []
    assert time.monotonic() - began_s < 0.5
    assert source.counters.decoded == 1
    source.close()


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_playback_speed_must_be_positive(tmp_path: Path, speed: float) -> None:
    with open_video(write_clip(tmp_path / "clip.mp4", [0])) as source, pytest.raises(ValueError, match="speed"):
        PacedSource(source, speed)
