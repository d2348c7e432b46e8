"""The official layout from H.264 to pairs: int8, inference on change and CLIP's cadence against eager fp32.

    python -m benchmarks.official_pipeline [--precision int8] [--activity 0.3]

A model of the official layout with random weights (ResNet-50, CLIP ViT-B/32), so that what it says means nothing and
only times count. The video is that of benchmarks/change_gate.py, 640x480, people act for a part of the time; every way
decodes, infers at 480x640 and tracks it, with all cores. Eager torch infers every frame and takes a second for one, so
that it gets the first frames only, before and after the others. A second line has the model alone, in turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.change_gate import FIRST_SEED, fixed_camera_script
from benchmarks.harness import append, provenance, side_by_side, statistics
from hoiclip.core.model_file import ModelFile
from hoiclip.core.preprocess import preprocess
from hoiclip_engine.backends.base import Capacity, ClipKeepingBackend, Precision
from hoiclip_engine.backends.registry import load_backend
from hoiclip_engine.cli.build import BuildRequest, build
from hoiclip_engine.cli.draw import draw_video
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.quantization.builds import FP32, Build, select_build
from hoiclip_engine.quantization.calibration import CalibrationConfig
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.streaming.stream import StreamConfig
from tests.golden.models import GoldenModels
from tests.golden.rule import PUBLIC_SALT

NAME = "official_pipeline"
SIDE_PX = 480


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("int8", "bf16"), default="int8")
    parser.add_argument("--activity", type=float, default=0.3, help="part of the time in which people act")
    parser.add_argument("--eager-frames", type=int, default=20, help="before the others, and as many after them")
    parser.add_argument("--every-frames", type=int, default=60, help="of the way that infers every frame faster")
    parser.add_argument("--rounds", type=int, default=7, help="of the model alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HOICLIP_CACHE"] = str(folder / "cache")
        video = folder / "video.mp4"
        draw_video(video, fixed_camera_script(FIRST_SEED, args.activity))
        model = GoldenModels(folder).file("hico", PUBLIC_SALT)
        faster = _build(model, args.precision, video)
        facts = {
            "benchmark": NAME, "model": "golden hico, ResNet-50, ViT-B/32", "input": f"{SIDE_PX}x{SIDE_PX * 4 // 3}",
            "precision": args.precision, **provenance("torch", "openvino", "av"),
        }  # fmt: skip
        append(NAME, {**facts, "what": "pipeline", "activity": args.activity, **_pipeline(model, faster, video, args)})
        append(NAME, {**facts, "what": "model alone", **_alone(model, faster, video, args.rounds)})


def _build(model: ModelFile, precision: Precision, video: Path) -> Build:
    """Kept whatever the gate says: of random weights it says nothing."""
    calibration = CalibrationConfig(source=str(video), count=16, checked=2)
    build(
        model,
        BuildRequest(
            backend="openvino", precision=precision, short_side_px=SIDE_PX, calibration=calibration, force=True
        ),
    )
    return select_build(model, "openvino", precision)


def _pipeline(model: ModelFile, faster: Build, video: Path, args: argparse.Namespace) -> dict[str, Any]:
    every, on_change = StreamConfig(), StreamConfig(detect_every="auto")
    both = StreamConfig(detect_every="auto", clip_every="auto")
    with (
        Engine(model, EngineConfig(backend="torch", short_side_px=SIDE_PX), FP32) as eager,
        Engine(model, EngineConfig(backend="openvino", short_side_px=SIDE_PX), faster) as engine,
    ):
        first = _run(eager, video, every, args.eager_frames)
        lines = {
            f"{args.precision}, every frame": _run(engine, video, every, args.every_frames),
            f"{args.precision}, on change": _run(engine, video, on_change),
            f"{args.precision}, on change, CLIP by scene": _run(engine, video, both),
        }
        last = _run(eager, video, every, args.eager_frames)
    eager_ms = (first["wall_ms"] + last["wall_ms"]) / 2
    return {
        "ways": {"eager fp32, every frame": first, **lines, "eager fp32 again": last},
        "times_as_fast_as_eager": {name: round(eager_ms / line["wall_ms"], 2) for name, line in lines.items()},
    }


def _run(engine: Engine, video: Path, config: StreamConfig, max_frames: int | None = None) -> dict[str, float]:
    """Milliseconds a frame, without compiling."""
    stream = engine.open(video, config, SourceConfig(max_frames=max_frames))
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    frames = inferred = clip = 0
    for result in stream:
        frames += 1
        inferred += result.detected
        clip += "clip" in result.stage_ms
    return {
        "frames": frames,
        "inferred": inferred,
        "clip_inferred": clip if config.clip_every != 1 else inferred,
        "wall_ms": round(1e3 * (time.perf_counter() - wall_s) / frames, 2),
        "cpu_ms": round(1e3 * (time.process_time() - cpu_s) / frames, 2),
    }


def _alone(model: ModelFile, faster: Build, video: Path, rounds: int) -> dict[str, Any]:
    with Engine(model, EngineConfig(backend="torch", short_side_px=SIDE_PX), FP32) as engine:
        frame = next(iter(engine.open(video, source_config=SourceConfig(max_frames=1)))).frame
        padded_hw = engine.padded_size_for(*frame.rgb.shape[:2])
        model_input = preprocess(frame.rgb, engine.preprocess_config(padded_hw))
    eager = load_backend("torch", model, padded_hw)
    whole = load_backend("openvino", model, padded_hw, faster.precision, faster.graph)
    parts = load_backend("openvino", model, padded_hw, faster.precision, faster.graph, Capacity(keeps_clip=True))
    kept = cast(ClipKeepingBackend, parts)
    view = kept.view(model_input)
    calls: Mapping[str, Callable[[], object]] = {
        "eager fp32": lambda: eager(model_input),
        faster.precision: lambda: whole(model_input),
        f"{faster.precision}, CLIP kept": lambda: kept.infer(model_input, view),
    }
    times = side_by_side(calls, rounds)
    for backend in (eager, whole, kept):
        backend.close()
    base_ms = np.median(times["eager fp32"])
    return {
        "times": {name: statistics(samples) for name, samples in times.items()},
        "times_as_fast_as_eager": {
            name: round(float(base_ms / np.median(samples)), 2)
            for name, samples in times.items()
            if name != "eager fp32"
        },
    }


if __name__ == "__main__":
    main()
