"""Compiled models come out of the cache, unless they must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest

from hoiclip.core.model_file import load_model_file
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip_engine.backends.openvino_backend import load
from hoiclip_engine.export.graph_spec import MODEL_OUTPUTS
from tests.engine.untrained import untrained_model

PADDED_HW = (128, 160)


def prepared(height_px: int, width_px: int) -> ModelInput:
    rgb = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    config = PreprocessConfig(short_side_px=128, max_side_px=160, clip_side_px=64, padded_hw=PADDED_HW)
    return preprocess(rgb, config)


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty engine cache, with the graphs of other tests."""
    from hoiclip_engine.cache import signed_store

    shared = signed_store.cache_folder
    monkeypatch.setattr(signed_store, "cache_folder", lambda kind: tmp_path if kind == "engines" else shared(kind))
    return tmp_path


def test_second_start_compiles_nothing_and_gives_the_same_output(
    entries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model_file(untrained_model())
    padded, filling = prepared(100, 160), prepared(128, 160)
    first = [load(model, PADDED_HW, "fp32", None)(image) for image in (padded, filling)]
    assert len([path for path in entries.iterdir() if path.is_dir()]) == 2

    def compile_model(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    again = load(model, PADDED_HW, "fp32", None)
    for image, expected in zip((padded, filling), first, strict=True):
        found = again(image)
        for name in MODEL_OUTPUTS:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_engine_that_openvino_refuses_is_compiled_again(
    entries: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, image = load_model_file(untrained_model()), prepared(100, 160)
    load(model, PADDED_HW, "fp32", None)(image)

    def import_model(*_: object) -> None:
        raise RuntimeError("made for another machine")

    monkeypatch.setattr(openvino.Core, "import_model", import_model)
    load(model, PADDED_HW, "fp32", None)(image)
    assert "compiled again: made for another machine" in caplog.text
