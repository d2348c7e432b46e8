"""A live RTSP server that is killed and restarted again and again: how soon frames are back, and what is left behind.

    python -m benchmarks.flapping --cycles 100

The server is a real one in a process of its own (rtsp_server.py), ended by SIGKILL. Recovery counts from the moment it
listens again to the first frame after it, and so holds the server's own start of its encoder.
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
from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.video.address import parse_address
from hoiclip_engine.video.frame_source import FrameSource
from hoiclip_engine.video.open_source import open_source
from hoiclip_engine.video.source_config import SourceConfig

PASSWORD = "Zq7Zq"
LONGEST_AWAY_S = 3.0
WARM_CYCLES = 5
"""Pools and caches of ffmpeg and the allocator fill in the first ones; a leak goes on."""


@dataclass(kw_only=True)
class Watch:
    """What was seen, by one thread that does nothing but read frames."""

    losses: list[str] = field(default_factory=list)
    backward: int = 0
    frames: int = 0
    last_frame_at_s: float = 0.0
    back: threading.Event = field(default_factory=threading.Event)
    _last_pts_s: float = float("-inf")

    def read(self, source: FrameSource) -> None:
        for item in source:
            if isinstance(item, SourceEvent):
                if item.event == "source_lost":
                    self.losses.append(item.reason)
                continue
            self.see(item)

    def see(self, frame: Frame) -> None:
        self.frames += 1
        self.backward += frame.pts_s <= self._last_pts_s
        self._last_pts_s = frame.pts_s
        self.last_frame_at_s = time.monotonic()
        self.back.set()


def usage() -> dict[str, float]:
    """Of this process, now."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return {
        "rss_mb": round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1),
        "threads": int(status.split("Threads:")[1].split()[0]),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def cycle(server: subprocess.Popen[str], port: int, watch: Watch, away_s: float) -> tuple[subprocess.Popen[str], float]:
    """Kills the server, starts it again.

    Returns:
        The new server, and the seconds until a frame of it was there.
    """
    server.kill()
    server.communicate()
    time.sleep(away_s)
    fresh = start(port)
    listens_s = time.monotonic()
    watch.back.clear()
    if not watch.back.wait(30):
        raise SystemExit("the source did not come back within 30 s")
    return fresh, watch.last_frame_at_s - listens_s


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def flap(cycles: int, transport: str, seed: int) -> dict[str, object]:
    """One line of result."""
    rng, port = random.Random(seed), free_port()
    server = start(port)
    address = parse_address(f"rtsp://user:{PASSWORD}@127.0.0.1:{port}/live#transport={transport}")
    source = open_source(address, SourceConfig(), random.Random(seed))
    watch = Watch()
    reader = threading.Thread(target=watch.read, args=(source,))
    reader.start()
    recoveries_s: list[float] = []
    taken: list[dict[str, float]] = []
    try:
        for _ in range(cycles):
            time.sleep(rng.uniform(0.2, 1.0))
            server, recovery_s = cycle(server, port, watch, rng.uniform(0.0, LONGEST_AWAY_S))
            recoveries_s.append(recovery_s)
            taken.append(usage())
            print(f"{len(recoveries_s)}: {recovery_s:.2f} s {json.dumps(taken[-1])}", flush=True)
    finally:
        source.stop()
        reader.join()
        source.close()
        server.kill()
        server.communicate()
    if any(PASSWORD in reason for reason in watch.losses):
        raise SystemExit("a reason shows the password")
    return {
        "benchmark": "flapping",
        "server": "GStreamer RTSP, H.264 320x240, 25 fps, a key frame a second",
        "transport": transport,
        "cycles": cycles,
        "recovery_s": {f"p{p}": round(float(np.percentile(recoveries_s, p)), 3) for p in (50, 90, 99)}
        | {"max": round(max(recoveries_s), 3)},
        "reconnects": source.counters.reconnects,
        "frames": watch.frames,
        "pts_backward": watch.backward,
        "after_warm_cycles": taken[min(WARM_CYCLES, cycles) - 1],
        "after_all": taken[-1],
        "closed": usage(),
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
