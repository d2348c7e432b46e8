"""Evidence of hits and events: the right frames, names that are safe and sort, and honest counts."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.container import InputContainer
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.flapping import free_port
from benchmarks.rtsp_server import NEEDS, is_installed
from benchmarks.rtsp_server import start as start_rtsp_server
from hoiclip_engine.events import evidence as evidence_module
from hoiclip_engine.events.evidence import EvidenceConfig, EvidenceSink, stream_time
from hoiclip_engine.events.evidence_folder import EvidenceFolder, EvidenceLimits, own_files
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.connection import Connector
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.live import LiveSource
from hoiclip_engine.sources.open_source import open_source
from hoiclip_engine.sources.packet_ring import PacketRing
from hoiclip_engine.sources.uri import parse_address, redact
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import FrameResult
from hoiclip_engine.types.rule_hits import Evidence
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.command_output import PYTHONPATH
from tests.engine.evidence_runs import feed_live, hit, run_header, run_video, with_hits
from tests.engine.frame_results import Row, frame_result, header, summary
from tests.engine.loopback_servers import StreamServer, transport_stream
from tests.engine.video_files import image, index_of, write_clip

SHORT = EvidenceConfig(before_s=0.5, after_s=0.4, longest_s=2.0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[EvidenceFolder]:
    with EvidenceFolder(tmp_path / "evidence") as made:
        yield made


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds with B-frames and a keyframe every 0.48 s."""
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", [index * 40 for index in range(250)], b_frames=2)


def frames_in(path: Path | None) -> list[Frame]:
    assert path is not None
    with open_video(path) as source:
        frames = list(source)
        assert source.counters.decode_errors == 0
    return frames


def assert_shows(found: Evidence, frames: list[Frame]) -> list[Frame]:
    """The clip has the source's frames from its first to its last one; returns those."""
    expected = [frame for frame in frames if found.clip_start_s <= frame.pts_s <= found.clip_end_s]
    shown = frames_in(found.clip)
    assert len(shown) == len(expected) > 0
    for ours, theirs in zip(shown, expected, strict=True):
        assert np.array_equal(ours.rgb, theirs.rgb)
        assert ours.pts_s == pytest.approx(theirs.pts_s - found.clip_start_s, abs=1e-4)
    return expected


def test_hit_gets_a_clip_around_it_and_a_snapshot(folder: EvidenceFolder, video: Path) -> None:
    frames, (found,), sink = run_video(video, folder, [(4.0, 5.0)], SHORT)
    shown = assert_shows(found, frames)
    assert 3.0 < shown[0].pts_s <= 3.5
    assert 5.4 <= shown[-1].pts_s < 5.6
    assert (found.hit, found.rule, found.pair, found.verb, found.start_s) == (0, "rides here", 1, "ride", 4.0)
    assert not found.reencoded
    assert found.snapshot is not None
    snapshot = cv2.imread(str(found.snapshot))
    assert snapshot.shape == (48, 64, 3)
    assert (sink.written, sink.dropped, sink.without_clip, sink.shortened) == (1, 0, 0, 0)
    assert sink.totals == (("evidence", "1 written, 0 dropped"),)
    assert {path.name for path in folder.path.iterdir() if path.suffix != ".lock"} == {
        "000h00m04.000s_clip_rides_here_0.jpg",
        "000h00m04.000s_clip_rides_here_0.mp4",
    }


def test_clip_of_a_long_hit_ends_while_it_holds(folder: EvidenceFolder, video: Path) -> None:
    frames, (found,), _ = run_video(video, folder, [(2.0, 9.0)], SHORT)
    shown = assert_shows(found, frames)
    assert shown[0].pts_s <= 1.5
    assert 4.0 <= shown[-1].pts_s < 4.2, "start and longest_s"


def test_hit_at_the_ends_of_a_file_is_kept(folder: EvidenceFolder, video: Path) -> None:
    frames, found, _ = run_video(video, folder, [(0.0, 0.2), (9.5, 99.0), (9.9, 99.0)], SHORT)
    assert len(found) == 3
    for each in found:
        assert_shows(each, frames)
    assert found[0].clip_start_s == 0.0
    assert found[1].clip_end_s == found[2].clip_end_s == frames[-1].pts_s


