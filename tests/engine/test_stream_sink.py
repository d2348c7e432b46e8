"""Video sent to an address: it arrives unchanged, and a peer that is missing, leaves or sleeps stalls nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.sinks import push, stream_sink
from hoiclip_engine.sinks.stream_sink import StreamSink, is_stream
from hoiclip_engine.types.frame import Frame
from tests.engine.frame_results import frame_result, header, summary
from tests.engine.video_files import image, index_of

pytestmark = pytest.mark.thorough

SECRET = "s3cret"


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def head(policy: Any = "lossless", size_px: tuple[int, int] = (64, 48)) -> Any:
    return dataclasses.replace(header(size_px=size_px), policy=policy)


LISTENER = """
import av, sys
with av.open(sys.argv[1], options=dict(o.split("=") for o in sys.argv[2:])) as container:
    print("open", flush=True)
    for frame in container.decode(video=0):
        print(float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24")[30:, 40:].mean(), flush=True)
"""


@contextmanager
def listener(url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that decodes what arrives: lines of time and grey."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENER, url, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def send(url: str, count: int, policy: Any = "lossless", pace_s: float = 0.0) -> StreamSink:
    sink = StreamSink(url)
    sink.start(head(policy))
    for index in range(count):
        sink.write(frame_result(Frame(image(index), 100 + index / 25, index)))
        time.sleep(pace_s)
    sink.finish(summary())
    return sink


@pytest.mark.parametrize("scheme", ["rtmp", "tcp"])
def test_stream_sink_sends_every_frame_at_its_time(scheme: str) -> None:
    port = free_port()
    url = f"{scheme}://127.0.0.1:{port}" + ("" if scheme == "tcp" else "/app/key")
    heard = {
        "rtmp": (url, "listen=1"),
        "tcp": (f"{url}?listen=1", "probesize=5000"),
    }[scheme]
    with listener(*heard) as receiver:
        _wait_for_listening(port)
        send(url, 20)
        out, err = receiver.communicate(timeout=20)
    lines = [tuple(map(float, line.split())) for line in out.splitlines()[1:]]
    assert len(lines) == 20, err
    times_s = np.array([line[0] for line in lines])
    assert times_s - times_s[0] == pytest.approx(np.arange(20) / 25, abs=0.0011)  # both count milliseconds
    greys = [index_of(image(index)) for index in range(20)]
    assert greys == pytest.approx(list(range(20)))
    assert [line[1] for line in lines] == pytest.approx([20 + 8 * index for index in range(20)], abs=4)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to record by RTSP; apt-get install ffmpeg")
def test_rtsp_server_gets_every_frame() -> None:
    port = free_port()
    url = f"rtsp://127.0.0.1:{port}/live"
    words = [
        "ffmpeg",
        "-v",
        "error",
        "-rtsp_flags",
        "listen",
        "-i",
        url,
        "-fps_mode",
        "passthrough",
        "-f",
        "framecrc",
        "-",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as recorder:
        try:
            _wait_for_listening(port)
            send(url, 20)
            out = recorder.communicate(timeout=20)[0]
        finally:
            recorder.kill()  # or leaving the block waits for it, whatever went wrong
    assert sum(line.startswith("0,") for line in out.splitlines()) == 20


def _wait_for_listening(port: int) -> None:
    """By what the kernel lists: connecting would be taken for the stream."""
    wanted = f":{port:04X} 00000000:0000 0A"
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        with open("/proc/net/tcp", encoding="ascii") as table:
            if wanted in table.read():
                return
        time.sleep(0.05)
    pytest.fail("the receiver does not listen")


def test_udp_datagrams_are_whole_transport_stream_packets() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        send(f"udp://127.0.0.1:{receiver.getsockname()[1]}", 10)
        data = receiver.recv(65536)
    assert len(data) % 188 == 0
    assert data[::188] == b"\x47" * (len(data) // 188)


@pytest.mark.parametrize("policy", ["lossless", "latest"])
def test_missing_receiver_is_one_error_without_credentials(policy: str) -> None:
    url = f"rtmp://user:{SECRET}@127.0.0.1:{free_port()}/live/{SECRET}"
    with pytest.raises(SinkError, match=r"cannot send the video to rtmp://127.0.0.1:\d+: .*refused") as caught:
        send(url, 500, policy, pace_s=0.01)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["rtmp", "rtsp"])
def test_silent_peer_is_given_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel accepts the connection, but no server answers. Writing itself must continue meanwhile."""
    monkeypatch.setattr(stream_sink, "GOODBYE_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sink = StreamSink(f"{scheme}://user:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/live")
        sink.start(head("latest"))
        longest_s = 0.0
        for index in range(30):
            begun_s = time.monotonic()
            sink.write(frame_result(Frame(image(index), index / 25, index)))
            longest_s = max(longest_s, time.monotonic() - begun_s)
        with pytest.raises(SinkError, match="does not take") as caught:
            sink.finish(summary())
    assert longest_s < 1  # starting a process takes a while on a busy machine
    assert SECRET not in str(caught.value)


def test_live_images_are_skipped_while_the_peer_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_sink, "GOODBYE_S", 0.1)
    noise = np.random.default_rng(0)
    noisy = [noise.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(4)]
    longest_s = 0.0
    with socket.socket() as sleepy:
        sleepy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleepy.bind(("127.0.0.1", 0))
        sleepy.listen()
        sink = StreamSink(f"tcp://127.0.0.1:{sleepy.getsockname()[1]}")
        sink.start(head("latest", (640, 480)))
        deadline_s = time.monotonic() + 30
        index = 0
        while sink.skipped < 300 and time.monotonic() < deadline_s:
            begun_s = time.monotonic()
            sink.write(frame_result(Frame(noisy[index % 4], index / 25, index)))
            longest_s = max(longest_s, time.monotonic() - begun_s)
            index += 1
            time.sleep(0.002)
        with contextlib.suppress(SinkError):
            sink.finish(summary())
    assert sink.skipped == 300
    assert longest_s < 1


def test_broken_live_connection_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_sink, "FIRST_RETRY_S", 0.05)
    came: list[bytes] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def accept_twice() -> None:
            for _ in range(2):
                peer, _address = server.accept()
                came.append(peer.recv(4096))
                peer.close()

        thread = threading.Thread(target=accept_twice)
        thread.start()
        sink = StreamSink(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        sink.start(head("latest"))
        index, begun_s = 0, time.monotonic()
        while thread.is_alive() and time.monotonic() - begun_s < 30:
            sink.write(frame_result(Frame(image(index), index / 25, index)))
            index += 1
            time.sleep(0.02)
        thread.join(1)
        sink._disconnect(0.1)
    assert len(came) == 2
    assert all(data[:1] == b"\x47" for data in came)


@pytest.mark.parametrize("target", ["ftp://host/x", "rtmp://", "udp://:80", "rtsp://h\nost/x", "rtmp://[bad/x"])
def test_stream_sink_invalid_address_is_a_usage_error(target: str) -> None:
    with pytest.raises(UsageError, match="and a host"):
        StreamSink(target)


def test_file_names_are_not_stream_addresses() -> None:
    assert is_stream("RTMP://host/app/key")
    assert not any(map(is_stream, ("out.mp4", "rtmp", "C:/x.mp4", "file:///x.mp4")))


def test_push_process_imports_neither_torch_nor_scipy() -> None:
    """It starts while a run waits for it."""
    code = "import sys, hoiclip_engine.sinks.push; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=env).returncode == 0
    assert push.PEER_TIMEOUT_S < push.WRITE_TIMEOUT_S
