"""The compiled model comes out of the cache, unless it must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip_engine.backends.openvino_backend import load
from hoiclip_engine.export import OUTPUTS
from hoiclip_engine.preprocess import PreprocessConfig, preprocess
from tests.engine.untrained import untrained_model

CANVAS = (128, 160)


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty engine cache beside the graphs of other tests."""
    from hoiclip_engine import signed_folder

    shared = signed_folder.cache_folder
    monkeypatch.setattr(signed_folder, "cache_folder", lambda kind: tmp_path if kind == "engines" else shared(kind))
    return tmp_path


def test_a_second_start_compiles_nothing_and_says_the_same(entries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model_file(untrained_model())
    rgb = np.random.default_rng(0).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    config = PreprocessConfig(short_side_px=100, max_side_px=160, clip_side_px=64, canvas_hw=CANVAS)
    picture = preprocess(rgb, config)
    first = load(model, CANVAS, "fp32", None)(picture)
    assert len([path for path in entries.iterdir() if path.is_dir()]) == 1

    def compile_model(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    second = load(model, CANVAS, "fp32", None)(picture)
    for name in OUTPUTS:
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))


def test_an_engine_openvino_does_not_take_is_compiled_again(
    entries: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model_file(untrained_model())
    load(model, CANVAS, "fp32", None)

    def import_model(*_: object) -> None:
        raise RuntimeError("made for another machine")

    monkeypatch.setattr(openvino.Core, "import_model", import_model)
    load(model, CANVAS, "fp32", None)
    assert "compiled again: made for another machine" in caplog.text
