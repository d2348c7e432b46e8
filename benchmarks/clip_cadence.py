"""CLIP at its own cadence: processor time and accuracy of `--clip-every` 1, 2, 5, 15 and auto.

    python -m benchmarks.clip_cadence [--videos 4] [--precision fp32]

Synthetic videos with a moving camera, all frames inferred; the videos run with every cadence in turns, as `hoiclip run`
does with one thread. A line for each cadence in results/clip_cadence.jsonl.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Literal

from benchmarks.change_gate import Arm
from benchmarks.harness import append, provenance
from hoiclip.synthetic.video import VideoConfig
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.streaming.stream import StreamConfig

NAME = "clip_cadence"
CADENCES: tuple[int | Literal["auto"], ...] = (1, 2, 5, 15, "auto")
SEED = 9_600_000
VIDEO = VideoConfig(width_px=640, height_px=480, fps=25.0, duration_s=12.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--only", nargs="+", choices=[str(cadence) for cadence in CADENCES], help="of the cadences")
    parser.add_argument("--dry", action="store_true", help="print, and keep no result")
    args = parser.parse_args()
    arms = {cadence: Arm() for cadence in CADENCES if args.only is None or str(cadence) in args.only}
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine.load("drawn", EngineConfig(backend="openvino", precision=args.precision)) as engine,
    ):
        draw_videos(Path(folder), args.videos, VIDEO, SEED)
        for path in sorted(Path(folder).glob("*.mp4")):
            for cadence, arm in arms.items():
                arm.run(engine, path, StreamConfig(policy="lossless", clip_every=cadence))
        for cadence, arm in arms.items():
            line = {
                "benchmark": NAME,
                "model": engine.model.name,
                "model_sha256": engine.model.sha256(),
                "backend": engine.backend_name,
                "precision": args.precision,
                "clip every": cadence,
                "videos": args.videos,
                "frames": arm.frames,
                "clip inferred": round((arm.frames if cadence == 1 else arm.clip_inferred) / arm.frames, 3),
                "ms": round(1e3 * arm.cpu_s / arm.frames, 2),
                **arm.accuracy(engine.vocabulary),
            }
            if args.dry:
                print(json.dumps(line))
            else:
                append(NAME, line | provenance("openvino", "numpy"))


if __name__ == "__main__":
    main()
