"""A source three times faster than the model, for minutes: python -m benchmarks.overload --minutes 10

A drawn film plays over and over, at three frames in the time of one look. Told are the age of frames when their result
is there, whether every frame was counted, and how memory went.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import append, provenance
from hoiclip.data.drawn.video import VideoConfig
from hoiclip_engine.commands.draw import draw_films
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.pipeline import Stream, StreamConfig
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.video.paced import PacedSource
from hoiclip_engine.video.repeated import Repeated
from hoiclip_engine.video.source import open_video
from hoiclip_engine.writer import SinkWriter

OVERLOAD = 3.0
FPS = 30.0


def rss_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def look_ms(engine: Engine, film: Path) -> float:
    """Median time of a look at a live pace without load: preprocess, infer, postprocess."""
    stream = engine.streams([PacedSource(open_video(film))], StreamConfig())[0]
    for result in stream:
        if result.index == 60:
            stream.stop()
    stages = stream.summary.stage_ms
    return sum(stages[stage]["p50"] for stage in ("preprocess", "infer", "postprocess"))


def watch(stream: Stream, out: Path) -> tuple[list[float], list[float], list[float]]:
    """Ages and looks of all results in milliseconds, and memory in MiB, once a second."""
    ages, looks, memory = [], [], []
    next_s = time.monotonic() + 5.0  # buffers have grown by then
    writer = SinkWriter([JsonlSink(out)], stream.times)
    writer.start(stream.header)
    for result in stream:
        writer.put(result)
        ages.append(result.age_s * 1e3)
        looks.append(sum(result.stage_ms[stage] for stage in ("preprocess", "infer", "postprocess")))
        if time.monotonic() >= next_s:
            next_s += 1.0
            memory.append(rss_mib())
    writer.finish(stream.summary)
    return ages, looks, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--short-side", type=int, help="of the picture that is looked at; larger is slower")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw_films(Path(folder), 1, VideoConfig(width_px=640, height_px=480, fps=FPS, duration_s=20.0), seed=3)
        (film,) = Path(folder).glob("*.mp4")
        config = EngineConfig(backend="openvino", precision=a.precision, short_side_px=a.short_side)
        with Engine.load("drawn", config) as engine:
            one_look_ms = look_ms(engine, film)
            period_ms = one_look_ms / OVERLOAD
            speed = 1e3 / period_ms / FPS
            source = PacedSource(Repeated(lambda: open_video(film), a.minutes * 60 * speed), speed)
            stream = engine.streams([source], StreamConfig(policy="latest"))[0]
            ages, looks, memory = watch(stream, Path(folder) / "out.jsonl")
            summary = stream.summary
        p50, p99 = (float(np.percentile(ages, p)) for p in (50, 99))
        line = {
            "benchmark": "overload",
            "model": "drawn",
            "precision": engine.build.precision if engine.build else "fp32",
            "short_side_px": a.short_side,
            "minutes": a.minutes,
            "period_ms": round(period_ms, 2),
            "look_unloaded_p50_ms": round(one_look_ms, 2),
            "look_p50_ms": round(float(np.median(looks)), 2),
            "look_p99_ms": round(float(np.percentile(looks, 99)), 2),
            "age_p50_ms": round(p50, 2),
            "age_p99_ms": round(p99, 2),
            "allowed_ms": round(float(np.percentile(looks, 99)) + 1.5 * period_ms, 2),
            "read": source.counters.decoded,
            "decoded": summary.decoded,
            "processed": len(ages),
            "dropped": summary.dropped,
            "exact": source.counters.decoded == summary.decoded == len(ages) + summary.dropped,
            "rss_mib_of_tenths": [round(float(np.median(part)), 1) for part in np.array_split(memory, 10) if len(part)],
        }
        append("overload", {**line, **provenance("openvino", "av")})


if __name__ == "__main__":
    main()
