"""The live page's door: slow and idle connections cost no viewer a place, and the run no file."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time

import pytest

from hoiclip_engine.live import door
from tests.engine.saying import PYTHONPATH
from tests.engine.watching import live, result

HEAD = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def is_over(connection: socket.socket) -> bool:
    """Whether the server has ended it."""
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("begun", [b"", b"GET /hea", HEAD], ids=["silent", "in the first line", "in the headers"])
def test_a_request_has_only_so_long(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "REQUEST_S", 0.4)
    with live() as page:
        page.sinks[0].write(result(0))
        with connected(page.port) as slow:
            begun_s = time.monotonic()
            with contextlib.suppress(ConnectionError):
                slow.sendall(begun)
                while begun and time.monotonic() - begun_s < 1.0:  # a byte now and then does not prolong it
                    slow.sendall(b"x")
                    time.sleep(0.1)
            assert is_over(slow)


def test_a_viewer_stays_longer_than_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "REQUEST_S", 0.4)
    with live() as page:
        page.sinks[0].write(result(0))
        with connected(page.port) as viewer:
            viewer.sendall(HEAD.replace(b"/health", b"/stream.mjpg") + b"\r\n")
            time.sleep(1.0)
            page.sinks[0].write(result(1))
            ends_s, seen = time.monotonic() + 10, b""
            while seen.count(b"Content-Type: image/jpeg") < 2 and time.monotonic() < ends_s:
                seen += viewer.recv(65536)
            assert seen.count(b"Content-Type: image/jpeg") >= 2


def test_idle_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 12)
    with live() as page, contextlib.ExitStack() as idle:
        page.sinks[0].write(result(0))
        opened = [idle.enter_context(connected(page.port)) for _ in range(60)]
        for _ in range(5):
            assert page.get("/health").status == 200
        assert all(is_over(connection) for connection in opened[:40])


def answers(port: int) -> bool:
    """Whether the page answers within a second."""
    try:
        with connected(port) as viewer:
            viewer.settimeout(1.0)
            viewer.sendall(HEAD + b"\r\n")
            return viewer.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


SCARCE = """
import os, resource, socket, sys, time
from hoiclip_engine.live import door, server
from tests.engine.watching import live, result
door.most_connections = lambda: 10_000  # as if there were no door
with live() as page:
    page.sinks[0].write(result(0))
    if sys.argv[1:] == ["watched"]:  # a viewer whose last message takes its time: the loop outlives the page
        server.LAST_MESSAGE_S, server.GOODBYE_S = 2.0, 2.0
        viewer = socket.create_connection(("127.0.0.1", page.port))
        viewer.sendall(b"GET /stream.mjpg HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
        while b"image/jpeg" not in viewer.recv(65536):
            pass
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, used + 5))
    print(page.port, flush=True)
    sys.stdin.readline()
    begun_s = time.process_time()
    time.sleep(2.5)
    print(time.process_time() - begun_s, flush=True)
    sys.stdin.readline()
"""


def scarce(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCARCE, *argv],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_page_that_ends_before_it_lets_in_again_ends_quietly() -> None:
    with scarce("watched") as process, contextlib.ExitStack() as idle:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for _ in range(40):
            idle.enter_context(connected(port))
        _, err = process.communicate("\n\n", timeout=120)
    assert err.count("\n") == 1, err
    assert "Too many open files" in err


def test_a_process_without_files_waits_and_says_so_once() -> None:
    process = scarce()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.ExitStack() as idle:
            port = int(process.stdout.readline())
            for _ in range(40):
                idle.enter_context(connected(port))
            process.stdin.write("\n")
            process.stdin.flush()
            assert float(process.stdout.readline()) < 1.0, "the loop is busy"
        # The loop lets in again within a second; on a busy machine later. Until then it may hang up at once.
        ends_s = time.monotonic() + 30
        while not answers(port):
            assert time.monotonic() < ends_s
            time.sleep(0.1)
        _, err = process.communicate("\n", timeout=120)
        assert err.count("\n") <= 1, err
        assert "Too many open files" in err
    finally:
        process.kill()
