"""Connection limits of the live page: slow and idle connections take no place of viewers and no files of the run."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time

import pytest

from hoiclip_engine.live import access
from tests.engine.command_output import PYTHONPATH
from tests.engine.live_pages import live, result

pytestmark = pytest.mark.thorough

HEAD = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def open_connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed the connection."""
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("begun", [b"", b"GET /hea", HEAD], ids=["silent", "in the first line", "in the headers"])
def test_request_has_a_time_limit(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "REQUEST_S", 0.4)
    with live() as page:
        page.sinks[0].write(result(0))
        with open_connection(page.port) as slow:
            begun_s = time.monotonic()
            with contextlib.suppress(ConnectionError):
                slow.sendall(begun)
                while begun and time.monotonic() - begun_s < 1.0:  # single bytes do not extend the limit
                    slow.sendall(b"x")
                    time.sleep(0.1)
            assert is_closed(slow)


def test_viewer_outlasts_the_time_limit_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "REQUEST_S", 0.4)
    with live() as page:
        page.sinks[0].write(result(0))
        with open_connection(page.port) as viewer:
            viewer.sendall(HEAD.replace(b"/health", b"/stream.mjpg") + b"\r\n")
            time.sleep(1.0)
            page.sinks[0].write(result(1))
            ends_s, seen = time.monotonic() + 10, b""
            while seen.count(b"Content-Type: image/jpeg") < 2 and time.monotonic() < ends_s:
                seen += viewer.recv(65536)
            assert seen.count(b"Content-Type: image/jpeg") >= 2


def test_idle_connections_do_not_block_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_CONNECTIONS", 12)
    with live() as page, contextlib.ExitStack() as idle:
        page.sinks[0].write(result(0))
        idle_connections = [idle.enter_context(open_connection(page.port)) for _ in range(60)]
        for _ in range(5):
            assert page.get("/health").status == 200
        assert all(is_closed(connection) for connection in idle_connections[:40])


def answers_health(port: int) -> bool:
    """Whether the page responds within a second."""
    try:
        with open_connection(port) as viewer:
            viewer.settimeout(1.0)
            viewer.sendall(HEAD + b"\r\n")
            return viewer.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


FILE_SHORTAGE_SCRIPT = """
import os, resource, socket, sys, time
from hoiclip_engine.live import access, server
from tests.engine.live_pages import live, result
access.max_connections = lambda: 10_000  # as if there were no limit
with live() as page:
    page.sinks[0].write(result(0))
    if sys.argv[1:] == ["watched"]:  # a viewer whose last message is slow: the loop outlives the page
        server.LAST_MESSAGE_S, server.SHUTDOWN_S = 2.0, 2.0
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


def run_with_few_files(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FILE_SHORTAGE_SCRIPT, *argv],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_server_closed_during_shortage_of_files_ends_quietly() -> None:
    with run_with_few_files("watched") as process, contextlib.ExitStack() as idle:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for _ in range(40):
            idle.enter_context(open_connection(port))
        _, err = process.communicate("\n\n", timeout=120)
    assert err.count("\n") == 1, err
    assert "Too many open files" in err


def test_server_without_free_files_waits_and_reports_once() -> None:
    process = run_with_few_files()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.ExitStack() as idle:
            port = int(process.stdout.readline())
            for _ in range(40):
                idle.enter_context(open_connection(port))
            process.stdin.write("\n")
            process.stdin.flush()
            assert float(process.stdout.readline()) < 1.0, "the loop is busy"
        # The loop accepts again within a second; on a busy machine later. Until then it may hang up at once.
        ends_s = time.monotonic() + 30
        while not answers_health(port):
            assert time.monotonic() < ends_s
            time.sleep(0.1)
        _, err = process.communicate("\n", timeout=120)
        assert err.count("\n") <= 1, err
        assert "Too many open files" in err
    finally:
        process.kill()
