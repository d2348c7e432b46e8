"""Clips cut from kept packets: the same frames at the same times as the source delivered, within fixed memory."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip_engine.events.clip import clip_file, decoding_times
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.open_source import open_source
from hoiclip_engine.sources.packet_ring import KeptPacket, PacketClip, PacketRing
from hoiclip_engine.sources.uri import parse_address
from hoiclip_engine.types.frame import Frame, SourceEvent
from tests.engine.loopback_servers import StreamServer, transport_stream
from tests.engine.video_files import index_of, write_clip

FRAMES = 75
TICK_S = 2e-5
"""Of the coarsest clock that MP4 is given here, half a tick; Matroska counts milliseconds."""


def decoded(path: Path, packets: PacketRing | None = None, **config: float) -> list[Frame]:
    with open_video(path, SourceConfig(packets=packets, **config)) as source:  # type: ignore[arg-type]
        return list(source)


def frames_of(clip: PacketClip, folder: Path) -> list[Frame]:
    path = folder / f"cut{clip.suffix}"
    path.write_bytes(clip_file(clip))
    with open_video(path) as source:
        frames = list(source)
        assert source.counters.decode_errors == 0
        assert source.counters.pts_repaired == 0
    return frames


def assert_same(clip: PacketClip, source: Sequence[Frame], folder: Path, *, most_apart: int = 0) -> list[Frame]:
    """The clip's frames are those of the source from its first to its last one; returns the source's."""
    expected = [frame for frame in source if clip.pts_s[0] <= frame.pts_s <= max(clip.pts_s)]
    found = frames_of(clip, folder)
    assert len(found) == len(expected)
    tick_s = 0.5e-3 if clip.suffix == ".mkv" else TICK_S
    assert found[0].pts_s == 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.pts_s == pytest.approx(theirs.pts_s - expected[0].pts_s, abs=tick_s)
        assert np.abs(ours.rgb.astype(int) - theirs.rgb).max() <= most_apart
    return expected


def milliseconds(count: int = FRAMES) -> list[int]:
    return [index * 40 for index in range(count)]


COPIED = {
    "h264.mp4": {"codec": "libx264"},
    "h264_b.mp4": {"codec": "libx264", "b_frames": 3},
    "h264_b.mkv": {"codec": "libx264", "b_frames": 3},
    "h264_b.ts": {"codec": "libx264", "b_frames": 3, "container_format": "mpegts"},
    "h264_open.mp4": {
        "codec": "libx264",
        "b_frames": 3,
        "options": {"x264-params": "open-gop=1:scenecut=0:b-adapt=0", "preset": "veryfast"},
    },
    "hevc_open.mp4": {"codec": "libx265", "b_frames": 3, "options": {"x265-params": "log-level=none:open-gop=1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "vp8.webm": {"codec": "libvpx", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "mpeg4.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mjpeg.mkv": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}
CENTISECONDS = ("mpeg4.mp4",)
_FLV_HEADER_BYTES = 13


def made(folder: Path, name: str) -> Path:
    if COPIED[name]["codec"] not in av.codecs_available:
        pytest.skip(f"this ffmpeg has no {COPIED[name]['codec']}")
    base = Fraction(1, 100) if name in CENTISECONDS else Fraction(1, 1000)
    pts = [round(tick * float(Fraction(1, 1000) / base)) for tick in milliseconds()]
    return write_clip(folder / name, pts, base, **COPIED[name])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", COPIED)
def test_clip_has_the_frames_and_times_of_the_source(tmp_path: Path, name: str) -> None:
    ring = PacketRing(60)
    source = decoded(made(tmp_path, name), ring)
    zero_s = source[0].pts_s
    for start_s, end_s in ((0.0, 0.0), (0.3, 1.1), (1.0, 2.0), (2.5, 99.0)):
        clip = ring.cut(zero_s + start_s, zero_s + end_s, zero_s + start_s)
        assert clip is not None
        assert not clip.reencoded
        assert not clip.truncated
        shown = assert_same(clip, source, tmp_path)
        assert shown[0].pts_s <= zero_s + start_s + 1e-9
        assert not any(shown[-1].pts_s < frame.pts_s <= zero_s + end_s for frame in source)


def test_h264_with_open_gops_has_frames_before_its_keyframes(tmp_path: Path) -> None:
    """Else the test above would not test them."""
    with av.open(str(made(tmp_path, "h264_open.mp4"))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size and packet.pts is not None]
    keys = [row for row, packet in enumerate(packets) if packet.is_keyframe]
    assert len(keys) > 2
    assert any(min(packet.pts or 0 for packet in packets[row:]) < (packets[row].pts or 0) for row in keys[1:])


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("raw.nut", "rawvideo", "yuyv422"), ("raw.y4m", "wrapped_avframe", "yuv420p"), ("sorenson.flv", "flv", "yuv420p")],
)
def test_clip_of_a_codec_that_cannot_be_copied_is_encoded(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = write_clip(tmp_path / name, list(range(FRAMES)), Fraction(1, 25), codec=codec, pix_fmt=pix_fmt)
    ring = PacketRing(60)
    source = decoded(path, ring)
    assert [frame.pts_s for frame in source] == [frame.pts_s for frame in decoded(path)]
    clip = ring.cut(1.3, 2.0, 1.5)
    assert clip is not None
    assert clip.reencoded
    assert ring.size < 40 * 1024
    assert_same(clip, source, tmp_path, most_apart=40)
    indices = [round(index_of(frame.rgb)) for frame in frames_of(clip, tmp_path)]
    first = round(clip.pts_s[0] * 25)
    assert indices == [index % 25 for index in range(first, first + len(indices))]


def test_clip_keeps_rotation_and_pixel_aspect(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", milliseconds(), rotation_deg=90, aspect=Fraction(4, 3))
    ring = PacketRing(60)
    source = decoded(path, ring)
    clip = ring.cut(0.5, 1.0, 0.7)
    assert clip is not None
    assert source[0].rgb.shape[0] > source[0].rgb.shape[1]
    assert_same(clip, source, tmp_path)


def test_clip_keeps_variable_rates_and_pauses(tmp_path: Path) -> None:
    pts, ticks = [], 500
    for index in range(FRAMES):
        ticks += 2000 if index == 30 else random.Random(index).randint(11, 90)
        pts.append(ticks)
    ring = PacketRing(60)
    source = decoded(write_clip(tmp_path / "a.mp4", pts, b_frames=2), ring)
    clip = ring.cut(source[20].pts_s, source[45].pts_s, source[20].pts_s)
    assert clip is not None
    assert_same(clip, source, tmp_path)


def test_clip_counts_by_the_clock_of_the_stream_where_timestamps_were_repaired(tmp_path: Path) -> None:
    """The second half of the file begins at zero again."""
    pieces = [write_clip(tmp_path / f"{part}.ts", milliseconds(), container_format="mpegts") for part in range(2)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    ring = PacketRing(60)
    source = decoded(path, ring)
    assert len(source) == 2 * FRAMES
    middle_s = source[FRAMES].pts_s
    clip = ring.cut(middle_s - 0.5, middle_s + 0.5, middle_s)
    assert clip is not None
    assert len(assert_same(clip, source, tmp_path)) > 24


def test_clip_begins_where_reading_began_after_a_seek(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", milliseconds(250), b_frames=2)
    ring = PacketRing(60)
    source = decoded(path, ring, start_s=7.0)
    assert source[0].pts_s == pytest.approx(7.0)
    clip = ring.cut(4.0, 8.0, 7.2)
    assert clip is not None
    assert 6.0 < clip.pts_s[0] <= 7.0
    whole = decoded(path)
    assert_same(clip, whole, tmp_path)


def test_clip_outlives_its_source(tmp_path: Path) -> None:
    path = made(tmp_path, "h264_b.mp4")
    ring = PacketRing(60)
    source = decoded(path, ring)
    path.unlink()
    clip = ring.cut(0.5, 1.5, 0.9)
    ring.close()
    assert clip is not None
    assert ring.size == 0
    assert ring.cut(0.5, 1.5, 0.9) is None
    assert_same(clip, source, tmp_path)


def test_source_keeps_nothing_unless_it_is_asked_to(tmp_path: Path) -> None:
    path = made(tmp_path, "h264_b.mp4")
    with open_video(path) as source:
        assert source._video is not None
        assert not source._video.stream.codec_context.copy_opaque
    plain, kept = decoded(path), decoded(path, PacketRing(60))
    assert all(np.array_equal(a.rgb, b.rgb) and a.pts_s == b.pts_s for a, b in zip(plain, kept, strict=True))


def test_ring_drops_what_the_consumer_has_passed_but_a_keyframe_before_it(tmp_path: Path) -> None:
    ring = PacketRing(1.0)
    source = decoded(write_clip(tmp_path / "a.mp4", milliseconds(), gop=5), ring)
    whole = ring.size
    for frame in source[:50]:
        ring.reached(frame.pts_s)
    assert ring.size < whole
    clip = ring.cut(source[49].pts_s - 1.0, source[-1].pts_s, source[49].pts_s)
    assert clip is not None
    assert not clip.truncated
    assert clip.pts_s[0] <= source[49].pts_s - 1.0
    early = ring.cut(0.0, source[-1].pts_s, source[49].pts_s)
    assert early is not None
    assert early.truncated
    assert early.pts_s[0] > 0.5


@pytest.mark.parametrize("max_bytes", [1, 3000, 20_000])
def test_ring_never_holds_more_bytes_than_allowed(tmp_path: Path, max_bytes: int) -> None:
    path = made(tmp_path, "h264_b.mp4")
    ring = PacketRing(60, max_bytes)
    largest = 0
    with open_video(path, SourceConfig(packets=ring)) as source:
        for _ in source:
            largest = max(largest, ring.size)
    assert largest <= max_bytes
    clip = ring.cut(0.0, 3.0, 2.5)
    if max_bytes < 3000:
        assert clip is None
    else:
        assert clip is None or clip.truncated


class _Tap:
    """Of a connection that only counts."""

    def __init__(self) -> None:
        self.lost = False


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.booleans(), st.integers(0, 3)), max_size=80),
    st.integers(400, 3000),
)
def test_ring_counts_its_bytes_and_begins_with_a_keyframe(
    steps: list[tuple[int, bool, bool, int]], max_bytes: int
) -> None:
    """Whatever comes: packets of any size, keyframes, new connections, the consumer's progress."""
    ring, tap = PacketRing(2, max_bytes), _Tap()
    ring._tap = tap  # type: ignore[assignment]
    for number, (size, key, fresh, passed_s) in enumerate(steps):
        if fresh:
            tap = ring._tap = _Tap()  # type: ignore[assignment]
        ring.append(tap, KeptPacket(bytes(size), number, key, float(number)))  # type: ignore[arg-type]
        ring.reached(number - passed_s)
        kept = [packet for gop in ring._gops for packet in gop.packets]
        assert ring.size == sum(len(packet.data) + 400 for packet in kept) <= max_bytes
        assert all(gop.packets[0].is_keyframe for gop in ring._gops)
        assert not any(packet.is_keyframe for gop in ring._gops for packet in gop.packets[1:])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 10_000), unique=True, max_size=60))
