"""A model that computes no numbers is an error, not a film in which nothing happens."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip.errors import ModelError
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.gate import Comparison, verdict
from hoiclip_engine.raw_output import RawOutput
from tests.engine.saying import Cli
from tests.engine.untrained import edited_model

NUMBERS = {"NaN": float("nan"), "infinite": float("inf"), "minus infinite": float("-inf")}


@pytest.fixture(params=NUMBERS)
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model file whose weights are all the same, and no number."""
    filling = struct.pack("<f", NUMBERS[request.param])
    return edited_model(tmp_path / "broken.safetensors", lambda metadata: None, filling)


def test_commands_refuse_it(broken: Path, clip: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "data.json").write_text("[]")
    for argv in (
        ("run", clip, "--model", broken, "--backend", "torch", "--jsonl", tmp_path / "out.jsonl"),
        ("export", broken, "-o", tmp_path / "out"),
        ("models", "verify", broken),
    ):
        said = cli(*argv)
        assert said.is_one_error(4), argv
        assert "not finite" in said.err
    assert not (tmp_path / "out.jsonl").exists()
    assert not list(tmp_path.glob("out/*"))


def test_engines_and_their_files_refuse_it(broken: Path) -> None:
    with Engine.load(broken, EngineConfig(backend="torch")) as engine, pytest.raises(ModelError, match="not finite"):
        engine.detect(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(ModelError, match="not finite"):
        load_model_file(broken).rows("hoi_rows")


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize(
    "name", ["hoi_logits", "object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh", "clip_cls"]
)
def test_a_single_result_that_is_no_number_is_an_error(name: str, number: float) -> None:
    """Whatever computed it: a graph of the cache, an engine in fewer bits."""
    shapes = {"hoi_logits": (2, 4, 5), "object_logits": (2, 4, 3), "clip_cls": (2, 6)}
    raw = RawOutput(**{key: np.zeros(shapes.get(key, (2, 4, 4)), np.float32) for key in RawOutput.__dataclass_fields__})
    assert raw.require_finite() is raw
    getattr(raw, name)[1].flat[-1] = number
    with pytest.raises(ModelError, match=name):
        raw.require_finite()


def test_a_build_that_is_no_numbers_fails_the_gate() -> None:
    compared = Comparison(
        pictures=1, max_abs_error={"hoi_logits": float("nan")}, mean_abs_error={"hoi_logits": 0.0}, agreement=1.0
    )
    assert not compared.is_finite
    assert "no numbers" in verdict("fp16", compared).failed_by


@pytest.mark.parametrize("field", ["config", "provenance", "vocabulary"])
def test_a_header_with_numbers_that_are_none_is_damaged(field: str, tmp_path: Path, cli: Cli) -> None:
    def edit(metadata: dict[str, str]) -> None:
        metadata[field] = metadata[field].replace("{", '{"extra": NaN, ', 1)

    said = cli("models", "info", edited_model(tmp_path / "m.safetensors", edit), "--json")
    assert said.is_one_error(4)
    assert "NaN is no number" in said.err