def test_overlapping_hits_have_a_clip_each(folder: EvidenceFolder, video: Path) -> None:
    spans = [(3.0 + 0.1 * number, 4.0 + 0.1 * number) for number in range(10)]
    frames, found, _ = run_video(video, folder, spans, SHORT)
    assert sorted(each.hit or 0 for each in found) == list(range(10))
    for each in found:
        assert_shows(each, frames)


def test_rule_that_is_reported_late_shows_the_time_before_the_report(folder: EvidenceFolder, video: Path) -> None:
    """It had to hold for five seconds, more than a clip shows."""
    config, found = SHORT, list[Evidence]()
    ring = PacketRing(config.kept_s)
    sink = EvidenceSink(folder, config, ring, [found.append])
    frames = []
    with open_video(video, SourceConfig(packets=ring)) as source:
        for frame in source:
            if not frames:
                sink.start(run_header(str(video), frame))
            hits = (hit("start", pts_s=1.0, start_s=1.0),) if frame.index == 150 else ()
            sink.write(replace(frame_result(frame, Row()), rule_hits=hits))
            frames.append(frame)
    sink.finish(summary())
    assert_shows(found[0], frames)
    assert found[0].start_s == 1.0
    assert 2.9 < found[0].clip_start_s <= 3.5
    assert found[0].clip_end_s == pytest.approx(6.0, abs=0.2)
    assert found[0].snapshot is not None
    assert "00m01.000s" in found[0].snapshot.name


def test_snapshot_is_of_the_best_frame(folder: EvidenceFolder, video: Path) -> None:
    scores = {60: 0.4, 80: 0.9, 95: 0.6}
    found: list[Evidence] = []
    sink = EvidenceSink(folder, SHORT, None, [found.append])
    with open_video(video) as source:
        for frame in source:
            if frame.index == 0:
                sink.start(run_header(str(video), frame))
            result = with_hits(frame, [(2.4, 4.4)], (frame.index - 1) / 25, "ride")
            score = scores.get(frame.index, 0.3)
            sink.write(replace(frame_result(frame, Row(verbs={0: score}, active=())), rule_hits=result.rule_hits))
    sink.finish(summary())
    assert found[0].snapshot is not None
    snapshot = cv2.imread(str(found[0].snapshot))[:, :, ::-1]
    assert round(index_of(np.asarray(snapshot, np.uint8))) == 80 % 25
    assert found[0].clip is None
    assert sink.totals == (("evidence", "1 written, 0 dropped, 1 without a clip"),)


def test_snapshot_is_annotated_and_not_larger_than_needed(folder: EvidenceFolder) -> None:
    found: list[Evidence] = []
    sink = EvidenceSink(folder, SHORT, None, [found.append])
    frame = Frame(np.full((1440, 2560, 3), 90, np.uint8), 0.0, 0)
    sink.start(run_header("big.mp4", frame))
    row = Row(human_box_xyxy=(200, 200, 900, 1300), object_box_xyxy=(900, 700, 1800, 1300))
    sink.write(replace(frame_result(frame, row), rule_hits=(hit("start", pts_s=0.0, start_s=0.0),)))
    sink.finish(summary())
    assert found[0].snapshot is not None
    snapshot = cv2.imread(str(found[0].snapshot))
    assert snapshot.shape == (720, 1280, 3)
    assert np.ptp(snapshot[200:700]) > 100
    assert found[0].snapshot.stat().st_size < 200_000


def verb_event(kind: str, verb: int, *, pts_s: float, start_s: float, pair: int = 1) -> Event:
    return Event(
        event=kind,  # type: ignore[arg-type]
        pair=pair,
        human=1,
        object=2,
        label_index=0,
        verb_index=verb,
        label="bicycle",
        verb=("ride", "sit_on")[verb],
        pts_s=pts_s,
        start_s=start_s,
    )


