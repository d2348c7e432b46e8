"""Streams that come and go: frames with a time that goes on, events for what is missing, and an end when asked."""

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

from hoiclip.errors import SourceError, UsageError
from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.video.address import parse_address
from hoiclip_engine.video.connector import LONGEST_PAUSE_S, pause_s
from hoiclip_engine.video.frame_source import FrameSource
from hoiclip_engine.video.live_clock import JUMP_S, LiveClock
from hoiclip_engine.video.open_source import open_source
from hoiclip_engine.video.source_config import SourceConfig
from tests.engine.making_videos import index_of, picture
from tests.engine.serving import StreamServer, transport_stream

few = settings(max_examples=60, deadline=None, derandomize=True)
SOON_S = 0.5


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return transport_stream(tmp_path_factory.mktemp("film"))


@pytest.fixture
def server(film: bytes) -> Iterator[StreamServer]:
    with StreamServer(film) as serving:
        yield serving


def opened(url: str, **config: float) -> FrameSource:
    wanted = SourceConfig(**{"timeout_s": 1.0, **config})  # type: ignore[arg-type]
    return open_source(parse_address(url), wanted, random.Random(0))


def source_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hoiclip-source"]


def after(delay_s: float, call: Callable[[], object]) -> None:
    threading.Timer(delay_s, call).start()


def assert_quick(began_s: float, most_s: float = SOON_S) -> None:
    assert time.monotonic() - began_s < most_s


@pytest.mark.parametrize("scheme", ["http", "tcp"])
def test_a_live_stream_gives_frames_as_they_come(film: bytes, scheme: str) -> None:
    with StreamServer(film, header=b"" if scheme == "tcp" else b"HTTP/1.1 200 OK\r\n\r\n") as server:
        source = opened(f"{scheme}://127.0.0.1:{server.port}", max_frames=20)
        assert source.is_live
        frames = [item for item in source if isinstance(item, Frame)]
        assert [round(index_of(frame.rgb)) for frame in frames] == list(range(20))
        assert [frame.index for frame in frames] == list(range(20))
        assert np.diff([frame.pts_s for frame in frames]) == pytest.approx(np.full(19, 0.04), abs=1e-4)
        assert time.monotonic() - frames[-1].read_s < SOON_S
        assert source.counters.decoded == 20
        source.close()
    assert source_threads() == []


def test_time_asked_for_is_kept(server: StreamServer) -> None:
    source = opened(server.url, duration_s=0.6)
    times = [item.pts_s for item in source]
    assert 0.5 < times[-1] - times[0] < 0.6
    source.close()


def test_a_stream_that_is_cut_comes_back_and_time_goes_on(server: StreamServer) -> None:
    source = opened(server.url)
    seen: list[tuple[float, Frame | SourceEvent]] = []
    after(0.4, server.kill)
    after(1.0, server.start)
    for item in source:
        seen.append((time.monotonic(), item))
        if source.counters.reconnects and source.counters.decoded > seen_before(seen) + 5:
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
    assert server.asked >= 2


def seen_before(seen: list[tuple[float, Frame | SourceEvent]]) -> int:
    """Frames before the first event."""
    kinds = [isinstance(item, Frame) for _, item in seen]
    return kinds.index(False) if False in kinds else len(kinds)


def test_three_losses_leave_nothing_behind(server: StreamServer) -> None:
    source = opened(server.url)
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
    assert len(source_threads()) <= 2  # one that reads, and perhaps one that is just ending
    source.close()
    assert source_threads() == []
    assert source.counters.reconnects == 3
    assert max(recoveries_s) < 2.0, "the promise"


def test_silence_is_a_loss(server: StreamServer) -> None:
    source = opened(server.url, timeout_s=0.4)
    after(0.3, lambda: setattr(server, "quiet", True))
    lost = next(item for item in source if isinstance(item, SourceEvent))
    assert lost.event == "source_lost"
    assert lost.reason == "no data in time"
    server.quiet = False
    assert next(iter(source)).pts_s > lost.pts_s
    source.close()


@pytest.mark.parametrize("moment", ["reading", "quiet", "lost"])
def test_stop_ends_whatever_is_waited_for(server: StreamServer, moment: str) -> None:
    source = opened(server.url, timeout_s=30)
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
    assert_quick(began_s, 0.3 + SOON_S)
    began_s = time.monotonic()
    source.close()
    source.close()
    assert_quick(began_s)


def test_a_stream_that_stays_away_is_given_up_where_asked(server: StreamServer) -> None:
    source = opened(server.url, reconnect_for_s=0.3)
    frames = iter(source)
    next(frames)
    server.kill()
    with pytest.raises(SourceError, match=r"connection refused") as caught:
        list(frames)
    assert "secret" not in str(caught.value)
    source.close()


def test_the_time_asked_for_also_ends_a_loss(server: StreamServer) -> None:
    source = opened(server.url, duration_s=0.8)
    after(0.3, server.kill)
    began_s = time.monotonic()
    assert [item for item in source if isinstance(item, SourceEvent)][-1].event == "source_lost"
    assert_quick(began_s, 0.8 + SOON_S)
    source.close()


def refusal(url: str, **config: float) -> str:
    with pytest.raises(SourceError) as caught:
        opened(url, **config)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "user" not in str(caught.value).replace("user or password", "")
    return str(caught.value)


def test_a_server_that_is_not_there_is_told_when_the_time_is_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for scheme in ("rtsp", "http", "rtmp", "tcp"):
            began_s = time.monotonic()
            assert "connection refused" in refusal(f"{scheme}://user:secret@127.0.0.1:{port}/x", timeout_s=0.3)
            assert 0.25 < time.monotonic() - began_s < 0.3 + SOON_S


