"""Fifty slow viewers: writes of the run are not delayed, and memory stays flat."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import numpy as np

from hoiclip_engine.types.frame import Frame
from tests.engine.frame_results import frame_result
from tests.engine.live_pages import RIDES, RunningPage, live

VIEWERS = 50
NOISE = [np.random.default_rng(seed).integers(0, 256, (720, 1280, 3), np.uint8) for seed in range(3)]


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def slow_viewer(page: RunningPage, number: int) -> socket.socket:
    """Viewer with its own settings that reads the head of the response and then nothing more."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect(("127.0.0.1", page.port))
    path = f"/stream.mjpg?min_score=0.{number:02d}"
    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode())
    assert viewer.recv(12) == b"HTTP/1.1 200"
    return viewer


def write(page: RunningPage, begin: int, count: int) -> list[float]:
    """Writes at 100 frames a second; returns the CPU seconds of each write."""
    took_s = []
    for index in range(begin, begin + count):
        result = frame_result(Frame(NOISE[index % 3], index / 100, index), RIDES)
        begun_s = time.thread_time()
        page.sinks[0].write(result)
        took_s.append(time.thread_time() - begun_s)
        time.sleep(0.01)
    return took_s


def test_slow_viewers_neither_delay_writes_nor_grow_memory() -> None:
    with live() as page:
        write(page, 0, 1)
        viewers = [slow_viewer(page, number) for number in range(VIEWERS)]
        write(page, 1, 100)  # buffers fill up
        before_mb = memory_mb()
        took_s = write(page, 101, 200)
        grown_mb = memory_mb() - before_mb
        for viewer in viewers:
            viewer.close()
    # CPU time of this thread: other threads may take the processor in between, on any machine.
    assert np.percentile(took_s, 99) < 1e-3
    assert np.median(took_s) < 3e-4
    assert grown_mb < 80  # 200 frames are 550 MB, their JPEGs 200 MB; heaps of threads grew by 33 on a busy machine


def test_stalled_viewer_is_disconnected(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from hoiclip_engine.live import routes

    monkeypatch.setattr(routes, "SLOW_VIEWER_S", 0.2)
    with live() as page:
        write(page, 0, 1)
        viewer = slow_viewer(page, 0)
        deadline_s = time.monotonic() + 20
        index = 1
        gauge = 'hoiclip_live_viewers{kind="pictures"}'
        while f"{gauge} 0.0" not in page.get("/metrics").text:
            write(page, index, 1)
            index += 1
            assert time.monotonic() < deadline_s, "the viewer is still connected"
        viewer.close()