def test_verb_events_have_evidence_where_that_is_asked_for(folder: EvidenceFolder, video: Path) -> None:
    """Two verbs of a pair, one of them twice, the last still active at the end; hits of rules are left out."""
    at = {
        50: [verb_event("start", 0, pts_s=2.0, start_s=2.0), verb_event("start", 1, pts_s=2.0, start_s=2.0)],
        60: [verb_event("end", 0, pts_s=2.4, start_s=2.0)],
        65: [verb_event("start", 0, pts_s=2.6, start_s=2.6)],
        70: [verb_event("end", 1, pts_s=2.8, start_s=2.0)],
    }
    found: list[Evidence] = []
    config = replace(SHORT, what="events")
    ring = PacketRing(config.kept_s)
    sink = EvidenceSink(folder, config, ring, [found.append])
    frames = []
    with open_video(video, SourceConfig(packets=ring)) as source:
        for frame in source:
            if not frames:
                sink.start(run_header(str(video), frame))
            result = frame_result(frame, Row(), events=tuple(at.get(frame.index, ())))
            hits = (hit("start", pts_s=0.0, start_s=0.0),) if frame.index == 0 else ()
            sink.write(replace(result, rule_hits=hits))
            frames.append(frame)
    sink.finish(summary(closing_events=(verb_event("end", 0, pts_s=9.9, start_s=2.6),)))
    assert [(each.verb, each.start_s, each.hit, each.rule) for each in found] == [
        ("ride", 2.0, None, ""),
        ("sit_on", 2.0, None, ""),
        ("ride", 2.6, None, ""),
    ]
    for each in found:
        assert_shows(each, frames)


def test_still_image_has_a_snapshot_and_no_clip(folder: EvidenceFolder, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), image(3))
    _, (found,), sink = run_video(path, folder, [(0.0, 1.0)])
    assert found.clip is None
    assert found.snapshot is not None
    assert frames_in(found.snapshot)[0].rgb.shape == (48, 64, 3)
    assert sink.without_clip == 1


def test_raw_video_is_encoded_and_said_to_be(folder: EvidenceFolder, tmp_path: Path) -> None:
    """What many cameras deliver."""
    path = write_clip(tmp_path / "a.y4m", list(range(100)), Fraction(1, 25), codec="wrapped_avframe")
    frames, (found,), sink = run_video(path, folder, [(2.0, 2.5)], SHORT)
    assert found.reencoded
    assert sink.notes == ("1 clips were encoded again: files cannot hold its codec",)
    shown = frames_in(found.clip)
    expected = [frame for frame in frames if found.clip_start_s <= frame.pts_s <= found.clip_end_s]
    assert [round(index_of(frame.rgb)) for frame in shown] == [round(index_of(frame.rgb)) for frame in expected]


def test_files_of_a_run_over_the_same_file_have_the_same_names(tmp_path: Path, video: Path) -> None:
    names, contents = [], []
    for number in range(2):
        with EvidenceFolder(tmp_path / str(number)) as folder:
            run_video(video, folder, [(1.0, 1.5), (4.0, 5.0)], SHORT)
            names.append(sorted(path.name for path in own_files(folder.path)))
            contents.append([path.read_bytes() for path in sorted(own_files(folder.path))])
    assert names[0] == names[1]
    assert contents[0] == contents[1]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(0, 3e6), st.floats(0, 3e6))
def test_names_of_a_file_sort_by_time(a_s: float, b_s: float) -> None:
    assert re.fullmatch(r"\d{3,}h[0-5]\dm[0-5]\d\.\d{3}s", stream_time(a_s))
    assert (stream_time(a_s) <= stream_time(b_s)) or a_s > b_s - 0.001


