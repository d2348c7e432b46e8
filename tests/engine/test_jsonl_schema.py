"""JSON lines of real runs against the JSON Schema of hoiclip/1 that the package holds."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from hoiclip_engine.cli.main import main
from hoiclip_engine.sinks.jsonl_sink import SCHEMA

pytestmark = pytest.mark.thorough

SCHEMA_FILE = "hoiclip-1.schema.json"


def validator() -> Any:
    text = files("hoiclip_engine.sinks").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of a synthetic video's ground truth, and of a run on it."""
    folder = tmp_path_factory.mktemp("schema")
    draw = ["data", "draw", "--out", str(folder), "--video", "1", "--set", "test", "--duration", "4"]
    assert main(draw) == 0
    (video,) = folder.glob("*.mp4")
    run = ["run", str(video), "--jsonl", str(folder / "run.jsonl"), "--backend", "openvino", "--precision", "fp32"]
    assert main([*run, "--policy", "lossless"]) == 0
    text = video.with_suffix(".jsonl").read_text() + (folder / "run.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_schema_is_valid_and_names_itself() -> None:
    check = validator()
    check.check_schema(check.schema)
    assert check.schema["$id"] == SCHEMA


def test_every_line_of_a_run_is_valid(lines: list[dict[str, Any]]) -> None:
    assert {line["type"] for line in lines} == {"header", "frame", "event", "summary"}
    assert any(line.get("event") == "end" for line in lines)
    for line in lines:
        validator().validate(line)


@pytest.mark.parametrize("field", ["pair", "human", "object_box_xyxy", "verbs"])
def test_line_without_a_field_is_refused(lines: list[dict[str, Any]], field: str) -> None:
    frame = next(line for line in lines if line["type"] == "frame" and line["pairs"])
    lacking = {**frame, "pairs": [{name: value for name, value in frame["pairs"][0].items() if name != field}]}
    assert not validator().is_valid(lacking)


def test_new_fields_are_allowed(lines: list[dict[str, Any]]) -> None:
    assert all(validator().is_valid({**line, "new": 1}) for line in lines)
