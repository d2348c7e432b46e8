"""JSON lines of schema hoiclip/1: their fields, their order, and that they are always valid JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import SinkError
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import FrameResult
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.frame_results import Row, frame_result, header, summary

FRAME = Frame(np.zeros((48, 64, 3), np.uint8), 1.374699, 41)
START = Event(event="start", pair=7, human=3, object=5, label_index=0, verb_index=0, pts_s=1.2413)
END = Event(event="end", pair=8, human=3, object=-1, label_index=-1, verb_index=1, pts_s=2.5)


def no_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=no_constant) for line in text.splitlines()]


def written(path: Path, *results: FrameResult) -> list[dict[str, Any]]:
    sink = JsonlSink(path)
    sink.start(header())
    for result in results:
        sink.write(result)
    sink.finish(summary(closing_events=(END,)))
    return lines_of(path)


def test_frame_line_has_the_fields_of_the_schema(tmp_path: Path) -> None:
    row = Row(
        pair=7,
        human=3,
        object=5,
        human_box_xyxy=(1.04, 2, 30.06, 40),
        object_box_xyxy=(-3.5, 2, 30, 70),
        score=0.91234567,
        verbs={2: 0.03, 1: 0.05, 0: 0.88, 3: 0.01, 4: 0.2},
        active=(0, 3),
    )
    line = written(tmp_path / "out.jsonl", frame_result(FRAME, row))[1]
    assert line == {
        "type": "frame",
        "index": 41,
        "pts_s": 1.374699,
        "detected": True,
        "pairs": [
            {
                "pair": 7,
                "human": 3,
                "object": 5,
                "human_box_xyxy": [1.0, 2.0, 30.1, 40.0],
                "object_box_xyxy": [-3.5, 2.0, 30.0, 70.0],
                "label": "bicycle",
                "score": 0.9123,
                "verbs": [
                    {"verb": "ride", "score": 0.88, "active": True},
                    {"verb": "catch", "score": 0.2, "active": False},
                    {"verb": "sit_on", "score": 0.05, "active": False},
                    {"verb": "throw", "score": 0.01, "active": True},
                ],
            }
        ],
    }


def test_missing_object_is_null(tmp_path: Path) -> None:
    pair = written(tmp_path / "out.jsonl", frame_result(FRAME, Row(object=-1, label=-1)))[1]["pairs"][0]
    assert pair["object"] is None
    assert pair["object_box_xyxy"] is None
    assert pair["label"] is None


def test_jsonl_lines_are_in_order_of_time(tmp_path: Path) -> None:
    lines = written(tmp_path / "out.jsonl", frame_result(FRAME, events=(START,)), frame_result(FRAME))
    assert [line["type"] for line in lines] == ["header", "frame", "event", "frame", "event", "summary"]
    assert lines[2] == {
        "type": "event",
        "event": "start",
        "pair": 7,
        "human": 3,
        "object": 5,
        "label": "bicycle",
        "verb": "ride",
        "pts_s": 1.2413,
    }
    assert lines[4]["object"] is None


def test_header_and_summary_describe_the_run(tmp_path: Path) -> None:
    lines = written(tmp_path / "out.jsonl")
    assert lines[0]["schema"] == "hoiclip/1"
    assert lines[0]["time_base"] == "1/1000"
    assert lines[0]["vocabulary"]["name"] == "small"
    assert "notice" not in lines[0]
    assert lines[-1]["decoded"] == 2
    assert lines[-1]["interrupted"] is False
    assert lines[-1]["stage_ms"] == {"decode": {"p50": 1.0, "mean": None}}


def test_frame_size_is_written_where_it_differs(tmp_path: Path) -> None:
    other = Frame(np.zeros((50, 60, 3), np.uint8), 2.0, 1)
    lines = written(tmp_path / "out.jsonl", frame_result(FRAME), frame_result(other))
    assert "width_px" not in lines[1]
    assert (lines[2]["width_px"], lines[2]["height_px"]) == (60, 50)


def test_source_loss_and_return_are_written_between_frames(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "out.jsonl")
    sink.start(header())
    sink.write(frame_result(FRAME))
    sink.source_event(SourceEvent(event="source_lost", pts_s=1.374699, reason="connection reset"))
    sink.source_event(SourceEvent(event="source_back", pts_s=3.5, reason="after 2.1 s"))
    sink.finish(dataclasses.replace(summary(), reconnects=1))
    lines = lines_of(tmp_path / "out.jsonl")
    assert lines[2:4] == [
        {"type": "event", "event": "source_lost", "pts_s": 1.374699, "reason": "connection reset"},
        {"type": "event", "event": "source_back", "pts_s": 3.5, "reason": "after 2.1 s"},
    ]
    assert lines[-1]["reconnects"] == 1


@pytest.mark.parametrize("policy", ["lossless", "latest"])
def test_age_and_drops_are_written_where_frames_are_dropped(tmp_path: Path, policy: Any) -> None:
    sink = JsonlSink(tmp_path / "out.jsonl")
    sink.start(dataclasses.replace(header(), policy=policy))
    sink.write(dataclasses.replace(frame_result(FRAME), age_s=0.04321, dropped_before=3))
    sink.finish(summary())
    head, line, _ = lines_of(tmp_path / "out.jsonl")
    assert head["policy"] == policy
    expected = {"dropped_before": 3, "age_ms": 43.2} if policy == "latest" else {}
    assert {key: line[key] for key in ("dropped_before", "age_ms") if key in line} == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(numbers=st.lists(st.floats(width=32), min_size=6, max_size=6))
def test_jsonl_is_valid_json_for_any_numbers(tmp_path_factory: pytest.TempPathFactory, numbers: list[float]) -> None:
    row = Row(human_box_xyxy=numbers[:4], score=numbers[4], verbs={0: numbers[5]})
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    assert len(written(path, frame_result(FRAME, row))) == 4


def test_jsonl_lines_are_flushed_before_the_run_ends(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "out.jsonl")
    sink.start(header())
    sink.write(frame_result(FRAME, Row()))
    assert [line["type"] for line in lines_of(tmp_path / "out.jsonl")] == ["header", "frame"]
    sink.finish(summary())


def test_jsonl_of_the_same_run_is_byte_identical(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", frame_result(FRAME, Row()))
    written(tmp_path / "b.jsonl", frame_result(FRAME, Row()))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_jsonl_dash_is_stdout_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    sink = JsonlSink("-")
    sink.start(header())
    sink.finish(summary())
    shown = capsys.readouterr()
    assert [json.loads(line)["type"] for line in shown.out.splitlines()] == ["header", "summary"]
    assert shown.err == ""


def test_jsonl_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file"):
        JsonlSink(tmp_path / "none" / "out.jsonl").start(header())


def test_jsonl_full_disk_is_reported() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(SinkError, match="No space left"):
        JsonlSink("/dev/full").start(header())


def test_jsonl_closed_pipe_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        sink = JsonlSink("-")
        with pytest.raises(SinkError, match="reader"):
            sink.start(header())
        sink.finish(summary())
