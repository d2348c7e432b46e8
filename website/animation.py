"""Draws the animation of README: the demo's clip with what the bundled model detects in it.

    python -m website.animation

As the demo shows it, right and wrong (benchmarks/results/drawn_model.jsonl has the numbers).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from hoiclip_engine import Engine, EngineConfig, StreamConfig
from hoiclip_engine.cli.demo import DETECT_EVERY, draw_demo_clip
from hoiclip_engine.sinks.annotate import FramePainter
from website.links import ROOT

TARGET = ROOT / "docs" / "images" / "demo.webp"
LARGEST_BYTES = 1_500_000
SIZE_PX = (480, 360)
EVERY = 2
"""Frames of the clip for one of the animation."""
QUALITY = 55


def main() -> None:
    config = StreamConfig(detect_every=DETECT_EVERY)
    with tempfile.TemporaryDirectory() as folder, Engine.load("drawn", EngineConfig(precision="fp32")) as engine:
        stream = engine.open(draw_demo_clip(Path(folder)), config)
        painter = FramePainter(stream.header)
        times, images = [], []
        for result in stream:
            painted = painter.paint(result)
            if result.index % EVERY == 0:
                times.append(result.pts_s)
                images.append(Image.fromarray(painted).resize(SIZE_PX, Image.Resampling.LANCZOS))
    step_ms = round(1000 * (times[-1] - times[0]) / (len(times) - 1))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    first, *others = images
    first.save(TARGET, save_all=True, append_images=others, duration=step_ms, loop=0, quality=QUALITY, method=6)
    if (size := TARGET.stat().st_size) > LARGEST_BYTES:
        raise SystemExit(f"{TARGET} has {size} bytes, at most {LARGEST_BYTES}; lower QUALITY or SIZE_PX")
    print(f"{TARGET}: {size} bytes, {len(images)} frames")


if __name__ == "__main__":
    main()
