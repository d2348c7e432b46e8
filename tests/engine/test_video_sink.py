"""The annotated video: the same frames at the same times, and files that are whole or do not exist."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.sinks.annotate import letterbox, person_color
from hoiclip_engine.sinks.video_encoder import VideoEncoder, output_time_base
from hoiclip_engine.sinks.video_sink import VideoSink
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.types.frame import Frame
from tests.engine import dying_writer
from tests.engine.frame_results import Row, frame_result, header, summary, tracked
from tests.engine.video_files import image, index_of, write_clip


def write(
    path: Path,
    times_s: Sequence[float],
    time_base: Fraction = Fraction(1, 1000),
    size_px: tuple[int, int] = (64, 48),
) -> Path:
    sink = VideoSink(path)
    sink.start(header(size_px=size_px, time_base=time_base))
    for index, pts_s in enumerate(times_s):
        sink.write(frame_result(Frame(image(index, *size_px), pts_s, index)))
    sink.finish(summary())
    return path


def plain_times(path: Path) -> list[float]:
    """Times as PyAV gives them, without our reader."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


TIMES = {
    "constant": (Fraction(1, 25), [i / 25 for i in range(30)]),
    "ntsc avi": (Fraction(1001, 24000), [i * 1001 / 24000 for i in range(20)]),
    "gif": (Fraction(1, 100), [0.0, 0.02, 0.07, 0.09]),
    "variable with gaps": (Fraction(1, 12800), [0.0, 0.04, 0.5, 0.52, 10.0, 3000.0]),
    "late start": (Fraction(1, 90000), [1.4334 + i * 0.0333 for i in range(10)]),
    "a day late": (Fraction(1, 90000), [95443.7 + i * 0.04 for i in range(5)]),
    "repaired": (Fraction(1, 1000), [0.0, 0.04, 0.041, 0.042, 0.08]),
    "raw stream": (Fraction(1, 1_200_000), [i / 25 for i in range(9)]),
    "one frame": (Fraction(1, 1000), [2.0]),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("case", TIMES)
def test_video_sink_keeps_times_and_images(tmp_path: Path, suffix: str, case: str) -> None:
    time_base, times_s = TIMES[case]
    path = write(tmp_path / f"out{suffix}", times_s, time_base)
    tolerance_s = 0.00051 if suffix == ".mkv" else 1 / 90_000  # Matroska counts milliseconds
    assert plain_times(path) == pytest.approx(times_s, abs=tolerance_s)
    with open_video(path) as source:
        shown = [round(index_of(frame.rgb)) for frame in source]
    assert shown == [index % 25 for index in range(len(times_s))]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_last_image_lasts_as_long_as_the_one_before(tmp_path: Path, suffix: str) -> None:
    with open_video(write(tmp_path / f"out{suffix}", [0.0, 0.5, 1.0])) as source:
        assert source.info.duration_s == pytest.approx(1.5)


def test_first_frame_before_time_zero_is_kept(tmp_path: Path) -> None:
    times = plain_times(write(tmp_path / "out.mp4", [-0.5, -0.3, 0.0, 0.1]))
    assert times == pytest.approx([0.0, 0.2, 0.5, 0.6])


def test_frames_closer_than_a_tick_are_all_kept(tmp_path: Path) -> None:
    times = plain_times(write(tmp_path / "out.mkv", [0.0, 0.0001, 0.0002, 0.04]))
    assert len(times) == 4
    assert all(b > a for a, b in pairwise(times))


@pytest.mark.parametrize(("size_px", "even_px"), [((63, 47), (64, 48)), ((1, 1), (2, 2)), ((65, 48), (66, 48))])
def test_video_of_odd_size_is_padded(tmp_path: Path, size_px: tuple[int, int], even_px: tuple[int, int]) -> None:
    with open_video(write(tmp_path / "out.mp4", [0.0, 0.04], size_px=size_px)) as source:
        assert (source.info.width_px, source.info.height_px) == even_px
        assert len(list(source)) == 2


@pytest.mark.parametrize("size_px", [(64, 48), (96, 720)])
def test_video_sink_keeps_colours(tmp_path: Path, size_px: tuple[int, int]) -> None:
    with open_video(write(tmp_path / "out.mp4", [0.0], size_px=size_px)) as source:
        rgb = next(iter(source)).rgb.astype(int)
    assert np.abs(rgb - image(0, *size_px)).mean() < 4


@pytest.mark.parametrize(("size_px", "red", "blue"), [((98, 66), 0.299, 0.114), ((64, 720), 0.2126, 0.0722)])
def test_encoder_is_given_the_colours_of_the_standard(
    tmp_path: Path, size_px: tuple[int, int], red: float, blue: float
) -> None:
    """BT.601, from 720 lines on BT.709; by their formulas in floating point, so that half a level is rounding."""
    rgb = np.random.default_rng(0).integers(0, 256, (size_px[1], size_px[0], 3), dtype=np.uint8)
    encoder = VideoEncoder(tmp_path / "clip.mp4", *size_px, Fraction(1, 1000))
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(float)
        for plane in encoder._frame(rgb).planes
    ]
    encoder.close()
    r, g, b = np.moveaxis(rgb / 255, 2, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    blues, reds = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    means = [colour.reshape(size_px[1] // 2, 2, -1, 2).mean(axis=(1, 3)) for colour in (blues, reds)]
    for plane, expected in zip(planes, (16 + 219 * y, *(128 + 224 * mean for mean in means)), strict=True):
        assert np.abs(plane - expected).max() < 0.51


def test_video_sink_draws_pairs_unless_the_overlay_is_off(tmp_path: Path) -> None:
    row = Row(human_box_xyxy=(40, 60, 120, 200), object=-1, label=-1)
    frame = Frame(np.zeros((240, 320, 3), np.uint8), 0.0, 0)
    for overlay in (True, False):
        sink = VideoSink(tmp_path / "out.mp4", overlay=overlay)
        sink.start(header(size_px=(320, 240)))
        sink.write(frame_result(frame, row))
        sink.finish(summary())
        with open_video(tmp_path / "out.mp4") as source:
            rgb = next(iter(source)).rgb
        assert bool(rgb.max() > 100) is overlay


def test_frame_painter_fits_frames_of_another_size_with_their_boxes(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.start(header(size_px=(320, 240)))
    sink.write(frame_result(Frame(np.full((240, 320, 3), 128, np.uint8), 0.0, 0)))
    tall = Frame(np.full((480, 240, 3), 128, np.uint8), 0.04, 1)
    sink.write(frame_result(tall, Row(human_box_xyxy=(0, 120, 239, 479), object=-1, label=-1)))
    sink.finish(summary())
    with open_video(tmp_path / "out.mp4") as source:
        second = list(source)[1].rgb.astype(int)
    assert second.shape == (240, 320, 3)
    assert second[30, 10].max() < 20, "black beside the image"
    assert np.abs(second[30, 160] - 128).max() < 20, "the image in the middle"
    assert np.abs(second[75, 101] - np.array(person_color(1))).max() < 90, "the box on the edge of the image"


def test_letterbox_keeps_the_aspect_and_scales_boxes() -> None:
    fit = letterbox(240, 480, 320, 240)
    assert (fit.width_px, fit.height_px, fit.left_px, fit.top_px) == (120, 240, 100, 0)
    boxes = fit.pairs(tracked(Row(human_box_xyxy=(0, 0, 240, 480)))).human_boxes_xyxy
    assert boxes.tolist() == [[100, 0, 220, 240]]
    assert letterbox(10_000, 1, 64, 48).height_px == 1


def test_video_has_an_unfinished_name_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the run before")
    sink = VideoSink(path)
    sink.start(header())
    sink.write(frame_result(Frame(image(0), 0.0, 0)))
    assert path.read_bytes() == b"the run before"
    assert (tmp_path / "out.part.mp4").exists()
    sink.finish(summary(interrupted=True))
    assert len(plain_times(path)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("policy", ["lossless", "latest"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_video_of_a_killed_process_plays_except_for_the_last_second(tmp_path: Path, suffix: str, policy: str) -> None:
    frames = 100
    argv = [tmp_path / f"out{suffix}", tmp_path / "out.jsonl", policy, frames]
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.dying_writer", *map(str, argv)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    times = plain_times(tmp_path / f"out.part{suffix}")
    assert frames - dying_writer.FPS <= len(times) <= frames
    expected = [dying_writer.START_S + index / dying_writer.FPS for index in range(len(times))]
    assert times == pytest.approx(expected, abs=0.00051)  # Matroska and the header's ticks: milliseconds
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["header"] + frames * ["frame"]


def test_finished_video_is_not_fragmented(tmp_path: Path) -> None:
    """Players and editors know ordinary files best."""
    data = write(tmp_path / "out.mp4", [i / 25 for i in range(100)]).read_bytes()
    boxes, at = [], 0
    while at < len(data):
        boxes.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    assert boxes == [b"ftyp", b"free", b"mdat", b"moov"]


def test_full_disk_keeps_a_live_recording(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0)
    sink = VideoSink(tmp_path / "out.mp4")
    sink.start(dataclasses.replace(header(size_px=(320, 240)), policy="latest"))

    def fill() -> None:
        for index in range(500):
            rgb = noise.integers(0, 256, (240, 320, 3), np.uint8)
            sink.write(frame_result(Frame(rgb, index * 0.04, index)))

    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(SinkError, match=r"recorded until then is in .*out\.part\.mp4"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with open_video(tmp_path / "out.part.mp4") as source:
        assert len(list(source)) > 10


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("pause_s", [50_000.0, 400_000.0, 1e7])
def test_pauses_of_days_keep_every_frame(tmp_path: Path, suffix: str, pause_s: float) -> None:
    path = tmp_path / f"out{suffix}"
    times = (
        [i / 25 for i in range(30)] + [pause_s + i / 25 for i in range(30)] + [3 * pause_s + i / 25 for i in range(30)]
    )
    sink = VideoSink(path)
    sink.start(header(time_base=Fraction(1, 90_000)))
    for index, pts_s in enumerate(times):
        sink.write(frame_result(Frame(image(index), pts_s, index)))
    sink.finish(summary())
    written = plain_times(path)
    longest_s = 2_000_000_000 / 90_000 if suffix != ".mkv" else np.inf
    assert np.diff(written) == pytest.approx(np.minimum(np.diff(times), longest_s), abs=0.0011)
    assert [f"{longest_s:.0f} s in {path}" in note for note in sink.notes] == [True] * (suffix != ".mkv")


def test_run_without_frames_leaves_no_video(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.start(header())
    sink.finish(summary())
    assert list(tmp_path.iterdir()) == []


def test_video_sink_never_overwrites_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [0, 40])
    before = clip.read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="source"):
        VideoSink(clip).start(header(source="./clip.mp4"))
    assert clip.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("name", ["out.avi", "out.webm", "out", "out.jsonl"])
def test_video_name_with_another_suffix_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.mp4, \.mkv, \.mov"):
        VideoSink(name)


def test_missing_folder_and_existing_folder_are_reported(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="folder"):
        VideoSink(tmp_path / "none" / "out.mp4").start(header())
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(SinkError, match="directory"):
        VideoSink(tmp_path / "out.mp4").start(header())


def test_full_disk_leaves_no_video(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0)
    sink = VideoSink(tmp_path / "out.mp4")
    sink.start(header(size_px=(320, 240)))

    def fill() -> None:
        for index in range(200):
            rgb = noise.integers(0, 256, (240, 320, 3), np.uint8)
            sink.write(frame_result(Frame(rgb, index * 0.04, index)))
        sink.finish(summary())

    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(SinkError, match="cannot write") as caught:
            fill()
        sink.finish(summary())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_video_encoder_without_x264_writes_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    times_s = [0.5 + i / 30 for i in range(10)]
    path = write(tmp_path / "out.mp4", times_s, Fraction(1, 90_000))
    assert plain_times(path) == pytest.approx(times_s, abs=0.0001)
    with open_video(path) as source:
        assert source.info.codec == "mpeg4"


@pytest.mark.parametrize("source", [Fraction(1, 25), Fraction(1001, 24000), Fraction(1, 90_000), Fraction(1, 12_800)])
def test_output_time_base_divides_the_ticks_of_the_source(source: Fraction) -> None:
    assert (source / output_time_base(source, ".mp4")).denominator == 1


def test_absurd_time_bases_are_replaced() -> None:
    assert output_time_base(Fraction(1, 1_200_000), ".mp4") == Fraction(1, 90_000)
    assert output_time_base(Fraction(0), ".mp4") == Fraction(1, 90_000)