def test_names_of_a_live_source_begin_with_the_wall_time(folder: EvidenceFolder, video: Path) -> None:
    """A hit that began three seconds before the frame that reports it."""
    found: list[Evidence] = []
    sink = EvidenceSink(folder, SHORT, None, [found.append])
    sink.start(run_header("rtsp://user:secret@camera/live", Frame(image(0), 0.0, 0), "latest"))
    frame = Frame(image(0), 1000.0, 0, time.monotonic() - 1.0)
    began = datetime.now(timezone.utc) - timedelta(seconds=4)
    sink.write(replace(frame_result(frame, Row()), rule_hits=(hit("start", pts_s=1000.0, start_s=997.0),)))
    sink.finish(summary())
    assert found[0].snapshot is not None
    when, _, rest = found[0].snapshot.stem.partition("_")
    assert abs(datetime.strptime(f"{when}+0000", "%Y-%m-%dT%H-%M-%S.%fZ%z") - began) < timedelta(seconds=0.5)
    assert rest == "camera_live_rides_here_0"


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("../../etc/passwd", "clip.mp4"),
        ('a/b\\c:d*e?f"g<h>i|j', "clip.mp4"),
        ("\x00\n\x1b[31m", "clip.mp4"),
        ("." * 300, "x" * 300 + ".mp4"),
        ("\u6edf" * 300, "\u6edf" * 300 + ".mp4"),
        ("\ud800", "rtsp://user:hunter2@camera/user=admin&password=hunter2"),
        ("", ""),
    ],
)
def test_untrusted_names_make_safe_file_names(folder: EvidenceFolder, video: Path, rule: str, source: str) -> None:
    _, (found,), _ = run_video(video, folder, [(1.0, 1.2)], SHORT, rule=rule, name=redact(source) or " ")
    for path in (found.snapshot, found.clip):
        assert path is not None
        assert path.parent == folder.path
        assert path.is_file()
        assert re.fullmatch(r"000h00m01\.000s_[\w.\-]+\.(jpg|mp4)", path.name)
        assert len(path.name.encode()) < 200
        assert b"hunter2" not in path.read_bytes()
        assert "hunter2" not in path.name
    assert len(list(own_files(folder.path))) == 2, "known again by its name"


def test_too_many_hits_at_once_are_dropped_and_counted(
    folder: EvidenceFolder, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_module, "MAX_OPEN", 3)
    _, found, sink = run_video(video, folder, [(1.0, 2.0)] * 5, SHORT)
    assert (len(found), sink.written, sink.dropped) == (3, 3, 2)


def test_live_source_drops_what_the_disk_cannot_take_and_a_file_waits(tmp_path: Path, video: Path) -> None:
    for policy, dropped in (("latest", 9), ("lossless", 0)):
        may_go = threading.Event()
        with EvidenceFolder(tmp_path / policy) as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr("hoiclip_engine.events.evidence_folder.WAITING_JOBS", 1)
            folder.submit("a hanging disk", may_go.wait, 1, wait=False)
            while folder._jobs:
                time.sleep(0.001)
            threading.Timer(1.0 if policy == "lossless" else 3.0, may_go.set).start()
            spans = [(1.0, 1.1 + 0.01 * number) for number in range(10)]
            _, found, sink = run_video(video, folder, spans, SHORT, policy=policy)  # type: ignore[arg-type]
            assert (len(found), sink.dropped) == (10 - dropped, dropped)


def test_memory_of_a_source_is_bounded_and_a_late_beginning_is_said(folder: EvidenceFolder, video: Path) -> None:
    ring = PacketRing(60, 30_000)
    frames, (found,), sink = run_video(video, folder, [(1.0, 9.0)], EvidenceConfig(longest_s=8), ring=ring)
    assert_shows(found, frames)
    assert found.clip_start_s > 0.5
    assert sink.shortened == 1
    assert sink.totals == (("evidence", "1 written, 0 dropped, 1 with a clip that begins late"),)
    assert "begin late" in sink.notes[0]
    assert ring.size == 0, "freed at the end"


def test_clip_that_is_larger_than_the_folder_leaves_its_snapshot(tmp_path: Path, video: Path) -> None:
    with EvidenceFolder(tmp_path, EvidenceLimits(max_bytes=4000)) as folder:
        _, (found,), sink = run_video(video, folder, [(1.0, 9.0)], SHORT)
    assert found.clip is None
    assert found.snapshot is not None
    assert found.snapshot.exists()
    assert sink.without_clip == 1


