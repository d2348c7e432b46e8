"""A source three times faster than the model, for minutes: python -m benchmarks.overload --minutes 10

A synthetic video plays over and over, at three frames in the time of one inference. The result line
holds the age of frames at their result, whether every frame was counted, and memory over time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import append, provenance
from hoiclip.synthetic.video import VideoConfig
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.playback import PacedSource, RepeatedSource
from hoiclip_engine.streaming.sink_writer import SinkWriter
from hoiclip_engine.streaming.stream import Stream, StreamConfig

OVERLOAD = 3.0
FPS = 30.0


def rss_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def inference_ms(engine: Engine, video: Path) -> float:
    """Median time of an inference at a live pace without load: preprocess, infer, postprocess."""
    stream = engine.streams([PacedSource(open_video(video))], StreamConfig())[0]
    for result in stream:
        if result.index == 60:
            stream.stop()
    stages = stream.summary.stage_ms
    return sum(stages[stage]["p50"] for stage in ("preprocess", "infer", "postprocess"))


def watch(stream: Stream, out: Path) -> tuple[list[float], list[float], list[float]]:
    """Ages and inference times of all results in milliseconds, and memory in MiB, once a second."""
    ages, inferences, memory = [], [], []
    next_s = time.monotonic() + 5.0  # buffers have grown by then
    writer = SinkWriter([JsonlSink(out)], stream.times)
    writer.start(stream.header)
    for result in stream:
        writer.put(result)
        ages.append(result.age_s * 1e3)
        inferences.append(sum(result.stage_ms[stage] for stage in ("preprocess", "infer", "postprocess")))
        if time.monotonic() >= next_s:
            next_s += 1.0
            memory.append(rss_mib())
    writer.finish(stream.summary)
    return ages, inferences, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--short-side", type=int, help="inference short side; larger is slower")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw_videos(Path(folder), 1, VideoConfig(width_px=640, height_px=480, fps=FPS, duration_s=20.0), seed=3)
        (video,) = Path(folder).glob("*.mp4")
        config = EngineConfig(backend="openvino", precision=a.precision, short_side_px=a.short_side)
        with Engine.load("drawn", config) as engine:
            unloaded_ms = inference_ms(engine, video)
            period_ms = unloaded_ms / OVERLOAD
            speed = 1e3 / period_ms / FPS
            source = PacedSource(RepeatedSource(lambda: open_video(video), a.minutes * 60 * speed), speed)
            stream = engine.streams([source], StreamConfig(policy="latest"))[0]
            ages, inferences, memory = watch(stream, Path(folder) / "out.jsonl")
            summary = stream.summary
        p50, p99 = (float(np.percentile(ages, p)) for p in (50, 99))
        line = {
            "benchmark": "overload",
            "model": "drawn",
            "precision": engine.build.precision if engine.build else "fp32",
            "short_side_px": a.short_side,
            "minutes": a.minutes,
            "period_ms": round(period_ms, 2),
            "look_unloaded_p50_ms": round(unloaded_ms, 2),
            "look_p50_ms": round(float(np.median(inferences)), 2),
            "look_p99_ms": round(float(np.percentile(inferences, 99)), 2),
            "age_p50_ms": round(p50, 2),
            "age_p99_ms": round(p99, 2),
            "allowed_ms": round(float(np.percentile(inferences, 99)) + 1.5 * period_ms, 2),
            "read": source.counters.decoded,
            "decoded": summary.decoded,
            "processed": len(ages),
            "dropped": summary.dropped,
            "exact": source.counters.decoded == summary.decoded == len(ages) + summary.dropped,
            "rss_mib_of_tenths": [
                round(float(np.median(tenth)), 1) for tenth in np.array_split(memory, 10) if len(tenth)
            ],
        }
        append("overload", {**line, **provenance("openvino", "av")})


if __name__ == "__main__":
    main()
