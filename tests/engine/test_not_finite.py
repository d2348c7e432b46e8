"""A model that computes no numbers is an error, not a video in which nothing happens."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import load_model_file
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.quantization.accuracy_gate import AccuracyComparison, gate_verdict
from tests.engine.command_output import Cli
from tests.engine.untrained import edited_model

NUMBERS = {"NaN": float("nan"), "infinite": float("inf"), "minus infinite": float("-inf")}


@pytest.fixture(params=NUMBERS)
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model file whose weights are all the same, and no number."""
    filling = struct.pack("<f", NUMBERS[request.param])
    return edited_model(tmp_path / "broken.safetensors", lambda metadata: None, filling)


def test_commands_refuse_a_model_with_nan(broken: Path, clip: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "data.json").write_text("[]")
    for argv in (
        ("run", clip, "--model", broken, "--backend", "torch", "--jsonl", tmp_path / "out.jsonl"),
        ("export", broken, "-o", tmp_path / "out"),
        ("models", "verify", broken),
    ):
        output = cli(*argv)
        assert output.is_one_error(4), argv
        assert "not finite" in output.err
    assert not (tmp_path / "out.jsonl").exists()
    assert not list(tmp_path.glob("out/*"))


def test_engines_and_their_files_refuse_a_model_with_nan(broken: Path) -> None:
    with Engine.load(broken, EngineConfig(backend="torch")) as engine, pytest.raises(ModelError, match="not finite"):
        engine.detect(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(ModelError, match="not finite"):
        load_model_file(broken).tensor("hoi_rows")


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize(
    "name", ["hoi_logits", "object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh", "clip_cls"]
)
def test_single_nan_or_infinite_output_is_an_error(name: str, number: float) -> None:
    """Of a cached graph as of an engine in a lower precision."""
    shapes = {"hoi_logits": (2, 4, 5), "object_logits": (2, 4, 3), "clip_cls": (2, 6)}
    raw = RawOutput(**{key: np.zeros(shapes.get(key, (2, 4, 4)), np.float32) for key in RawOutput.__dataclass_fields__})
    assert raw.require_finite() is raw
    getattr(raw, name)[1].flat[-1] = number
    with pytest.raises(ModelError, match=name):
        raw.require_finite()


def test_build_with_nan_output_fails_the_accuracy_gate() -> None:
    compared = AccuracyComparison(
        num_images=1, max_abs_error={"hoi_logits": float("nan")}, mean_abs_error={"hoi_logits": 0.0}, agreement=1.0
    )
    assert not compared.is_finite
    assert "not finite" in gate_verdict("fp16", compared).failed_by


@pytest.mark.parametrize("field", ["config", "provenance", "vocabulary"])
def test_model_header_with_nan_is_damaged(field: str, tmp_path: Path, cli: Cli) -> None:
    def edit(metadata: dict[str, str]) -> None:
        metadata[field] = metadata[field].replace("{", '{"extra": NaN, ', 1)

    output = cli("models", "info", edited_model(tmp_path / "m.safetensors", edit), "--json")
    assert output.is_one_error(4)
    assert "NaN is no number" in output.err
