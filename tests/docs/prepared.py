"""A reader's folder: the files that guides speak of, small ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

from PIL import Image

from hoiclip.synthetic import SyntheticFrame, draw_clip
from hoiclip_engine.models import find_model
from hoiclip_engine.sinks.video_encoder import VideoEncoder
from tests.engine.untrained import untrained_model
from website.links import ROOT

FRAMES = 2


def prepare(folder: Path, document: Path) -> Path:
    """Fills a folder with what a document speaks of."""
    text = document.read_text(encoding="utf-8")
    for name in ("demo", "cams", "my_images", "images", "found", "runs/drawn", "runs/mine"):
        (folder / name).mkdir(parents=True)
    drawn_clip(folder / "demo/clip.mp4")
    copies = ["clip.mp4", "cams/north.mp4", "cams/south.mp4"]
    if "--out videos" not in text:
        (folder / "videos").mkdir()
        copies.append("videos/one.mp4")
    for name in copies:
        shutil.copy(folder / "demo/clip.mp4", folder / name)
    for name in ("images/one.jpg", "my_images/one.jpg"):
        Image.new("RGB", (64, 48), (90, 160, 90)).save(folder / name)
    (folder / "gt.txt").write_text("1,1,10,10,20,40,1,1,1\n2,1,11,10,20,40,1,1,1\n")
    (folder / "test.txt").write_text("1,5,10,10,20,40,0.9,-1,-1,-1\n2,5,11,10,20,40,0.9,-1,-1,-1\n")
    for name, content in re.findall(r"`(\w+\.(?:txt|toml))`:\n\n```(?:text|toml)\n(.*?)```", text, flags=re.DOTALL):
        (folder / name).write_text(content, encoding="utf-8")
    for name in ("hico.safetensors", "hico"):  # the second in place of a fetched one, which the cache would hold
        shutil.copy(untrained_model(), folder / name)
    for name in ("drawn", "mine"):
        shutil.copy(find_model("drawn"), folder / f"runs/{name}/model.safetensors")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def drawn_clip(path: Path, frames: int = FRAMES, start_s: float = 2.5) -> Path:
    """Some frames of the clip of `hoiclip demo`, from a moment when something happens; times count from zero."""
    fps = 12.5
    encoder = VideoEncoder(path, 256, 192, Fraction(1, 12_800))
    first = round(start_s * fps)
    for number, frame in enumerate(islice(_story(fps), first, first + frames)):
        encoder.write(frame.rgb, number / fps)
    encoder.close()
    return path


def _story(fps: float) -> Iterator[SyntheticFrame]:
    yield from draw_clip(256, 192, fps, 9.0, 7)