def test_decoding_times_increase_and_precede_presentation(pts: list[int]) -> None:
    times = decoding_times(pts)
    assert len(times) == len(pts)
    assert all(a < b for a, b in pairwise(times))
    assert all(decoded_at <= shown_at for decoded_at, shown_at in zip(times, pts, strict=True))


def test_decoding_times_equal_presentation_without_reordering() -> None:
    assert decoding_times([3, 5, 9]) == [3, 5, 9]
    assert decoding_times([0, 3, 1, 2]) == [-1, 0, 1, 2]


def test_new_parameters_of_a_codec_begin_another_clip(tmp_path: Path) -> None:
    """Of a camera that changes its size: FLV has the parameters beside the packets, not in them."""
    small, large = (
        write_clip(tmp_path / f"{width_px}.flv", milliseconds(30), size_px=(width_px, 48), gop=10)
        for width_px in (64, 96)
    )
    path = tmp_path / "joined.flv"
    path.write_bytes(small.read_bytes() + large.read_bytes()[_FLV_HEADER_BYTES:])
    ring = PacketRing(60)
    source = decoded(path, ring)
    assert [frame.width_px for frame in source] == [64] * 30 + [96] * 30
    for own in (source[:30], source[30:]):
        clip = ring.cut(source[0].pts_s, source[-1].pts_s, own[15].pts_s)
        assert clip is not None
        assert assert_same(clip, own, tmp_path) == own


