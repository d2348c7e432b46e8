"""Live streams that are lost and found: continuous times, events for gaps, and a prompt end when stopped."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hoiclip.core.errors import SourceError, UsageError
from hoiclip_engine.sources.base import FrameSource, SourceConfig
from hoiclip_engine.sources.connection import MAX_RETRY_DELAY_S, retry_delay_s
from hoiclip_engine.sources.open_source import open_source
from hoiclip_engine.sources.timestamps import LIVE_JUMP_S, LiveClock
from hoiclip_engine.sources.uri import parse_address
from hoiclip_engine.types.frame import Frame, SourceEvent
from tests.engine.loopback_servers import StreamServer, transport_stream
from tests.engine.video_files import image, index_of

few = settings(max_examples=60, deadline=None, derandomize=True)
MARGIN_S = 0.5


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return transport_stream(tmp_path_factory.mktemp("video"))


@pytest.fixture
def server(video: bytes) -> Iterator[StreamServer]:
    with StreamServer(video) as stream_server:
        yield stream_server


def open_url(url: str, **config: float) -> FrameSource:
    wanted = SourceConfig(**{"timeout_s": 1.0, **config})  # type: ignore[arg-type]
    return open_source(parse_address(url), wanted, random.Random(0))


def source_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hoiclip-source"]


def after(delay_s: float, call: Callable[[], object]) -> None:
    threading.Timer(delay_s, call).start()


def assert_fast(began_s: float, most_s: float = MARGIN_S) -> None:
    assert time.monotonic() - began_s < most_s


@pytest.mark.parametrize("scheme", ["http", "tcp"])
def test_live_stream_delivers_frames_as_they_arrive(video: bytes, scheme: str) -> None:
    with StreamServer(video, header=b"" if scheme == "tcp" else b"HTTP/1.1 200 OK\r\n\r\n") as server:
        source = open_url(f"{scheme}://127.0.0.1:{server.port}", max_frames=20)
        assert source.is_live
        frames = [item for item in source if isinstance(item, Frame)]
        assert [round(index_of(frame.rgb)) for frame in frames] == list(range(20))
        assert [frame.index for frame in frames] == list(range(20))
        assert np.diff([frame.pts_s for frame in frames]) == pytest.approx(np.full(19, 0.04), abs=1e-4)
        assert time.monotonic() - frames[-1].read_s < MARGIN_S
        assert source.counters.decoded == 20
        source.close()
    assert source_threads() == []


def test_live_duration_is_respected(server: StreamServer) -> None:
    source = open_url(server.url, duration_s=0.6)
    times = [item.pts_s for item in source]
    assert 0.5 < times[-1] - times[0] < 0.6
    source.close()


def test_late_reader_starts_with_the_current_image(server: StreamServer) -> None:
    source = open_url(server.url, duration_s=0.4)
    time.sleep(1.2)
    began_s = time.monotonic()
    frames = [item for item in source if isinstance(item, Frame)]
    source.close()
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[0].pts_s > 1.0, "not the image of the time of opening"
    assert began_s - frames[0].read_s < 0.1 + MARGIN_S / 2
    assert time.monotonic() - began_s > 0.3
    assert source.counters.decoded == len(frames)


def test_live_stream_reconnects_and_time_continues(server: StreamServer) -> None:
    source = open_url(server.url)
    seen: list[tuple[float, Frame | SourceEvent]] = []
    after(0.4, server.kill)
    after(1.0, server.start)
    for item in source:
        seen.append((time.monotonic(), item))
        if source.counters.reconnects and source.counters.decoded > frames_until_event(seen) + 5:
            break
    source.close()
    events = [item for _, item in seen if isinstance(item, SourceEvent)]
    assert [event.event for event in events] == ["source_lost", "source_back"]
    assert all("secret" not in event.reason for event in events)
    times = [(at_s, item.pts_s) for at_s, item in seen if isinstance(item, Frame)]
    assert all(b > a for (_, a), (_, b) in pairwise(times))
    gap = max(range(1, len(times)), key=lambda i: times[i][0] - times[i - 1][0])
    passed_s = times[gap][0] - times[gap - 1][0]
    assert passed_s > 0.5
    assert times[gap][1] - times[gap - 1][1] == pytest.approx(passed_s, abs=0.1)  # threads wake late
    assert [item.index for _, item in seen if isinstance(item, Frame)] == list(range(len(times)))
    assert server.connection_count >= 2


def frames_until_event(seen: list[tuple[float, Frame | SourceEvent]]) -> int:
    """Frames before the first event."""
    kinds = [isinstance(item, Frame) for _, item in seen]
    return kinds.index(False) if False in kinds else len(kinds)


def test_three_losses_leak_no_threads_or_files(server: StreamServer) -> None:
    source = open_url(server.url)
    recoveries_s: list[float] = []
    returned_s = 0.0
    watched = 0  # frames since the last return
    for item in source:
        if isinstance(item, Frame):
            watched += 1
            if watched == 5 and len(recoveries_s) == 3:
                break
            if watched == 5:
                server.kill()
        elif item.event == "source_lost":
            server.start()
            returned_s = time.monotonic()
        else:
            recoveries_s.append(time.monotonic() - returned_s)
            watched = 0
    assert len(source_threads()) <= 2  # one that reads, and perhaps another that is just ending
    source.close()
    assert source_threads() == []
    assert source.counters.reconnects == 3
    assert max(recoveries_s) < 2.0, "the promise"


def test_silent_stream_is_lost(server: StreamServer) -> None:
    source = open_url(server.url, timeout_s=0.4)
    after(0.3, lambda: setattr(server, "quiet", True))
    lost = next(item for item in source if isinstance(item, SourceEvent))
    assert lost.event == "source_lost"
    assert lost.reason == "no data in time"
    server.quiet = False
    assert next(iter(source)).pts_s > lost.pts_s
    source.close()


@pytest.mark.parametrize("moment", ["reading", "quiet", "lost"])
def test_stop_ends_any_waiting(server: StreamServer, moment: str) -> None:
    source = open_url(server.url, timeout_s=30)
    frames = iter(source)
    next(frames)
    if moment == "quiet":
        server.quiet = True
    if moment == "lost":
        server.kill()
        while not isinstance(next(frames), SourceEvent):
            pass
    after(0.3, source.stop)
    began_s = time.monotonic()
    for _ in frames:
        pass
    assert_fast(began_s, 0.3 + MARGIN_S)
    began_s = time.monotonic()
    source.close()
    source.close()
    assert_fast(began_s)


def test_lost_stream_is_given_up_after_reconnect_for_s(server: StreamServer) -> None:
    source = open_url(server.url, reconnect_for_s=0.3)
    frames = iter(source)
    next(frames)
    server.kill()
    with pytest.raises(SourceError, match=r"connection refused") as caught:
        list(frames)
    assert "secret" not in str(caught.value)
    source.close()


def test_live_duration_also_ends_a_loss(server: StreamServer) -> None:
    source = open_url(server.url, duration_s=0.8)
    after(0.3, server.kill)
    began_s = time.monotonic()
    assert [item for item in source if isinstance(item, SourceEvent)][-1].event == "source_lost"
    assert_fast(began_s, 0.8 + MARGIN_S)
    source.close()


def refusal(url: str, **config: float) -> str:
    with pytest.raises(SourceError) as caught:
        open_url(url, **config)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "user" not in str(caught.value).replace("user or password", "")
    return str(caught.value)


def test_missing_server_is_reported_after_the_timeout() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for scheme in ("rtsp", "http", "rtmp", "tcp"):
            began_s = time.monotonic()
            assert "connection refused" in refusal(f"{scheme}://user:secret@127.0.0.1:{port}/x", timeout_s=0.3)
            assert 0.25 < time.monotonic() - began_s < 0.3 + MARGIN_S


def test_silent_server_is_reported_after_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for scheme in ("rtsp", "http", "rtmp", "tcp"):
            began_s = time.monotonic()
            assert "in time" in refusal(f"{scheme}://user:secret@127.0.0.1:{silent.getsockname()[1]}/x", timeout_s=0.3)
            assert_fast(began_s, 0.3 + MARGIN_S)


def test_server_that_starts_in_time_is_found(video: bytes) -> None:
    with StreamServer(video) as server:
        server.kill()
        after(0.4, server.start)
        source = open_url(server.url, timeout_s=3)
        assert next(iter(source)).pts_s >= 0
        assert source.counters.reconnects == 0
        source.close()


@pytest.mark.parametrize(("status", "words"), [(401, "password"), (403, "forbidden")])
def test_refused_connection_is_not_retried(status: int, words: str) -> None:
    with StreamServer(b"x", header=f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()) as server:
        assert words in refusal(server.url, timeout_s=20)
        assert server.connection_count == 1


def test_redirect_reaches_no_file_and_no_other_protocol(tmp_path: Path, video: bytes) -> None:
    clip = tmp_path / "clip.ts"
    clip.write_bytes(video)
    for target in (f"file://{clip}", "udp://127.0.0.1:9", f"concat:{clip}"):
        with StreamServer(b"x", header=f"HTTP/1.1 302 There\r\nLocation: {target}\r\n\r\n".encode()) as server:
            refusal(server.url, timeout_s=0.5)


def test_stream_without_video_is_reported() -> None:
    with StreamServer(b"<html>no camera</html>" * 99, speed=50) as server:
        assert "nothing that is video" in refusal(server.url, timeout_s=0.5)


def test_live_stream_refuses_a_start_time(server: StreamServer) -> None:
    with pytest.raises(UsageError, match="--start"):
        open_url(server.url, start_s=3)


def test_missing_cameras_are_reported_at_once() -> None:
    began_s = time.monotonic()
    assert "no such device" in refusal("v4l2:///dev/video97", timeout_s=20)
    assert_fast(began_s)


@few
@given(rng=st.randoms(use_true_random=False), failures=st.integers(0, 10_000))
def test_retry_delays_grow_to_a_bound(rng: random.Random, failures: int) -> None:
    delay_s = retry_delay_s(failures, rng)
    assert 0 <= delay_s <= MAX_RETRY_DELAY_S
    assert failures > 1 or delay_s == 0
    assert failures < 8 or delay_s >= MAX_RETRY_DELAY_S / 2


stamps = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**6)), st.floats(0, 20), st.booleans()
    ),
    min_size=2,
    max_size=30,
)


@few
@given(stamps)
def test_live_clock_increases_and_stays_close_to_the_wall_clock(
    frames: list[tuple[int | None, float, bool]],
) -> None:
    clock, arrived_s, last_s = LiveClock(), 0.0, None
    for pts, passed_s, restarted in frames:
        arrived_s += passed_s
        if restarted:
            clock.restart(0.04)
        now_s = clock.next(pts, Fraction(1, 90_000), arrived_s)
        if last_s is not None:
            assert last_s < now_s <= last_s + passed_s + LIVE_JUMP_S + 0.04
        last_s = now_s


def test_live_clock_keeps_intervals_despite_jitter() -> None:
    clock = LiveClock()
    times = [clock.next(90_000 + i * 3600, Fraction(1, 90_000), i * 0.04 + 0.03 * (i % 3)) for i in range(9)]
    assert times == pytest.approx([1 + i * 0.04 for i in range(9)])
    clock.restart(0.04)
    again = [clock.next(i * 3600, Fraction(1, 90_000), 10.0 + i * 0.04) for i in range(3)]
    assert again[0] - times[-1] == pytest.approx(10.0 - (8 * 0.04 + 0.03 * 2))
    assert np.diff(again) == pytest.approx([0.04, 0.04])


def test_udp_stream_is_lost_and_found(video: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sending, stopped = threading.Event(), threading.Event()
    sending.set()

    def send() -> None:
        """Sends the packets of a frame 25 times a second, in datagrams of seven packets."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            pieces = [video[i : i + 7 * 188] for i in range(0, len(video), 7 * 188)]
            for piece in pieces * 9:
                while not sending.wait(0.05) and not stopped.is_set():
                    pass
                if stopped.wait(10.0 / len(pieces)):
                    return
                out.sendto(piece, ("127.0.0.1", port))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    source = open_url(f"udp://127.0.0.1:{port}", timeout_s=0.5)
    times: list[float] = []
    events: list[str] = []
    for item in source:
        times.append(item.pts_s)
        if isinstance(item, SourceEvent):
            events.append(item.event)
            sending.set()
        elif len(times) == 10:
            sending.clear()
        if source.counters.reconnects and len(times) > 20:
            break
    stopped.set()
    sender.join()
    source.close()
    assert events == ["source_lost", "source_back"]
    assert times == sorted(times)


def test_mjpeg_camera_is_read(tmp_path: Path) -> None:
    body = b""
    for i in range(50):
        Image.fromarray(image(i % 25)).save(tmp_path / "shot.jpg", quality=95)
        jpeg = (tmp_path / "shot.jpg").read_bytes()
        body += b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
    header = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
    with StreamServer(body, frames=50, header=header) as server:
        source = open_url(server.url, max_frames=30)
        assert source.is_live
        frames = [item for item in source if isinstance(item, Frame)]
        source.close()
    assert [round(index_of(frame.rgb)) for frame in frames] == [i % 25 for i in range(30)]
    times = [frame.pts_s for frame in frames]
    assert times == sorted(times)
    assert times[-1] - times[0] == pytest.approx(frames[-1].read_s - frames[0].read_s, abs=0.3)
