"""Hits of rules on their way: from a stream into JSON lines, event lines, the webhook, images and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoiclip.core.errors import UsageError
from hoiclip_engine import Rule, RuleSet
from hoiclip_engine.cli.run_sources import summary_table
from hoiclip_engine.events.outbox import Outbox
from hoiclip_engine.events.schedule import read_schedule
from hoiclip_engine.sinks.annotate import HOLDING_COLOR, SHAPE_COLOR, Annotator, FramePainter
from hoiclip_engine.sinks.jsonl_sink import JsonlSink, rule_hit_fields
from hoiclip_engine.sinks.text_sinks import EventLines
from hoiclip_engine.sinks.webhook import Webhook
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.rule_hits import RuleShape
from tests.engine.command_output import Cli
from tests.engine.fake_source import FakeSource
from tests.engine.frame_results import VOCABULARY, Row, frame_result, header, rule_hit, summary, tracked
from tests.engine.run_processes import QUICK_BACKEND
from tests.engine.test_jsonl_schema import validator
from tests.engine.test_stream import stream_of
from tests.engine.test_webhook import FAST, receiver
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip

HIT = rule_hit(
    hit=3,
    pair=7,
    human=2,
    object=5,
    pts_s=1.5,
    index=40,
    start_s=1.5,
    score=0.81234,
    peak_score=0.9,
    peak_s=1.52,
    human_box_xyxy=(1, 2, 3, 4),
    object_box_xyxy=(2, 3, 4, 5),
)
NOBODY = replace(
    HIT, event="end", pair=-1, human=-1, object=-1, verb="", label="", human_box_xyxy=None, object_box_xyxy=None
)
FRAME = Frame(np.zeros((48, 64, 3), np.uint8), 1.6, 41)
RESULT = replace(frame_result(FRAME), rule_hits=(HIT, replace(HIT, event="update")))
SUMMARY = replace(summary(), closing_hits=(NOBODY,), hits=1)
ALWAYS = RuleSet(rules=(Rule(name="always", update_every_s=0.4),))


# Streams.


@pytest.mark.parametrize("detect_every", [1, 3])
def test_stream_reports_hits_with_their_frames_and_the_open_ones_at_its_end(detect_every: int) -> None:
    stream, _ = stream_of(FakeSource(21), rules=ALWAYS, detect_every=detect_every)
    hits = [(hit.event, result.index, hit.index) for result in stream for hit in result.rule_hits]
    assert hits == [("start", 0, 0), ("update", 10, 10), ("update", 20, 20)]
    (end,) = stream.summary.closing_hits
    assert (end.event, end.hit, end.pts_s) == ("end", 0, 20 / 25)
    assert stream.summary.hits == 1
    assert "1 hits" in list(summary_table("x", stream.summary).columns[1].cells)


def test_hits_hold_the_interpolated_boxes_of_their_frames() -> None:
    stream, _ = stream_of(FakeSource(7), rules=RuleSet(rules=(Rule(name="a", update_every_s=0.001),)), detect_every=3)
    for result in stream:
        (hit,) = result.rule_hits
        assert hit.human_box_xyxy == tuple(result.pairs.human_boxes_xyxy[0].tolist())


def test_stream_without_rules_has_no_hits() -> None:
    stream, _ = stream_of(FakeSource(3))
    assert [result.rule_hits for result in stream] == [()] * 3
    assert stream.summary.hits is None
    assert "rules" not in stream.summary.stage_ms


def test_rules_replaced_during_a_stream_count_from_the_next_frame() -> None:
    stream, _ = stream_of(FakeSource(6))
    found = []
    for result in stream:
        found.append([(hit.event, hit.rule) for hit in result.rule_hits])
        if result.index == 1:
            stream.replace_rules(ALWAYS)
        if result.index == 3:
            stream.replace_rules(RuleSet())
    assert found == [[], [], [("start", "always")], [], [("end", "always")], []]
    with pytest.raises(UsageError, match="rule 1 'a', verbs"):
        stream.replace_rules(RuleSet(rules=(Rule(name="a", verbs=("fly",)),)))


def test_live_stream_reports_hits_and_ends_them_when_its_source_is_lost() -> None:
    lost = SourceEvent(event="source_lost", pts_s=0.0, reason="gone")
    stream, _ = stream_of(FakeSource(6, period_s=0.05, events={3: lost}), rules=ALWAYS)
    events = [hit.event for result in stream for hit in result.rule_hits]
    assert events == ["start", "end", "start"]


@pytest.mark.parametrize(("clock", "expected"), [(8, 1), (9, 0), (None, 1)])
def test_schedule_of_a_file_goes_by_the_given_clock(clock: int | None, expected: int) -> None:
    rule = Rule(name="a", schedule=read_schedule({"hours": ["08:00-09:00"], "timezone": "UTC"}))
    start = None if clock is None else datetime(2026, 1, 31, clock, tzinfo=timezone.utc)
    stream, _ = stream_of(FakeSource(3), rules=RuleSet(rules=(rule,)), clock=start)
    assert sum(len(result.rule_hits) for result in stream) == expected
    assert any("--clock" in note for note in stream.summary.notes) is (clock is None)


def test_live_source_goes_by_the_time_that_it_is() -> None:
    now = datetime.now(timezone.utc)
    today = read_schedule(
        {"days": [("mon", "tue", "wed", "thu", "fri", "sat", "sun")[now.weekday()]], "timezone": "UTC"}
    )
    other = replace(today, days=tuple(day for day in range(7) if abs(day - now.weekday()) % 7 in (3, 4)))
    rules = RuleSet(rules=(Rule(name="today", schedule=today), Rule(name="other", schedule=other)))
    stream, _ = stream_of(FakeSource(2, period_s=0.01), rules=rules)
    assert {hit.rule for result in stream for hit in result.rule_hits} == {"today"}


def test_stream_of_wrong_words_is_refused_before_it_starts() -> None:
    with pytest.raises(UsageError, match="fly"):
        stream_of(FakeSource(3), rules=RuleSet(rules=(Rule(name="a", verbs=("fly",)),)))


# Sinks.


def test_json_lines_of_hits_follow_their_frame_and_come_before_the_summary(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    sink = JsonlSink(path)
    sink.start(header())
    sink.write(RESULT)
    sink.finish(SUMMARY)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["type"] for line in lines] == ["header", "frame", "rule", "rule", "rule", "summary"]
    assert lines[2] == {"type": "rule", **rule_hit_fields(HIT)}
    assert (lines[2]["rule"], lines[2]["hit"], lines[2]["score"]) == ("rides here", 3, 0.8123)
    assert {lines[4][key] for key in ("pair", "human", "object", "verb", "label", "human_box_xyxy")} == {None}
    assert lines[5]["hits"] == 1
    for line in lines[1:5]:
        validator().validate(line)
    assert not validator().is_valid({key: value for key, value in lines[2].items() if key != "hit"})


def test_event_lines_name_rule_and_pair_and_leave_updates_out(capsys: pytest.CaptureFixture[str]) -> None:
    sink = EventLines()
    sink.start(header())
    sink.write(RESULT)
    sink.finish(SUMMARY)
    assert capsys.readouterr().out.splitlines() == [
        "    1.500 s  start  rides here: person 2 ride bicycle 5  (hit 3, pair 7)",
        "    1.500 s  end    rides here  (hit 3)",
    ]


def test_webhook_posts_hits_as_further_kinds_of_events() -> None:
    with receiver() as (host, received):
        sink = Outbox([Webhook(f"http://{host}/", config=FAST)]).sink()
        sink.start(header())
        sink.write(RESULT)
        sink.finish(SUMMARY)
    assert [event["event"] for event in received.events] == ["rule_start", "rule_update", "rule_end"]
    assert {event["rule"] for event in received.events} == {"rides here"}


def pixels(rgb: Any, color: tuple[int, int, int]) -> int:
    return int((np.abs(rgb.astype(int) - color) < 16).all(axis=2).sum())


@pytest.mark.parametrize(("direction", "count"), [("", 4), ("any", 1)])
def test_zones_and_lines_are_drawn_and_stand_out_while_they_hold(direction: Any, count: int) -> None:
    frame = Frame(np.zeros((240, 320, 3), np.uint8), 0.0, 0)
    corners = ((100, 50), (200, 50), (200, 150), (100, 150))[: 2 if direction else 4]
    shape = RuleShape(rule="here", points_xy=corners, direction=direction)
    idle = Annotator(VOCABULARY).draw(frame, tracked(), [shape])
    holding = Annotator(VOCABULARY).draw(frame, tracked(), [replace(shape, holds=True)])
    assert pixels(idle, SHAPE_COLOR) >= 60 * count
    assert not pixels(idle, HOLDING_COLOR)
    assert pixels(holding, HOLDING_COLOR) > 1.5 * pixels(idle, SHAPE_COLOR)


def test_shapes_of_a_frame_of_another_size_are_fitted_into_the_video() -> None:
    shape = RuleShape(rule="a", points_xy=((0, 0), (100, 0), (100, 100), (0, 100)))
    result = replace(frame_result(Frame(np.zeros((100, 100, 3), np.uint8), 0.0, 0)), rule_shapes=(shape,))
    image = FramePainter(header(size_px=(400, 200))).paint(result)
    columns = np.flatnonzero((np.abs(image[190].astype(int) - SHAPE_COLOR) < 16).all(axis=1))
    assert columns.min() == pytest.approx(100, abs=2)
    assert columns.max() == pytest.approx(300, abs=2)


def test_annotator_draws_shapes_wherever_they_are() -> None:
    frame = Frame(np.zeros((48, 64, 3), np.uint8), 0.0, 0)
    for corners in (((0, 0), (64, 0), (64, 48)), ((63, 47), (64, 48), (0, 48))):
        shape = RuleShape(rule="a name that is longer than the frame is wide", points_xy=corners, direction="up")
        assert Annotator(VOCABULARY).draw(frame, tracked(Row()), [shape]).any()


# The command line.

RULES = (
    '[[rule]]\nname = "everyone"\nupdate_every_s = 0.2\n[[rule]]\nname = "nobody"\nabsent = true\nabsent_for_s = 0.3\n'
)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", list(range(0, 600, 50)))


@pytest.mark.thorough
def test_run_with_rules_writes_their_hits_everywhere(cli: Cli, clip: Path, tmp_path: Path) -> None:
    rules, lines = tmp_path / "rules.toml", tmp_path / "run.jsonl"
    rules.write_text(RULES)
    model = ("--model", untrained_model(), "--backend", QUICK_BACKEND)
    output = cli("run", clip, "--rules", rules, *model, "--jsonl", lines, "-o", tmp_path / "out.mp4")
    assert output.code == 0, output.err
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    hits = [line for line in written if line["type"] == "rule"]
    starts, ends = ([hit["hit"] for hit in hits if hit["event"] == event] for event in ("start", "end"))
    assert starts
    assert sorted(starts) == sorted(ends)
    assert f"{len(starts)} hits" in output.err
    assert written[-1]["hits"] == len(starts)
    check = validator()
    for line in written:
        check.validate(line)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[rule]]\nname = "a"\nverbs = ["fly a"]\n', "found 'fly a'"),
        ("[[rule]]\n", "rule 1, name"),
        (None, "cannot read"),
    ],
)
def test_run_with_wrong_rules_is_one_line(
    cli: Cli, text: str | None, expected: str, clip: Path, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    if text is not None:
        rules.write_text(text)
    output = cli("run", clip, "--rules", rules)
    assert output.is_one_error(2)
    assert expected in output.err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--clock", "2026-01-31T08:00"), "--clock is for schedules"),
        (("--rules", "r", "--clock", "noon"), "expected a time such as"),
    ],
)
def test_clock_that_makes_no_sense_is_one_line(cli: Cli, options: tuple[str, ...], expected: str, clip: Path) -> None:
    output = cli("run", clip, *options)
    assert output.is_one_error(2)
    assert expected in output.err


def test_results_never_go_over_the_rules(cli: Cli, clip: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    assert cli("run", clip, "--rules", rules, "--jsonl", rules).is_one_error(2)
    assert rules.read_text() == RULES