def test_live_clip_never_spans_two_connections(tmp_path: Path) -> None:
    ring = PacketRing(60)
    with StreamServer(transport_stream(tmp_path)) as server:
        config = SourceConfig(timeout_s=1.0, packets=ring)
        source = open_source(parse_address(server.url), config, random.Random(0))
        items = []
        threading.Timer(1.0, server.kill).start()
        threading.Timer(1.5, server.start).start()
        for item in source:
            items.append(item)
            if source.counters.reconnects and items[-1].pts_s > items_lost_s(items) + 2.0:
                break
        source.close()
    before = [item for item in items[: lost_at(items)] if isinstance(item, Frame)]
    after = [item for item in items[lost_at(items) :] if isinstance(item, Frame)]
    assert len(before) > 10
    assert len(after) > 10
    for own, at_s in ((before, before[5].pts_s), (after, after[5].pts_s)):
        clip = ring.cut(own[5].pts_s - 9.0, own[5].pts_s + 9.0, at_s)
        assert clip is not None
        assert not clip.truncated
        shown = assert_same(clip, fully(own, clip, tmp_path), tmp_path)
        assert {frame.pts_s for frame in own} <= {frame.pts_s for frame in shown}
        assert clip.pts_s[0] > (before[-1].pts_s if own is after else -1.0)


