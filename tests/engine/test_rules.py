"""Rules: what their files say, and that every wrong one is a single line with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import UsageError
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip_engine import Rule, RuleSet, read_rules
from hoiclip_engine.events.rules import _READERS, parse_rules
from hoiclip_engine.events.schedule import WeeklySchedule, read_schedule
from tests.engine.command_output import Cli
from tests.engine.frame_results import VOCABULARY

QUICK = settings(max_examples=150, deadline=None, derandomize=True)
SQUARE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
SMALLEST = """
[[rule]]
name = "rides here"
verbs = ["ride"]
zone = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]      # relative x, y
min_duration_s = 0.5
"""
LINE = [[0.5, 0.0], [0.5, 1.0]]


def one(**keys: Any) -> Rule:
    (rule,) = parse_rules({"rule": [{"name": "a", **keys}]}, "r.toml")
    return rule


def refusal(**keys: Any) -> str:
    with pytest.raises(UsageError) as raised:
        one(**keys)
    message = str(raised.value)
    assert message.isprintable()
    return message


def test_smallest_rule_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(SMALLEST)
    (rule,) = read_rules(path, VOCABULARY)
    assert (rule.name, rule.verbs, rule.min_duration_s, rule.zone[1]) == ("rides here", ("ride",), 0.5, (1.0, 0.5))


def test_reader_knows_every_key_of_a_rule() -> None:
    assert set(_READERS) == {field.name for field in fields(Rule)}


def test_closed_polygon_loses_its_last_corner() -> None:
    assert one(zone=[*SQUARE, SQUARE[0]]) == one(zone=SQUARE)


def test_words_have_spaces_or_underscores_and_any_case() -> None:
    for words in (["sit on"], ["sit_on"], ["Sit  On"]):
        parse_rules({"rule": [{"name": "a", "verbs": words}]}, "r", VOCABULARY)


def test_acting_without_an_object_can_be_asked_of_a_vocabulary_that_has_it() -> None:
    rule = one(objects=["no object"], verbs=["walk"])
    rule.check_words(load_vocabulary("vcoco"))
    with pytest.raises(ValueError, match="no object"):
        rule.check_words(load_vocabulary("hico"))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"zoen": SQUARE}, "found 'zoen'; did you mean \"zone\"?"),
        ({"zone": [[0, 0], [1, 1], [1, 0], [0, 1]]}, "zone: expected edges that do not cross"),
        ({"zone": [[0, 0], [1, 0], [0.5, 0]]}, "zone: expected edges that do not cross"),
        ({"zone": [[0, 0], [0.5, 0.5], [1, 1]]}, "zone: expected edges that do not cross"),
        ({"zone": [[0, 0], [0.001, 0], [0.001, 0.001]]}, "zone: expected a polygon with an area"),
        ({"zone": [[0, 0], [1, 0]]}, "zone: expected at least 3 corners, found 2"),
        ({"zone": [[0, 0], [1, 0], [1, 1], [1, 0]]}, "zone: expected corners at different points"),
        ({"zone": [[0, 0], [640, 0], [640, 480]]}, 'for pixels add unit = "px"'),
        ({"zone": [[0, 0], [1, 0], [1, "1"]]}, "zone: expected a number from 0 to"),
        ({"zone": [[0, 0], [1, 0], [1]]}, "zone: expected points [x, y]"),
        ({"zone": []}, "leave zone out for the whole frame"),
        ({"line": [[0, 0], [1, 1], [0, 1]]}, "line: expected 2 points, found 3"),
        ({"line": [[0.5, 0.5], [0.5, 0.5]]}, "line: expected two points apart"),
        ({"line": LINE, "direction": "up"}, "direction: this line is crossed to the left or right"),
        ({"line": LINE, "direction": "left_to_right"}, "direction: expected one of any, left, right, up, down"),
        ({"line": LINE, "min_duration_s": 1}, "min_duration_s: a line is crossed in a moment"),
        ({"direction": "up"}, "direction: expected a line"),
        ({"unit": "px"}, "unit: counts for a zone or line"),
        ({"point": "object"}, "point: counts for a zone or line"),
        ({"point": "object", "zone": SQUARE, "objects": ["no object"]}, "a person without an object has no object"),
        ({"min_duration_s": -1}, "min_duration_s: expected a number from 0"),
        ({"min_duration_s": True}, "found True"),
        ({"min_score": float("nan")}, "min_score: expected a number from 0 to 1, found nan"),
        ({"verbs": "ride"}, "verbs: expected a list of at most 1000 words, found 'ride'"),
        ({"verbs": [""]}, "verbs: expected a printable text"),
        ({"absent": True}, "absent_for_s: expected the seconds of absence"),
        ({"absent": True, "absent_for_s": 1, "line": LINE}, "line: an absent rule has no pair"),
        ({"absent": True, "absent_for_s": 1, "min_duration_s": 1}, "min_duration_s: an absent rule has absent_for_s"),
        ({"absent_for_s": 1}, "absent_for_s: is for absent rules"),
        ({"while_present": True}, "while_present: is for absent rules"),
        ({"absent": 1}, "absent: expected true or false, found 1"),
        ({"schedule": {}}, "schedule: expected days or hours, found neither"),
        ({"schedule": "always"}, "schedule: expected days and hours"),
        ({"schedule": {"days": ["someday"]}}, "schedule: expected days such as mon or mon-fri, found 'someday'"),
        ({"schedule": {"hours": ["8-17"]}}, "schedule: expected hours such as 08:00-17:30"),
        ({"schedule": {"hours": ["08:00-08:00"]}}, "the whole day is 00:00-24:00"),
        ({"schedule": {"days": ["mon"], "timezone": "Mars/Olympus"}}, "found 'Mars/Olympus'"),
        ({"name": "a\nb"}, "name: expected a printable text"),
        ({"name": 3}, "name: expected a printable text"),
    ],
)
def test_wrong_key_is_one_line_with_place_and_reason(keys: dict[str, Any], expected: str) -> None:
    message = refusal(**keys)
    assert message.startswith("r.toml, rule 1")
    assert expected in message


def test_rule_of_python_is_checked_as_one_of_a_file() -> None:
    with pytest.raises(ValueError, match="for pixels add unit"):
        Rule(name="a", zone=((0, 0), (5, 0), (5, 5)))
    with pytest.raises(ValueError, match="two rules"):
        RuleSet(rules=(Rule(name="a"), Rule(name="a")))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "r, expected"),
        ({"rule": []}, ""),
        ({"rules": []}, "r: expected rules alone, found the key 'rules'"),
        ({"rule": [{"name": "a"}, {"name": "a"}]}, "r, rule 2 'a', name: 'a' is the name of two rules"),
        ({"rule": [{"verbs": ["ride"]}]}, "r, rule 1, name: expected a name"),
        ({"rule": [{"name": "a"}] * 201}, "r: expected a list of at most 200 rules, found 201"),
        (
            {"rule": [{"name": "a", "verbs": ["rid"]}]},
            "verbs: expected a verb of the vocabulary small, found 'rid'; did",
        ),
        ({"rule": [{"name": "a", "objects": ["bycicle"]}]}, 'did you mean "bicycle"?'),
        (
            {"rule": [{"name": "a", "verbs": ["throw"], "objects": ["bicycle"]}]},
            "verbs: expected one that the vocabulary",
        ),
    ],
)
def test_whole_files_are_refused_with_one_line(data: Any, expected: str) -> None:
    try:
        parse_rules(data, "r", VOCABULARY)
    except UsageError as error:
        message = str(error)
        assert expected.replace("r, expected", "r: expected a list") in message
        assert message.isprintable()
    else:
        assert not expected


def test_verb_that_is_never_active_is_refused() -> None:
    with pytest.raises(ValueError, match="no_interaction is never active"):
        one(verbs=["no interaction"]).check_words(load_vocabulary("hico"))


@pytest.mark.parametrize("content", ["[[rule", "a = 1 2", "\x00", "a = " + "[" * 10_000, "x = 1\nx = 2"])
def test_file_that_is_no_toml_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"r\.toml: expected TOML") as raised:
        read_rules(path)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")])
def test_file_that_cannot_be_read_is_one_line(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "r.toml")
    with pytest.raises(UsageError, match=r"r\.toml"):
        read_rules(tmp_path / "r.toml")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
COORDINATES = st.lists(st.lists(st.floats(-0.5, 1.5) | st.integers(0, 1), min_size=2, max_size=2), max_size=7)
SCHEDULES = st.fixed_dictionaries(
    {},
    optional={
        "days": st.lists(st.sampled_from(["mon", "sat-mon", "sunday", "x", "mon-"]), max_size=3) | JSON,
        "hours": st.lists(st.sampled_from(["22:00-06:00", "00:00-24:00", "24:00-25:00"]), max_size=3) | JSON,
        "timezone": st.sampled_from(["UTC", "Europe/Berlin", "America", "../x", "\x00"]) | JSON,
    },
)
LIKELY = {
    "name": st.text(max_size=8),
    "verbs": st.lists(st.sampled_from(["ride", "sit on", "fly"]), max_size=3),
    "objects": st.lists(st.sampled_from(["bicycle", "no object", "sports_ball"]), max_size=3),
    "zone": COORDINATES,
    "line": COORDINATES,
    "direction": st.sampled_from(["any", "left", "up", "sideways"]),
    "unit": st.sampled_from(["relative", "px"]),
    "point": st.sampled_from(["human", "object", "contact"]),
    "schedule": SCHEDULES,
    "absent": st.booleans(),
    "while_present": st.booleans(),
    **dict.fromkeys(("min_score", "min_duration_s", "grace_s", "absent_for_s", "cool_down_s"), st.floats(0, 5)),
}
TABLES = st.fixed_dictionaries({}, optional={key: likely | JSON for key, likely in LIKELY.items()})


def read_or_refused(read: Callable[[], RuleSet]) -> tuple[RuleSet | None, str]:
    """The rules, or the message of why not."""
    try:
        return read(), ""
    except UsageError as error:
        return None, str(error)


@QUICK
@given(JSON | st.fixed_dictionaries({"rule": st.lists(TABLES | JSON, max_size=4)}))
def test_parser_accepts_or_refuses_any_input_with_one_line(data: Any) -> None:
    rules, message = read_or_refused(lambda: parse_rules(data, "r", VOCABULARY))
    assert message.isprintable()
    if rules is not None:
        assert parse_rules(json.loads(json.dumps(rules.as_dict())), "r", VOCABULARY) == rules


@QUICK
@given(st.fixed_dictionaries({**LIKELY, "name": st.just("a")}) | TABLES)
def test_rules_come_back_from_what_they_are_written_as(table: dict[str, Any]) -> None:
    try:
        rules = parse_rules({"rule": [table]}, "r")
    except UsageError:
        return
    assert parse_rules(rules.as_dict(), "r") == rules


@QUICK
@given(st.text(max_size=200))
def test_reader_accepts_or_refuses_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert read_or_refused(lambda: read_rules(path))[1].isprintable()


# Schedules.


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-01-30T21:59", False),  # a Friday
        ("2026-01-30T22:00", True),
        ("2026-01-31T05:59", True),  # of Friday's span
        ("2026-01-31T06:00", False),
        ("2026-01-31T23:00", False),
        ("2026-01-30T05:00", False),  # of Thursday's span, which is none
    ],
)
def test_span_over_midnight_belongs_to_the_day_it_begins_on(time: str, expected: bool) -> None:
    schedule = read_schedule({"days": ["fri"], "hours": ["22:00-06:00"], "timezone": "UTC"})
    assert schedule.includes(at(time)) is expected


def test_schedule_goes_by_its_own_time_zone_through_summer_time() -> None:
    schedule = read_schedule({"hours": ["08:00-09:00"], "timezone": "Europe/Berlin"})
    assert schedule.includes(at("2026-01-31T07:30"))
    assert schedule.includes(at("2026-07-31T06:30"))
    assert not schedule.includes(at("2026-07-31T07:30"))


def test_span_of_days_may_lead_over_sunday() -> None:
    assert read_schedule({"days": ["sat-mon", "Wednesday"]}).days == (0, 2, 5, 6)


def test_schedule_comes_back_from_what_it_is_written_as() -> None:
    schedule = WeeklySchedule(days=(0, 4), hours=((0, 1440), (1320, 360)), timezone="UTC")
    assert read_schedule(schedule.as_dict()) == schedule


# The command.


def test_check_shows_rules_as_they_are_understood(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(SMALLEST)
    output = cli("rules", "check", path, "--model", "drawn")
    assert output.code == 0
    assert "rides here" in output.out
    assert {"ride:", "any", "human", "point"} <= set(output.out.split())
    output = cli("rules", "check", path, "--json")
    assert parse_rules(json.loads(output.out), "json") == read_rules(path)


@pytest.mark.parametrize(
    ("text", "model"),
    [(SMALLEST.replace("zone", "zoen"), ()), (SMALLEST.replace('"ride"', '"rid"'), ("--model", "drawn"))],
)
def test_check_refuses_a_wrong_file_with_one_line(cli: Cli, text: str, model: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    output = cli("rules", "check", path, *model)
    assert output.is_one_error(2)
    assert "rules.toml, rule 1 'rides here'" in output.err
    assert "did you mean" in output.err
