"""Repeated kills and restarts of a live RTSP server: time until frames are back, and leaks of threads, files, memory.

    python -m benchmarks.flapping --cycles 100

The server is a real one in its own process (rtsp_server.py), ended by SIGKILL. Recovery is the time from when it
listens again to the next frame, including the start of its encoder.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.harness import append, provenance
from benchmarks.rtsp_server import NEEDS, is_installed, start
from hoiclip_engine.sources.base import FrameSource, SourceConfig
from hoiclip_engine.sources.open_source import open_source
from hoiclip_engine.sources.uri import parse_address
from hoiclip_engine.types.frame import Frame, SourceEvent

PASSWORD = "Zq7Zq"
MAX_DOWN_S = 3.0
WARM_CYCLES = 5
"""Pools and caches of ffmpeg and the allocator fill in the first cycles; a leak keeps growing."""


@dataclass(kw_only=True)
class FrameMonitor:
    """Losses, frames and times, recorded by a thread that only reads frames."""

    losses: list[str] = field(default_factory=list)
    backward: int = 0
    frames: int = 0
    last_frame_at_s: float = 0.0
    frame_received: threading.Event = field(default_factory=threading.Event)
    _last_pts_s: float = float("-inf")

    def read(self, source: FrameSource) -> None:
        for item in source:
            if isinstance(item, SourceEvent):
                if item.event == "source_lost":
                    self.losses.append(item.reason)
                continue
            self.record(item)

    def record(self, frame: Frame) -> None:
        self.frames += 1
        self.backward += frame.pts_s <= self._last_pts_s
        self._last_pts_s = frame.pts_s
        self.last_frame_at_s = time.monotonic()
        self.frame_received.set()


def process_usage() -> dict[str, float]:
    """Current memory, threads and descriptors of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return {
        "rss_mb": round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1),
        "threads": int(status.split("Threads:")[1].split()[0]),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def cycle(
    server: subprocess.Popen[str], port: int, monitor: FrameMonitor, down_s: float
) -> tuple[subprocess.Popen[str], float]:
    """Kills the server and starts it again.

    Returns:
        The new server, and the seconds until its first frame.
    """
    server.kill()
    server.communicate()
    time.sleep(down_s)
    fresh = start(port)
    listens_s = time.monotonic()
    monitor.frame_received.clear()
    if not monitor.frame_received.wait(30):
        raise SystemExit("the source did not come back within 30 s")
    return fresh, monitor.last_frame_at_s - listens_s


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def flap(cycles: int, transport: str, seed: int) -> dict[str, object]:
    """Runs the cycles and returns the result line."""
    rng, port = random.Random(seed), free_port()
    server = start(port)
    address = parse_address(f"rtsp://user:{PASSWORD}@127.0.0.1:{port}/live#transport={transport}")
    source = open_source(address, SourceConfig(), random.Random(seed))
    monitor = FrameMonitor()
    reader = threading.Thread(target=monitor.read, args=(source,))
    reader.start()
    recoveries_s: list[float] = []
    usages: list[dict[str, float]] = []
    try:
        for _ in range(cycles):
            time.sleep(rng.uniform(0.2, 1.0))
            server, recovery_s = cycle(server, port, monitor, rng.uniform(0.0, MAX_DOWN_S))
            recoveries_s.append(recovery_s)
            usages.append(process_usage())
            print(f"{len(recoveries_s)}: {recovery_s:.2f} s {json.dumps(usages[-1])}", flush=True)
    finally:
        source.stop()
        reader.join()
        source.close()
        server.kill()
        server.communicate()
    if any(PASSWORD in reason for reason in monitor.losses):
        raise SystemExit("a reason shows the password")
    return {
        "benchmark": "flapping",
        "server": "GStreamer RTSP, H.264 320x240, 25 fps, a keyframe a second",
        "transport": transport,
        "cycles": cycles,
        "recovery_s": {f"p{p}": round(float(np.percentile(recoveries_s, p)), 3) for p in (50, 90, 99)}
        | {"max": round(max(recoveries_s), 3)},
        "reconnects": source.counters.reconnects,
        "frames": monitor.frames,
        "pts_backward": monitor.backward,
        "after_warm_cycles": usages[min(WARM_CYCLES, cycles) - 1],
        "after_all": usages[-1],
        "closed": process_usage(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--transport", choices=("tcp", "udp"), default="tcp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="print, and keep no result")
    a = parser.parse_args()
    if not is_installed():
        raise SystemExit(f"no RTSP server here; {NEEDS}")
    line = flap(a.cycles, a.transport, a.seed)
    if a.dry:
        print(json.dumps(line))
    else:
        append("flapping", line | provenance("av", "numpy"))


if __name__ == "__main__":
    main()
