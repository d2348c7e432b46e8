"""Parts of a file, each decoded on its own, are together what the whole file shows: frame for frame and bit for bit."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip_engine.frame import Frame
from hoiclip_engine.video.cutting import Part, parts_of
from hoiclip_engine.video.part_source import PartSource, Sound, joined
from hoiclip_engine.video.source import open_video
from tests.engine.making_videos import write_clip

Known = tuple[int, float, tuple[int, ...], str]
CODECS = {
    "libx264": {},
    "libx264 open": {"x264-params": "open-gop=1:scenecut=0"},
    "mpeg4": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def known(frame: Frame) -> Known:
    return frame.index, frame.pts_s, frame.rgb.shape, hashlib.sha256(frame.rgb.tobytes()).hexdigest()


def whole(path: Path) -> list[Known]:
    with open_video(path) as source:
        return [known(frame) for frame in source]


def read(path: Path, part: Part) -> tuple[list[Known], Sound]:
    source = PartSource(path, part)
    frames = [known(frame) for frame in source]
    sound = source.sound
    source.close()
    return frames, sound


def pieced(path: Path, parts: tuple[Part, ...]) -> tuple[list[Known], bool]:
    """Read from the last part to the first: none may lean on another."""
    read_parts = [read(path, part) for part in reversed(parts)][::-1]
    return [frame for frames, _ in read_parts for frame in frames], joined([sound for _, sound in read_parts])


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(st.integers(1, 120), min_size=1, max_size=60),
    start=st.integers(0, 3000),
    gop=st.integers(1, 14),
    b_frames=st.integers(0, 4),
    codec=st.sampled_from(sorted(CODECS)),
    suffix=st.sampled_from([".mp4", ".mkv", ".mov"]),
    part_s=st.sampled_from([0.001, 0.2, 0.9]),
)
def test_parts_put_together_are_the_whole_file(
    steps: list[int], start: int, gop: int, b_frames: int, codec: str, suffix: str, part_s: float
) -> None:
    """Uneven times, late starts, B-frames over the border, groups of one frame."""
    name = codec.split()[0]
    if name == "libvpx" or name == "libvpx-vp9":
        suffix, b_frames = ".mkv", 0
    with tempfile.TemporaryDirectory() as folder:
        path = write_clip(
            Path(folder) / f"clip{suffix}",
            list(accumulate(steps, initial=start)),
            codec=name,
            gop=gop,
            b_frames=b_frames,
            options=CODECS[codec],
        )
        parts = parts_of(path, part_s)
        frames = whole(path)
        if len(frames) > 3 * gop + 2 * b_frames and part_s < 0.01 and name in ("libx264", "mpeg4"):
            assert len(parts) > 1
        if parts:
            assert pieced(path, parts) == (frames, True)
            assert [part.first_index for part in parts] == [
                sum(one.frames for one in parts[:number]) for number in range(len(parts))
            ]


def test_frames_over_the_border_belong_to_the_part_before_it(tmp_path: Path) -> None:
    """Open groups of pictures: what is decoded behind a key frame may be shown before it."""
    path = write_clip(tmp_path / "clip.mp4", range(60), Fraction(1, 25), codec="mpeg2video", gop=12, b_frames=2)
    parts = parts_of(path, 0.3)
    with av.open(str(path)) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size and packet.pts is not None]
    start = parts[1].start_pts
    assert start is not None
    assert min(pts[pts.index(start) + 1 :]) < start
    assert pieced(path, parts) == (whole(path), True)


def test_a_part_is_as_long_as_was_asked(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [40 * i for i in range(250)], gop=5)
    assert [part.frames for part in parts_of(path, 2.0)] == [50] * 5
    assert [part.frames for part in parts_of(path, 6.0)] == [150, 100]
    assert parts_of(path, 60.0) == ()


@pytest.mark.parametrize(
    ("name", "codec", "container_format"),
    [
        ("clip.ts", "libx264", None),
        ("clip.avi", "mpeg4", None),
        ("clip.h264", "libx264", "h264"),
        ("a.flv", "flv", None),
    ],
)
def test_a_file_that_cannot_be_wound_is_not_cut(
    tmp_path: Path, name: str, codec: str, container_format: str | None
) -> None:
    path = write_clip(
        tmp_path / name, [40 * i for i in range(60)], codec=codec, gop=5, container_format=container_format
    )
    assert parts_of(path, 0.2) == ()


def test_a_photo_is_not_cut(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.jpg", [0], Fraction(1, 25), codec="mjpeg", pix_fmt="yuvj420p")
    assert parts_of(path, 0.2) == ()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    return write_clip(folder / "clip.mp4", [40 * i for i in range(100)], gop=10, b_frames=2)


def test_a_border_that_is_no_place_to_begin_is_found_out(clip: Path) -> None:
    """As where a container calls frames key frames that lean on others: one is said to begin behind the real one."""
    good = parts_of(clip, 1.0)
    assert len(good) > 2
    step = 512  # ticks of a frame in this file
    assert good[1].start_pts is not None
    assert pieced(clip, good)[1]
    late = good[1].start_pts + 3 * step
    bad = (
        replace(good[0], end_pts=late, frames=good[0].frames + 3),
        replace(good[1], start_pts=late, frames=good[1].frames - 3),
        *good[2:],
    )
    assert not pieced(clip, bad)[1]


@pytest.mark.parametrize("change", [{"frames": 3}, {"start_pts": 7}, {"end_pts": 10**9}])
def test_a_part_that_is_not_as_announced_is_found_out(clip: Path, change: dict[str, int]) -> None:
    parts = parts_of(clip, 1.0)
    assert not pieced(clip, (parts[0], replace(parts[1], **change), *parts[2:]))[1]


def test_damage_in_a_part_is_found_out(clip: Path, tmp_path: Path) -> None:
    parts = parts_of(clip, 1.0)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    frames, sound = pieced(damaged, parts)
    assert not sound or frames == whole(damaged)


def test_pictures_that_differ_at_a_border_are_not_joined() -> None:
    def part(first: str, after: str) -> Sound:
        return Sound(complete=True, first_print=first, next_print=after)

    assert joined([part("a", "b"), part("b", "")])
    assert not joined([part("a", "b"), part("c", "")])
    assert joined([])
