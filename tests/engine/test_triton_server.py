"""A repository in a real Triton Inference Server: tritonclient gets the triplets of Engine.detect.

The server of nvidia-pytriton has no ONNX Runtime backend, so the graph runs in the Python backend; configurations of
the other two are held against the schema alone (test_triton_repository.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hoiclip.core.detections import HOIDetections
from hoiclip.synthetic.fixed_sets import fixed_set
from hoiclip.synthetic.world import SyntheticWorld
from hoiclip_engine.cli.main import main
from hoiclip_engine.engine import Engine, EngineConfig
from tests.engine.test_triton_repository import encoded, image
from tests.engine.triton_server import Server, installed_home
from tests.engine.untrained import untrained_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two models in one repository: the bundled one, image by image, and a small one of any batch."""
    room = tmp_path_factory.mktemp("triton")
    home = installed_home(room)
    words = ["--triton-repo", str(room / "models"), "--triton-backend", "python"]
    assert main(["export", "drawn", *words]) == 0
    assert main(["export", str(untrained_model()), *words, "--batch", "dynamic"]) == 0
    with Server(home, room / "models", room) as server:
        yield server


@pytest.fixture(scope="module")
def drawn() -> Iterator[Engine]:
    with Engine.load("drawn", EngineConfig(backend="onnxruntime")) as engine:
        yield engine


def assert_same(found: Any, expected: HOIDetections, atol: float = 0) -> None:
    assert isinstance(found, dict), found
    assert len(expected)
    for field in fields(expected):
        np.testing.assert_allclose(found[field.name], getattr(expected, field.name), rtol=0, atol=atol)


def test_server_finds_the_triplets_of_the_engine(server: Server, drawn: Engine, tmp_path: Path) -> None:
    world = SyntheticWorld(fixed_set("test").world)
    images = [world.image(index).rgb for index in range(4)]
    images += [np.ascontiguousarray(np.rot90(images[0])), cv2.resize(images[1], (640, 360)), image(5, 3)]
    raw = server.infer("drawn", [{"image": rgb} for rgb in images], tmp_path / "raw")
    files = server.infer("drawn", [{"encoded": encoded(rgb)} for rgb in images], tmp_path / "encoded")
    for rgb, of_raw, of_file in zip(images, raw, files, strict=True):
        expected = drawn.detect(rgb)
        assert_same(of_raw, expected)
        assert_same(of_file, expected)
        assert list(of_raw["verb_name"]) == [drawn.vocabulary.verb_name(verb) for verb in expected.verb]  # type: ignore[index]


def test_waiting_requests_become_a_batch(server: Server, tmp_path: Path) -> None:
    name = untrained_model().stem
    images = [image(192, 256, seed) for seed in range(24)]
    answers = server.infer(name, [{"image": rgb} for rgb in images], tmp_path / "requests", at_once=12)
    stats = json.loads(server.get(f"models/{name}_graph/stats"))["model_stats"][0]["batch_stats"]
    assert max(entry["batch_size"] for entry in stats) > 1, stats
    with Engine.load(untrained_model(), EngineConfig(backend="onnxruntime")) as engine:
        for rgb, found in zip(images, answers, strict=True):
            expected = engine.detect(rgb)
            # A batch rounds differently, so that nearly equal triplets may change places; scores by rank do not.
            np.testing.assert_allclose(np.sort(found["score"])[-50:], np.sort(expected.score)[-50:], atol=1e-4)  # type: ignore[index]


def test_nonsense_is_one_error_line_and_the_server_keeps_running(server: Server, drawn: Engine, tmp_path: Path) -> None:
    nonsense: list[tuple[dict[str, Any], str]] = [
        (
            {"image": image(64, 64), "encoded": encoded(image(64, 64))},
            "expected one of image and encoded, got both",
        ),
        ({"image": image(64, 64).astype(np.float32)}, "FP32"),
        ({"image": image(64, 64)[..., 0]}, "shape"),
        ({"image": np.zeros((64, 64, 4), np.uint8)}, "shape"),
        ({"encoded": np.arange(200, dtype=np.uint8)}, "expected the bytes of a JPEG, PNG or other image"),
        ({"encoded": encoded(image(64, 64))[:300]}, "found a damaged one"),
        ({"image": np.zeros((9000, 9000, 3), np.uint8)}, "found 9000x9000"),
    ]
    answers = server.infer("drawn", [request for request, _ in nonsense], tmp_path / "nonsense")
    for answer, (_, message) in zip(answers, nonsense, strict=True):
        assert isinstance(answer, str)
        assert message in answer
        assert "\n" not in answer.strip()
    rgb = image(100, 100)
    assert_same(server.infer("drawn", [{"image": rgb}], tmp_path / "after")[0], drawn.detect(rgb))