def fully(own: list[Frame], clip: PacketClip, folder: Path) -> list[Frame]:
    """Frames delivered, and those of the clip that the source had not delivered: at its ends alone."""
    times = {round(frame.pts_s, 6) for frame in own}
    zero_s = clip.pts_s[0]
    extra = [
        replace(frame, pts_s=zero_s + frame.pts_s)
        for frame in frames_of(clip, folder)
        if not any(abs(zero_s + frame.pts_s - pts_s) < 1e-3 for pts_s in times)
    ]
    assert all(not own[0].pts_s < frame.pts_s < own[-1].pts_s for frame in extra)
    return sorted([*own, *extra], key=lambda frame: frame.pts_s)


def lost_at(items: Sequence[Frame | SourceEvent]) -> int:
    return next((row for row, item in enumerate(items) if isinstance(item, SourceEvent)), len(items))


def items_lost_s(items: Sequence[Frame | SourceEvent]) -> float:
    return items[min(lost_at(items), len(items) - 1)].pts_s


def test_packets_of_an_abandoned_connection_are_not_kept(tmp_path: Path) -> None:
    ring = PacketRing(60)
    path = made(tmp_path, "h264.mp4")
    with av.open(str(path)) as old, av.open(str(path)) as new:
        late, current = ring.connect(old.streams.video[0]), ring.connect(new.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                late.add(packet)  # type: ignore[arg-type]
        assert ring.size == 0
        for packet in new.demux(video=0):
            if packet.size:
                current.add(packet)  # type: ignore[arg-type]
        assert ring.size > 0


def test_keeping_packets_takes_little_time(tmp_path: Path) -> None:
    """A generous limit: a tenth of a millisecond a frame, measured 0.007."""
    path = made(tmp_path, "h264.mp4")

    def duration_s(ring: PacketRing | None) -> float:
        began_s = time.process_time()
        decoded(path, ring)
        return time.process_time() - began_s

    duration_s(None)
    plain_s, kept_s = (min(duration_s(ring) for _ in range(5)) for ring in (None, PacketRing(60)))
    assert kept_s - plain_s < FRAMES * 1e-4
