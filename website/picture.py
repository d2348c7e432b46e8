"""Draws the image of README: a frame of the demo's clip with what the bundled model says of it.

    python -m website.picture

In this frame all that the model says is true; it is not always so good (benchmarks/results/drawn_model.jsonl).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.commands.demo import draw_demo_clip
from hoiclip_engine.sinks.canvas import Canvas
from website.links import ROOT

TARGET = ROOT / "docs" / "images" / "annotated.png"
FRAME = 26
COLOURS = 256
"""Of the palette; a drawn picture needs no more."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Engine.load("drawn", EngineConfig(precision="fp32")) as engine:
        stream = engine.open(draw_demo_clip(Path(folder)))
        canvas = Canvas(stream.header)
        picture = next(Image.fromarray(canvas.paint(result)) for result in stream if result.index == FRAME)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