def test_folder_that_vanishes_is_one_warning_and_the_run_continues(tmp_path: Path, video: Path) -> None:
    lines: list[str] = []
    with EvidenceFolder(tmp_path / "usb", warn=lines.append) as folder:
        for path in folder.path.iterdir():
            path.unlink()
        folder.path.rmdir()
        frames, found, sink = run_video(video, folder, [(1.0, 1.5), (3.0, 4.0), (6.0, 7.0)], SHORT)
    assert len(frames) == 250
    assert found == []
    assert (sink.written, sink.dropped) == (0, 3)
    assert len(lines) == 1
    assert "\n" not in lines[0]


def test_lost_connection_ends_the_clips_of_all_hits(folder: EvidenceFolder, tmp_path: Path) -> None:
    found: list[Evidence] = []
    ring = PacketRing(SHORT.kept_s)
    sink = EvidenceSink(folder, SHORT, ring, [found.append])
    frames: list[Frame] = []
    lost = 0
    with StreamServer(transport_stream(tmp_path)) as server:
        source = open_source(parse_address(server.url), SourceConfig(timeout_s=1.0, packets=ring), random.Random(0))
        threading.Timer(1.2, server.kill).start()
        threading.Timer(1.6, server.start).start()
        for item in source:
            if isinstance(item, SourceEvent):
                sink.source_event(item)
                lost = lost or len(frames)
                continue
            if not frames:
                sink.start(run_header(server.url, item, "latest"))
            first = len(frames) in (5, lost + 5)
            number = int(lost > 0)
            hits = (hit("start", number, pts_s=item.pts_s, start_s=item.pts_s),) if first else ()
            sink.write(replace(frame_result(item, Row()), rule_hits=hits))
            frames.append(item)
            if lost and len(frames) == lost + 30:
                break
        source.close()
        sink.finish(summary())
    assert [each.hit for each in found] == [0, 1]
    assert found[0].clip_end_s <= frames[lost - 1].pts_s < found[1].clip_start_s
    assert frames_in(found[0].clip)
    assert frames_in(found[1].clip)
    names = sorted(path.name for path in own_files(folder.path))
    assert len(names) == 4
    assert not any("secret" in name for name in names)


@pytest.mark.parametrize(("codec", "suffix"), [("rawvideo", ".mp4"), ("mjpeg", ".mkv")])
def test_clip_of_a_webcam_has_its_frames(folder: EvidenceFolder, tmp_path: Path, codec: str, suffix: str) -> None:
    """No camera here: a file of what cameras deliver takes the place of its open device; all else is as with one."""
    pix_fmt = "yuyv422" if codec == "rawvideo" else "yuvj420p"
    path = write_clip(tmp_path / "device.nut", list(range(100)), Fraction(1, 25), codec=codec, pix_fmt=pix_fmt)
    found: list[Evidence] = []
    ring = PacketRing(SHORT.kept_s)
    sink = EvidenceSink(folder, SHORT, ring, [found.append])
    address = parse_address("/dev/video0")
    connector = Connector(address, SourceConfig(packets=ring, max_frames=75))
    container = av.open(str(path))
    assert isinstance(container, InputContainer)
    frames, _ = feed_live(LiveSource(connector, container, time.monotonic() + 5), address.name, sink, (1.0, 1.5))
    assert found[0].clip is not None
    assert found[0].clip.suffix == suffix
    assert "_video0_ride_0" in found[0].clip.name
    assert found[0].reencoded == (codec == "rawvideo")
    shown = frames_in(found[0].clip)
    last = {round(index_of(frame.rgb)): frame.pts_s for frame in frames}
    assert len(shown) > 20
    for frame in shown:
        expected_s = last.get(round(index_of(frame.rgb)))
        # Indices repeat after a second, and frames before the first that was delivered are in none of the results.
        if expected_s is not None:
            off_s = (found[0].clip_start_s + frame.pts_s - expected_s) % 1.0
            assert min(off_s, 1 - off_s) < 0.002


