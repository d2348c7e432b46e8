"""Draws the picture of README: a frame of a drawn test film with what the bundled model says of it.

    python -m website.picture

The film is one of `hoiclip data draw --video 3 --set test --size 640x480`, read from its file as any other. In this
frame all that the model says is true; it is not always so good (benchmarks/results/drawn_model.jsonl).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.commands.draw import draw_films, film_config
from hoiclip_engine.sinks.canvas import Canvas
from website.links import ROOT

TARGET = ROOT / "docs" / "images" / "annotated.png"
FILM, FRAME = 2_000_002, 47
COLOURS = 256
"""Of the palette; a drawn picture needs no more."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Engine.load("drawn", EngineConfig(precision="fp32")) as engine:
        draw_films(Path(folder), 1, film_config("test", (640, 480), None, 10.0, False), FILM)
        stream = engine.open(Path(folder) / f"film_{FILM}.mp4")
        canvas = Canvas(stream.header)
        picture = next(Image.fromarray(canvas.paint(result)) for result in stream if result.index == FRAME)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
