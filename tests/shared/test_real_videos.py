"""Real video files: the frames that PyAV itself decodes, at its times, or one clear refusal."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from hoiclip.core.errors import SourceError
from hoiclip_engine.sources.file import open_video

pytestmark = pytest.mark.thorough


def packet_times(path: Path) -> list[float | None]:
    """Decodes the first video stream packet by packet, without our code; returns the times of all frames."""
    times: list[float | None] = []
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            times += [None if f.pts is None else float(f.pts * packet.stream.time_base) for f in frames]
    return times


def expected_times(path: Path) -> list[float | None]:
    """Times by PyAV; empty where it finds no frames."""
    try:
        return packet_times(path)
    except (av.FFmpegError, IndexError):
        return []


def check_against_pyav(path: Path) -> bool:
    """Whether the file was read; any difference raises."""
    expected = expected_times(path)
    if not expected:
        with pytest.raises(SourceError) as caught:
            open_video(path)
        assert "\n" not in str(caught.value)
        return False
    with open_video(path) as source:
        times: list[float] = []
        for frame in source:
            assert frame.index == len(times)
            assert frame.rgb.dtype == np.uint8
            assert frame.rgb.flags.c_contiguous
            assert frame.rgb.shape == (frame.height_px, frame.width_px, 3)
            if frame.index == 0:
                assert (frame.width_px, frame.height_px) == (source.info.width_px, source.info.height_px)
            times.append(frame.pts_s)
        counters = source.counters
    assert len(times) == len(expected) == counters.decoded, path.name
    assert all(b > a for a, b in pairwise(times)), path.name
    assert counters.pts_missing == sum(pts_s is None for pts_s in expected), path.name
    if not (counters.pts_missing or counters.pts_repaired):
        assert times == pytest.approx(expected, abs=1e-6), path.name
    return True


def test_real_videos_give_the_frames_of_pyav(shared: Path) -> None:
    videos = sorted((shared / "data" / "videos").iterdir())
    read = [check_against_pyav(path) for path in videos]
    assert sum(read) > 20
    assert read.count(False) >= 3


def test_real_rotated_videos_are_upright(shared: Path) -> None:
    sideways_count = 0
    for path in sorted((shared / "data" / "videos").iterdir()):
        try:
            source = open_video(path)
        except SourceError:
            continue
        with source, av.open(str(path)) as container:
            first = next(container.decode(video=0))
            assert source.info.rotation_deg == -first.rotation % 360, path.name
            is_sideways = source.info.rotation_deg % 180 == 90
            assert not is_sideways or (source.info.height_px > source.info.width_px) == (first.width > first.height)
            sideways_count += is_sideways
    assert sideways_count >= 2


def test_real_photos_are_one_frame(shared: Path) -> None:
    photos = sorted((shared / "data" / "images").rglob("*.jpg"))
    assert photos
    for path in photos:
        with open_video(path) as source:
            assert len(list(source)) == 1, path.name
            assert source.counters.pts_missing == source.counters.pts_repaired == 0