def test_rule_that_no_pair_fulfils_has_evidence_too(folder: EvidenceFolder, video: Path) -> None:
    """An `absent` rule: no pair, no verb, no score."""
    found: list[Evidence] = []
    ring = PacketRing(SHORT.kept_s)
    sink = EvidenceSink(folder, SHORT, ring, [found.append])
    frames: list[Frame] = []
    with open_video(video, SourceConfig(packets=ring)) as source:
        for frame in source:
            if not frames:
                sink.start(run_header(str(video), frame))
            absent = replace(hit("start", pts_s=2.0, start_s=2.0), pair=-1, human=-1, object=-1, verb="", label="")
            hits = (absent,) if frame.index == 50 else ()
            sink.write(replace(frame_result(frame), rule_hits=hits))
            frames.append(frame)
    sink.finish(summary())
    assert_shows(found[0], frames)
    assert (found[0].pair, found[0].verb, found[0].rule) == (-1, "", "rides here")


@pytest.mark.thorough
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_clip_of_an_rtsp_camera_has_its_frames(folder: EvidenceFolder, transport: str) -> None:
    if not is_installed():
        if os.environ.get("HOICLIP_REQUIRE_SERVICES") == "1":
            pytest.fail(f"no RTSP server here, and HOICLIP_REQUIRE_SERVICES=1; {NEEDS}")
        pytest.skip(f"no RTSP server here; {NEEDS}")
    port = free_port()
    server = start_rtsp_server(port)
    try:
        config = EvidenceConfig(before_s=1.0, after_s=0.5, longest_s=5.0)
        found: list[Evidence] = []
        ring = PacketRing(config.kept_s)
        sink = EvidenceSink(folder, config, ring, [found.append])
        address = parse_address(f"rtsp://user:Zq7Zq@127.0.0.1:{port}/live#transport={transport}")
        source = open_source(address, SourceConfig(max_frames=130, packets=ring))
        frames, span = feed_live(source, address.name, sink, (2.0, 3.0))
    finally:
        server.kill()
        server.communicate()
    shown = assert_shows(found[0], frames)
    assert shown[0].pts_s <= span[0] - 1.0
    assert shown[-1].pts_s >= span[1] + 0.4
    assert "Zq7Zq" not in str(found[0].clip)


@pytest.mark.thorough
def test_killed_process_leaves_whole_files_only(tmp_path: Path, video: Path) -> None:
    """Ten kills at random moments, all in one folder."""
    rng, path = random.Random(0), tmp_path / "evidence"
    clips = 0
    for _ in range(10):
        command = [sys.executable, "-m", "tests.engine.evidence_runs", str(video), str(path)]
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.02, 0.8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        own = list(own_files(path))
        assert len(own) <= 12
        for file in own:
            if file.suffix == ".jpg":
                assert cv2.imread(str(file)).shape == (48, 64, 3)
            else:
                frames = frames_in(file)
                assert len(frames) > 10
                assert np.diff([frame.pts_s for frame in frames]) == pytest.approx(np.full(len(frames) - 1, 0.04))
                clips += 1
        unfinished = {each.name for each in path.iterdir()} - {each.name for each in own}
        assert all(name.endswith(".part") for name in unfinished - {".hoiclip-evidence.lock"})
    assert clips > 20
    EvidenceFolder(path).close()
    assert {each.name for each in path.iterdir()} == {each.name for each in own} | {".hoiclip-evidence.lock"}


@pytest.mark.parametrize(
    "wrong",
    [{"before_s": -1.0}, {"after_s": float("nan")}, {"longest_s": 0.0}, {"longest_s": float("inf")}, {"what": "all"}],
)
def test_config_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EvidenceConfig(**wrong)  # type: ignore[arg-type]


def test_frame_without_happenings_costs_next_to_nothing(folder: EvidenceFolder) -> None:
    """A generous limit; measured 0.001 ms."""
    sink = EvidenceSink(folder, SHORT, PacketRing(30))
    sink.start(header())
    results: list[FrameResult] = [frame_result(Frame(image(0), index / 25, index), Row()) for index in range(500)]
    began_s = time.process_time()
    for result in results:
        sink.write(result)
    assert (time.process_time() - began_s) / 500 < 2e-4
    sink.finish(summary())
