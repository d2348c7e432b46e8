"""Real files of others: as many frames as PyAV itself decodes, at its times, or one clear refusal."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from hoiclip.errors import SourceError
from hoiclip_engine.video.source import open_video


def plain_times(path: Path) -> list[float | None]:
    """Times of all frames of the first video stream, decoded packet by packet without any of our code."""
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
    """Nothing where PyAV finds nothing."""
    try:
        return plain_times(path)
    except (av.FFmpegError, IndexError):
        return []


def check_against_plain(path: Path) -> bool:
    """Whether the file was read; all that can be wrong with it raises."""
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


def test_every_video_gives_what_pyav_gives(shared: Path) -> None:
    videos = sorted((shared / "data" / "videos").iterdir())
    read = [check_against_plain(path) for path in videos]
    assert sum(read) > 20
    assert read.count(False) >= 3


def test_turned_phones_stand_upright(shared: Path) -> None:
    turned = 0
    for path in sorted((shared / "data" / "videos").iterdir()):
        try:
            source = open_video(path)
        except SourceError:
            continue
        with source, av.open(str(path)) as container:
            first = next(container.decode(video=0))
            assert source.info.rotation_deg == -first.rotation % 360, path.name
            on_its_side = source.info.rotation_deg % 180 == 90
            assert not on_its_side or (source.info.height_px > source.info.width_px) == (first.width > first.height)
            turned += on_its_side
    assert turned >= 2


def test_every_photo_is_one_frame(shared: Path) -> None:
    photos = sorted((shared / "data" / "images").rglob("*.jpg"))
    assert photos
    for path in photos:
        with open_video(path) as source:
            assert len(list(source)) == 1, path.name
            assert source.counters.pts_missing == source.counters.pts_repaired == 0
