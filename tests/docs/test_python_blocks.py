"""The Python of README and the guides does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip.training.assemble import vocabulary_of
from hoiclip.training.recipe import read_recipe
from hoiclip_engine.cli.main import main
from hoiclip_kernels import pair_nms
from tests.docs.documents import blocks, documents
from tests.docs.prepared import prepare
from tests.docs.test_commands import OWN_TESTS

ELSEWHERE = OWN_TESTS.keys()
"""Their code is run where their commands are."""
BLOCKS = [
    pytest.param(document, code, id=f"{document.name}-{number}")
    for document in documents()
    if document.name not in ELSEWHERE
    for number, code in enumerate(blocks(document.read_text(encoding="utf-8"), "python"))
]


def given() -> dict[str, Any]:
    """Names that a page has spoken of before its code."""
    boxes = np.array([[10, 10, 50, 90], [30, 40, 60, 80]], np.float32)
    humans, objects, classes, scores = boxes, boxes, np.array([0, 1]), np.array([0.9, 0.8])
    assert pair_nms.pair_nms(humans, objects, classes, scores, 0.7, 1.0, 0.5).tolist() == [0, 1]
    return {"boxes_xyxy": boxes, "scores": scores, "labels": classes, "pts_s": 0.0} | {
        "humans": humans, "objects": objects, "classes": classes,
    }  # fmt: skip


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("document", "code"), BLOCKS)
def test_it_runs(document: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepare(tmp_path, document))
    Image.new("RGB", (256, 192), (90, 160, 90)).save("photo.jpg")
    names = given()
    if "PairTracker().update(pairs" in code:
        names["pairs"] = _some_pairs()
    if "analyse_errors(predictions, annotations" in code:
        names |= {"predictions": [], "annotations": [], "vocabulary": synthetic_vocabulary()}
    exec(compile(code.replace("rtsp://camera/stream", "clip.mp4"), document.name, "exec"), names)


def _some_pairs() -> Any:
    from hoiclip_engine import Engine

    with Engine.load("drawn") as engine:
        return engine.detect(np.full((192, 256, 3), 120, np.uint8))


def test_recipe_of_the_own_vocabulary_fits_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (document,) = (path for path in documents() if path.name == "own_vocabulary.md")
    monkeypatch.chdir(prepare(tmp_path, document))
    assert main(["vocab", "new", "depot.txt", "-o", "depot.json"]) == 0
    (recipe,) = blocks(document.read_text(encoding="utf-8"), "toml")
    Path("depot.toml").write_text(recipe, encoding="utf-8")
    vocabulary = vocabulary_of(read_recipe(Path("depot.toml")))
    assert (vocabulary.name, len(vocabulary.hois), vocabulary.person) == ("depot", 4, 0)
