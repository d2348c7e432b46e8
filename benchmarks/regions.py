"""Regions instead of whole frames: processor time and accuracy of `--whole-every` 1, 3, 10 and 30.

    python -m benchmarks.regions [--videos 4] [--precision fp32]

A wide camera of 1920x1080 that does not move, people act in a ninth of its image, somewhere else in each video; and the
same stories filmed from near. Every frame is inferred, the videos run with every setting in turns as `hoiclip run` does
with one thread. A line for each setting and camera in results/regions.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.change_gate import NOISE_LEVELS, Arm, fixed_camera_script
from benchmarks.harness import append, provenance
from hoiclip.core.array_types import RGB
from hoiclip.synthetic.background import draw_backdrop
from hoiclip.synthetic.draw import SyntheticFrame
from hoiclip.synthetic.video import VideoScript
from hoiclip_engine.cli.draw import draw_video
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.streaming.stream import StreamConfig

NAME = "regions"
SETTINGS = (1, 3, 10, 30)
FIRST_SEED = 9_700_000
NEAR_PX, WIDE_PX = (640, 360), (1920, 1080)


@dataclass(frozen=True, slots=True, kw_only=True)
class WideScript(VideoScript):
    """A script that is acted in a part of a larger image."""

    near: VideoScript
    corner_px: tuple[int, int]

    def frames(self) -> Iterator[SyntheticFrame]:
        width_px, height_px = WIDE_PX
        place = draw_backdrop(self.chapters[0].backdrop, width_px, height_px)
        rng = np.random.default_rng(0)
        noise = [rng.normal(0, NOISE_LEVELS, (height_px, width_px, 1)).astype(np.float32) for _ in range(4)]
        for index, frame in enumerate(self.near.frames()):
            rgb = np.clip(place + noise[index % 4], 0, 255).astype(np.uint8)
            yield _placed(frame, rgb, *self.corner_px)


def _placed(frame: SyntheticFrame, rgb: RGB, x: int, y: int) -> SyntheticFrame:
    """The frame at a place of a larger image."""
    height_px, width_px = frame.rgb.shape[:2]
    rgb[y : y + height_px, x : x + width_px] = frame.rgb

    def moved(box: Any) -> Any:
        return (box[0] + x, box[1] + y, box[2] + x, box[3] + y)

    return replace(
        frame,
        rgb=rgb,
        entities=tuple(replace(entity, box_xyxy=moved(entity.box_xyxy)) for entity in frame.entities),
        pairs=tuple(
            replace(pair, human_box_xyxy=moved(pair.human_box_xyxy), object_box_xyxy=moved(pair.object_box_xyxy))
            for pair in frame.pairs
        ),
    )


def scripts(seed: int) -> dict[str, VideoScript]:
    """A story from near and from afar."""
    near = fixed_camera_script(seed, 1.0, NEAR_PX)
    free = [wide - part for wide, part in zip(WIDE_PX, NEAR_PX, strict=True)]
    x, y = (2 * int(np.random.default_rng(seed + axis).integers(0, side // 2)) for axis, side in enumerate(free))
    config = replace(near.config, width_px=WIDE_PX[0], height_px=WIDE_PX[1])
    wide = WideScript(config=config, chapters=near.chapters, pts_s=near.pts_s, near=near, corner_px=(x, y))
    return {"near": near, "wide": wide}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--only", nargs="+", type=int, default=SETTINGS, choices=SETTINGS)
    parser.add_argument("--dry", action="store_true", help="print, and keep no result")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine.load("drawn", EngineConfig(backend="openvino", precision=args.precision)) as engine,
    ):
        for camera in ("near", "wide"):
            arms = {every: Arm() for every in args.only}
            for row in range(args.videos):
                path = Path(folder) / f"{camera}-{row}.mp4"
                draw_video(path, scripts(FIRST_SEED + row)[camera])
                for every, arm in arms.items():
                    arm.run(engine, path, StreamConfig(policy="lossless", whole_every=every))
            for every, arm in arms.items():
                line = {
                    "benchmark": NAME, "model": engine.model.name, "model_sha256": engine.model.sha256(),
                    "backend": engine.backend_name, "precision": args.precision, "camera": camera,
                    "whole every": every, "videos": args.videos, "frames": arm.frames,
                    "regions": round(sum(r.region is not None for run in arm.results for r in run) / arm.frames, 3),
                    "ms": round(1e3 * arm.cpu_s / arm.frames, 2),
                    **arm.accuracy(engine.vocabulary),
                }  # fmt: skip
                if args.dry:
                    print(json.dumps(line))
                else:
                    append(NAME, line | provenance("openvino", "numpy"))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
