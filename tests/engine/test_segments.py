"""Segments of a file, decoded independently, give the frames of the whole file, bit for bit."""

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

from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.segment import FileSegment, SegmentIntegrity, SegmentSource, segments_match, split_file
from hoiclip_engine.types.frame import Frame
from tests.engine.video_files import write_clip

FrameIdentity = tuple[int, float, tuple[int, ...], str]
CODECS = {
    "libx264": {},
    "libx264 open": {"x264-params": "open-gop=1:scenecut=0"},
    "mpeg4": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def frame_identity(frame: Frame) -> FrameIdentity:
    return frame.index, frame.pts_s, frame.rgb.shape, hashlib.sha256(frame.rgb.tobytes()).hexdigest()


def read_whole(path: Path) -> list[FrameIdentity]:
    with open_video(path) as source:
        return [frame_identity(frame) for frame in source]


def read_segment(path: Path, segment: FileSegment) -> tuple[list[FrameIdentity], SegmentIntegrity]:
    source = SegmentSource(path, segment)
    frames = [frame_identity(frame) for frame in source]
    integrity = source.integrity
    source.close()
    return frames, integrity


def read_in_segments(path: Path, segments: tuple[FileSegment, ...]) -> tuple[list[FrameIdentity], bool]:
    """Reads from the last segment to the first: none may depend on another."""
    results = [read_segment(path, segment) for segment in reversed(segments)][::-1]
    frames = [frame for segment_frames, _ in results for frame in segment_frames]
    return frames, segments_match([integrity for _, integrity in results])


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(st.integers(1, 120), min_size=1, max_size=60),
    start=st.integers(0, 3000),
    gop=st.integers(1, 14),
    b_frames=st.integers(0, 4),
    codec=st.sampled_from(sorted(CODECS)),
    suffix=st.sampled_from([".mp4", ".mkv", ".mov"]),
    segment_s=st.sampled_from([0.001, 0.2, 0.9]),
)
def test_segments_together_are_the_whole_file(
    steps: list[int], start: int, gop: int, b_frames: int, codec: str, suffix: str, segment_s: float
) -> None:
    """Uneven times, late starts, B-frames across splits, groups of one frame."""
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
        segments = split_file(path, segment_s)
        frames = read_whole(path)
        if len(frames) > 3 * gop + 2 * b_frames and segment_s < 0.01 and name in ("libx264", "mpeg4"):
            assert len(segments) > 1
        if segments:
            assert read_in_segments(path, segments) == (frames, True)
            assert [segment.first_index for segment in segments] == [
                sum(other.frames for other in segments[:number]) for number in range(len(segments))
            ]


def test_frames_across_a_split_belong_to_the_previous_segment(tmp_path: Path) -> None:
    """Open GOPs: frames decoded after a keyframe may be presented before it."""
    path = write_clip(tmp_path / "clip.mp4", range(60), Fraction(1, 25), codec="mpeg2video", gop=12, b_frames=2)
    segments = split_file(path, 0.3)
    with av.open(str(path)) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size and packet.pts is not None]
    start = segments[1].start_pts
    assert start is not None
    assert min(pts[pts.index(start) + 1 :]) < start
    assert read_in_segments(path, segments) == (read_whole(path), True)


def test_segment_has_the_requested_length(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [40 * i for i in range(250)], gop=5)
    assert [segment.frames for segment in split_file(path, 2.0)] == [50] * 5
    assert [segment.frames for segment in split_file(path, 6.0)] == [150, 100]
    assert split_file(path, 60.0) == ()


@pytest.mark.parametrize(
    ("name", "codec", "container_format"),
    [
        ("clip.ts", "libx264", None),
        ("clip.avi", "mpeg4", None),
        ("clip.h264", "libx264", "h264"),
        ("a.flv", "flv", None),
    ],
)
def test_unseekable_file_is_not_split(tmp_path: Path, name: str, codec: str, container_format: str | None) -> None:
    path = write_clip(
        tmp_path / name, [40 * i for i in range(60)], codec=codec, gop=5, container_format=container_format
    )
    assert split_file(path, 0.2) == ()


def test_photo_is_not_split(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.jpg", [0], Fraction(1, 25), codec="mjpeg", pix_fmt="yuvj420p")
    assert split_file(path, 0.2) == ()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segments")
    return write_clip(folder / "clip.mp4", [40 * i for i in range(100)], gop=10, b_frames=2)


def test_split_at_undecodable_frame_is_detected(clip: Path) -> None:
    """A container may mark dependent frames as keyframes: a segment then starts after the real keyframe."""
    good = split_file(clip, 1.0)
    assert len(good) > 2
    step = 512  # ticks of a frame in this file
    assert good[1].start_pts is not None
    assert read_in_segments(clip, good)[1]
    late = good[1].start_pts + 3 * step
    bad = (
        replace(good[0], end_pts=late, frames=good[0].frames + 3),
        replace(good[1], start_pts=late, frames=good[1].frames - 3),
        *good[2:],
    )
    assert not read_in_segments(clip, bad)[1]


@pytest.mark.parametrize("change", [{"frames": 3}, {"start_pts": 7}, {"end_pts": 10**9}])
def test_segment_that_differs_from_its_plan_is_detected(clip: Path, change: dict[str, int]) -> None:
    segments = split_file(clip, 1.0)
    assert not read_in_segments(clip, (segments[0], replace(segments[1], **change), *segments[2:]))[1]


def test_damaged_segment_is_detected(clip: Path, tmp_path: Path) -> None:
    segments = split_file(clip, 1.0)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    frames, integrity = read_in_segments(damaged, segments)
    assert not integrity or frames == read_whole(damaged)


def test_segments_with_different_border_images_do_not_match() -> None:
    def segment(first: str, after: str) -> SegmentIntegrity:
        return SegmentIntegrity(complete=True, first_print=first, next_print=after)

    assert segments_match([segment("a", "b"), segment("b", "")])
    assert not segments_match([segment("a", "b"), segment("c", "")])
    assert segments_match([])