def test_a_server_that_says_nothing_is_told_when_the_time_is_over() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for scheme in ("rtsp", "http", "rtmp", "tcp"):
            began_s = time.monotonic()
            assert "in time" in refusal(f"{scheme}://user:secret@127.0.0.1:{silent.getsockname()[1]}/x", timeout_s=0.3)
            assert_quick(began_s, 0.3 + SOON_S)


def test_a_server_that_comes_in_time_is_found(film: bytes) -> None:
    with StreamServer(film) as server:
        server.kill()
        after(0.4, server.start)
        source = opened(server.url, timeout_s=3)
        assert next(iter(source)).pts_s >= 0
        assert source.counters.reconnects == 0
        source.close()


@pytest.mark.parametrize(("status", "words"), [(401, "password"), (403, "forbidden")])
def test_who_is_refused_does_not_ask_again(status: int, words: str) -> None:
    with StreamServer(b"x", header=f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()) as server:
        assert words in refusal(server.url, timeout_s=20)
        assert server.asked == 1


def test_a_redirect_leads_to_no_file_and_no_other_protocol(tmp_path: Path, film: bytes) -> None:
    clip = tmp_path / "clip.ts"
    clip.write_bytes(film)
    for target in (f"file://{clip}", "udp://127.0.0.1:9", f"concat:{clip}"):
        with StreamServer(b"x", header=f"HTTP/1.1 302 There\r\nLocation: {target}\r\n\r\n".encode()) as server:
            refusal(server.url, timeout_s=0.5)


def test_what_is_no_video_is_told() -> None:
    with StreamServer(b"<html>no camera</html>" * 99, speed=50) as server:
        assert "nothing that is video" in refusal(server.url, timeout_s=0.5)


def test_a_live_stream_has_no_later_start(server: StreamServer) -> None:
    with pytest.raises(UsageError, match="--start"):
        opened(server.url, start_s=3)


def test_cameras_that_are_not_there_are_told_at_once() -> None:
    began_s = time.monotonic()
    assert "no such device" in refusal("v4l2:///dev/video97", timeout_s=20)
    assert_quick(began_s)


@few
@given(rng=st.randoms(use_true_random=False), failures=st.integers(0, 10_000))
def test_pauses_grow_to_a_bound(rng: random.Random, failures: int) -> None:
    pause = pause_s(failures, rng)
    assert 0 <= pause <= LONGEST_PAUSE_S
    assert failures > 1 or pause == 0
    assert failures < 8 or pause >= LONGEST_PAUSE_S / 2


stamps = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**6)), st.floats(0, 20), st.booleans()
    ),
    min_size=2,
    max_size=30,
)


@few
@given(stamps)
def test_live_time_always_goes_forward_and_never_far_from_the_wall(
    frames: list[tuple[int | None, float, bool]],
) -> None:
    clock, arrived_s, last_s = LiveClock(), 0.0, None
    for pts, passed_s, restarted in frames:
        arrived_s += passed_s
        if restarted:
            clock.restart(0.04)
        now_s = clock.next(pts, Fraction(1, 90_000), arrived_s)
        if last_s is not None:
            assert last_s < now_s <= last_s + passed_s + JUMP_S + 0.04
        last_s = now_s


def test_a_clock_keeps_the_intervals_of_a_stream_whatever_arrives_when() -> None:
    clock = LiveClock()
    times = [clock.next(90_000 + i * 3600, Fraction(1, 90_000), i * 0.04 + 0.03 * (i % 3)) for i in range(9)]
    assert times == pytest.approx([1 + i * 0.04 for i in range(9)])
    clock.restart(0.04)
    again = [clock.next(i * 3600, Fraction(1, 90_000), 10.0 + i * 0.04) for i in range(3)]
    assert again[0] - times[-1] == pytest.approx(10.0 - (8 * 0.04 + 0.03 * 2))
    assert np.diff(again) == pytest.approx([0.04, 0.04])


def test_a_stream_of_datagrams_comes_and_goes(film: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sending, over = threading.Event(), threading.Event()
    sending.set()

    def send() -> None:
        """25 times a second what belongs to a frame, in datagrams of seven packets."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            pieces = [film[i : i + 7 * 188] for i in range(0, len(film), 7 * 188)]
            for piece in pieces * 9:
                while not sending.wait(0.05) and not over.is_set():
                    pass
                if over.wait(10.0 / len(pieces)):
                    return
                out.sendto(piece, ("127.0.0.1", port))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    source = opened(f"udp://127.0.0.1:{port}", timeout_s=0.5)
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
    over.set()
    sender.join()
    source.close()
    assert events == ["source_lost", "source_back"]
    assert times == sorted(times)


def test_a_camera_that_sends_jpegs(tmp_path: Path) -> None:
    parts = b""
    for i in range(50):
        Image.fromarray(picture(i % 25)).save(tmp_path / "shot.jpg", quality=95)
        jpeg = (tmp_path / "shot.jpg").read_bytes()
        parts += b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
    header = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
    with StreamServer(parts, frames=50, header=header) as server:
        source = opened(server.url, max_frames=30)
        assert source.is_live
        frames = [item for item in source if isinstance(item, Frame)]
        source.close()
    assert [round(index_of(frame.rgb)) for frame in frames] == [i % 25 for i in range(30)]
    times = [frame.pts_s for frame in frames]
    assert times == sorted(times)
    assert times[-1] - times[0] == pytest.approx(frames[-1].read_s - frames[0].read_s, abs=0.3)
