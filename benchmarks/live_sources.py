"""Several cameras on one machine, with inference on change and without: python -m benchmarks.live_sources

Synthetic videos before a fixed camera (benchmarks/change_gate.py), people acting for a part of the time, play in real
time, all from the same moment on, so that they act at once. A line for each way: frames that were shown, those of them
inferred, those shown with predicted pairs because the model was busy, and those dropped.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.change_gate import FIRST_SEED, fixed_camera_script
from benchmarks.harness import append, provenance
from hoiclip_engine.cli.draw import draw_video
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.playback import PacedSource
from hoiclip_engine.streaming.stream import Stream, StreamConfig

NAME = "live_sources"
WAYS = {
    "every frame": StreamConfig(policy="latest"),
    "on change": StreamConfig(policy="latest", detect_every="auto"),
    "on change, CLIP by scene": StreamConfig(policy="latest", detect_every="auto", clip_every="auto"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=4)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--activity", type=float, default=0.3, help="part of the time in which people act")
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        videos = [Path(folder) / f"{number}.mp4" for number in range(args.sources)]
        for number, video in enumerate(videos):
            draw_video(video, fixed_camera_script(FIRST_SEED + number, args.activity, fps=args.fps))
        with Engine.load("drawn", EngineConfig(precision=args.precision)) as engine:
            facts = {
                "benchmark": NAME, "model": engine.model.name, "model_sha256": engine.model.sha256(),
                "backend": engine.backend_name, "precision": args.precision, "sources": args.sources, "fps": args.fps,
                "activity": args.activity,
            }  # fmt: skip
            for way, config in WAYS.items():
                append(NAME, {**facts, "way": way, **play(engine, videos, config), **provenance("openvino", "av")})


def play(engine: Engine, videos: Sequence[Path], config: StreamConfig) -> dict[str, Any]:
    """All videos at once, each in a thread of its own."""
    streams = engine.streams([PacedSource(open_video(video)) for video in videos], config)
    started_s, cpu_s = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(len(streams)) as pool:
        shown = [result for results in pool.map(watch, streams) for result in results]
    took_s = time.monotonic() - started_s
    counts, ages = Counter(way for way, _ in shown), np.array([age_ms for _, age_ms in shown])
    return {
        "frames": sum(stream.frames_read for stream in streams),
        "shown": len(shown),
        **{name: counts[name] for name in ("inferred", "unchanged", "busy")},
        "dropped": [stream.summary.dropped for stream in streams],
        "age_p50_ms": round(float(np.median(ages)), 1),
        "age_p99_ms": round(float(np.percentile(ages, 99)), 1),
        "cpu_cores": round((time.process_time() - cpu_s) / took_s, 2),
    }


def watch(stream: Stream) -> list[tuple[str, float]]:
    """How each frame got its pairs, and its age in milliseconds at its result."""
    return [("inferred" if result.detected else result.reason or "predicted", 1e3 * result.age_s) for result in stream]


if __name__ == "__main__":
    main()
