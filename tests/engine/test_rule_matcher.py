"""Hits of rules: when they start, are updated and end, on pairs made by hand and at random."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import UsageError
from hoiclip_engine import Rule, RuleHit, RuleSet
from hoiclip_engine.events.rule_matcher import RuleMatcher
from hoiclip_engine.events.rules import Point
from hoiclip_engine.events.schedule import read_schedule
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult
from tests.engine.frame_results import VERBS, VOCABULARY, Row, tracked

FPS = 25
RIGHT_HALF = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
ANYWHERE = Rule(name="rides", verbs=("ride",))
IN_ZONE = Rule(name="rides here", verbs=("ride",), zone=RIGHT_HALF)
OVER_LINE = Rule(name="over", line=((0.5, 0.0), (0.5, 1.0)))
ABSENT = Rule(name="nobody rides", verbs=("ride",), absent=True, absent_for_s=1.0)

Rows = Sequence[Row]


def frame_of(index: int, rows: Rows, *, size_px: tuple[int, int] = (100, 100), detected: bool = True) -> FrameResult:
    rgb = np.broadcast_to(np.uint8(0), (size_px[1], size_px[0], 3))
    frame = Frame(rgb, index / FPS, index)
    return FrameResult(frame=frame, detected=detected, pairs=tracked(*rows), events=())


def hits_of(frames: Iterable[Rows | FrameResult], *rules: Rule, clock: Any = None) -> list[RuleHit]:
    """All hits of a stream, to its end."""
    matcher = RuleMatcher(RuleSet(rules=rules), VOCABULARY, clock)
    found: list[RuleHit] = []
    for index, frame in enumerate(frames):
        found += matcher.update(frame if isinstance(frame, FrameResult) else frame_of(index, frame))
    return found + list(matcher.finish())


def at(x: float, *, y2: float = 80, **fields: Any) -> Row:
    """A person whose foot point is at x, y2 of 100 × 100, riding."""
    return Row(human_box_xyxy=(x - 5, y2 - 60, x + 5, y2), object_box_xyxy=(x - 8, y2 - 20, x + 8, y2), **fields)


def moments(hits: Iterable[RuleHit]) -> list[tuple[str, int, float]]:
    return [(hit.event, hit.hit, round(hit.pts_s * FPS, 3)) for hit in hits]


def test_hit_starts_is_updated_and_ends() -> None:
    frames = [[], *[[at(50, verbs={0: score})] for score in (0.5, *[0.9] * 29, 0.6)], *[[]] * 20]
    start, update, end = hits_of(frames, ANYWHERE)
    assert moments([start, update, end]) == [("start", 0, 1), ("update", 0, 26), ("end", 0, 31)]
    assert (start.rule, start.verb, start.label, start.pair, start.human, start.object) == (
        *("rides", "ride", "bicycle"),
        *(1, 1, 2),
    )
    assert (start.index, update.index) == (1, 26)
    assert (end.score, end.peak_score, end.peak_s) == (pytest.approx(0.6), pytest.approx(0.9), 2 / FPS)
    assert end.human_box_xyxy == (45, 20, 55, 80)
    assert {hit.start_s for hit in (start, update, end)} == {1 / FPS}


def test_end_is_reported_once_the_grace_is_over() -> None:
    frames = [[at(50)], *[[]] * 20]
    assert hits_of(frames, ANYWHERE)[-1].index == 13  # 0.52 s later


def test_open_hit_ends_with_the_stream_when_it_held_last() -> None:
    assert moments(hits_of([[at(50)]] * 5 + [[]] * 3, ANYWHERE)) == [("start", 0, 0), ("end", 0, 4)]


@pytest.mark.parametrize("frames", [12, 13])
def test_start_waits_for_the_minimum_duration(frames: int) -> None:
    rule = Rule(name="a", min_duration_s=0.48)
    hits = hits_of([[at(50)]] * frames + [[]] * 20, rule)
    assert moments(hits) == ([] if frames == 12 else [("start", 0, 0), ("end", 0, 12)])
    if hits:
        assert hits[0].index == 12


def test_zone_counts_by_the_foot_point_and_includes_its_border() -> None:
    assert moments(hits_of([[at(49)], [at(50)], [at(70)], *[[at(20)]] * 20], IN_ZONE))[0] == ("start", 0, 1)


def test_person_cut_off_by_the_frames_edge_is_in_a_zone_that_reaches_it() -> None:
    assert hits_of([[at(70, y2=130)]], IN_ZONE)


@pytest.mark.parametrize("gap", [12, 13])
def test_short_exit_from_the_zone_ends_no_hit(gap: int) -> None:
    frames = [*[[at(60)]] * 5, *[[at(40)]] * gap, *[[at(60)]] * 5]
    assert len(hits_of(frames, IN_ZONE)) == (2 if gap == 12 else 4)


def test_trembling_at_the_border_makes_one_hit() -> None:
    rng = np.random.default_rng(0)
    assert len(hits_of([[at(50 + rng.normal())] for _ in range(24)], IN_ZONE)) == 2


def test_rare_inferences_that_miss_a_pair_once_end_no_hit() -> None:
    """Every 25th frame is detected; what one inference misses is not there for a second."""
    present = [True] * 50 + [False] * 25 + [True] * 25
    frames = [frame_of(i, [at(50)] if here else [], detected=i % 25 == 0) for i, here in enumerate(present)]
    assert [hit.event for hit in hits_of(frames, Rule(name="a", update_every_s=0))] == ["start", "end"]


@pytest.mark.parametrize(
    ("human", "object_box", "kind", "expected"),
    [
        ((10, 10, 30, 50), (20, 30, 60, 70), "object", (40, 50)),
        ((10, 10, 30, 50), (20, 30, 60, 70), "contact", (25, 40)),
        ((10, 10, 30, 50), (50, 60, 70, 80), "contact", (40, 55)),
        ((10, 10, 30, 50), (50, 20, 70, 40), "contact", (40, 30)),
        ((10, 10, 30, 50), (50, 20, 70, 40), "human", (20, 50)),
    ],
)
def test_point_that_counts(human: Any, object_box: Any, kind: Any, expected: Point) -> None:
    x, y = expected
    row = Row(human_box_xyxy=human, object_box_xyxy=object_box)
    around = ((x - 3, y - 3), (x + 3, y - 3), (x + 3, y + 3), (x - 3, y + 3))
    beside = tuple((corner[0] + 7, corner[1]) for corner in around)
    for zone, hits in ((around, 2), (beside, 0)):
        assert len(hits_of([[row]], Rule(name="a", zone=zone, unit="px", point=kind))) == hits


@pytest.mark.parametrize("kind", ["object", "contact"])
def test_person_without_an_object_has_no_object_point(kind: Any) -> None:
    alone = at(70, object=-1, label=-1)
    assert not hits_of([[alone]], Rule(name="a", zone=RIGHT_HALF, point=kind))
    assert hits_of([[alone]], Rule(name="a", zone=RIGHT_HALF))[0].label == ""


def test_objects_and_scores_are_conditions() -> None:
    row = at(50, verbs={0: 0.6, 2: 0.9}, active=(0,))
    assert hits_of([[row]], Rule(name="a", objects=("bicycle",), min_score=0.6 - 1e-6))
    for rule in (
        Rule(name="a", objects=("sports ball",)),
        Rule(name="a", verbs=("sit on",)),
        Rule(name="a", min_score=0.61),
        Rule(name="a", verbs=("hold",)),  # likely, and not active
    ):
        assert not hits_of([[row]], rule)


def test_every_verb_of_a_person_has_its_own_hit() -> None:
    row = at(50, verbs={0: 0.6, 2: 0.9}, active=(0, 2))
    assert [(hit.verb, hit.hit) for hit in hits_of([[row]], Rule(name="a")) if hit.event == "start"] == [
        ("ride", 0),
        ("hold", 1),
    ]


def test_hit_outlives_the_objects_change_of_identity() -> None:
    before, after = at(50, pair=1, object=2), at(50, pair=7, object=9)
    start, end = hits_of([*[[before]] * 5, [], *[[after]] * 5], ANYWHERE)
    assert (start.pair, start.object, end.pair, end.object) == (1, 2, 7, 9)


def test_hit_stays_with_its_pair_where_two_of_a_kind_fulfil_the_rule() -> None:
    first, second = at(50, pair=1, object=2, verbs={0: 0.5}), at(50, pair=3, object=4, verbs={0: 0.9})
    hits = hits_of([[first], *[[first, second]] * 5, *[[second]] * 5], ANYWHERE)
    assert [(hit.event, hit.pair) for hit in hits] == [("start", 1), ("end", 3)]
    assert hits[-1].peak_score == pytest.approx(0.9)


def test_another_person_has_another_hit() -> None:
    assert len(hits_of([[at(50)], [at(50, pair=4, human=8)]], ANYWHERE)) == 4


def test_cool_down_holds_for_the_whole_rule_and_what_still_holds_then_starts() -> None:
    frames = [*[[at(50)]] * 5, *[[]] * 20, *[[at(50, pair=5, human=6)]] * 20, *[[]] * 20]
    rule = Rule(name="a", cool_down_s=1.0)
    hits = hits_of(frames, rule)
    assert moments(hits) == [("start", 0, 0), ("end", 0, 4), ("start", 1, 25), ("end", 1, 44)]
    assert hits[2].index == 29  # a second after the end, with the time at which it began


def test_cool_down_begins_when_a_hit_holds_last_not_when_its_end_is_reported() -> None:
    other = at(50, pair=5, human=6)
    rule = Rule(name="a", cool_down_s=1.0)
    assert [hit.index for hit in hits_of([[at(50)], [], *[[other]] * 40], rule) if hit.event == "start"] == [0, 25]


# Lines.


def walk(*xs: float, pair: int = 1, human: int = 1) -> list[Rows]:
    return [[at(x, pair=pair, human=human)] for x in xs]


def test_crossing_a_line_is_a_hit_of_a_moment() -> None:
    hits = hits_of(walk(30, 40, 49, 53, 60), OVER_LINE)
    assert moments(hits) == [("start", 0, 3), ("end", 0, 3)]
    assert hits[0].start_s == 3 / FPS


@pytest.mark.parametrize(("direction", "expected"), [("right", [2]), ("left", [5]), ("any", [2, 5])])
def test_direction_is_the_edge_that_is_walked_towards(direction: Any, expected: list[int]) -> None:
    for line in (OVER_LINE.line, OVER_LINE.line[::-1]):
        rule = Rule(name="over", line=line, direction=direction)
        hits = hits_of(walk(30, 40, 60, 70, 60, 40, 30), rule)
        assert [hit[2] for hit in moments(hits) if hit[0] == "start"] == expected


def test_line_is_no_longer_than_it_is_drawn() -> None:
    assert not hits_of(walk(30, 70), Rule(name="a", line=((0.5, 0.0), (0.5, 0.5))))


def test_trembling_on_a_line_is_one_crossing_at_its_first_moment() -> None:
    hits = hits_of(walk(40, 50.5, 49.8, 50.6, 50.4, 50.9, 51.4), OVER_LINE)
    assert moments(hits) == [("start", 0, 3), ("end", 0, 3)]
    assert hits[0].index == 6


def test_turning_on_a_line_is_no_crossing() -> None:
    assert not hits_of(walk(40, 50, 50.9, 40), OVER_LINE)


def test_crossing_needs_the_verb_at_that_moment() -> None:
    frames: list[Rows] = [[at(40)], [at(60, active=())], [at(61)], [at(62)]]
    assert not hits_of(frames, OVER_LINE)


def test_pair_that_appears_beyond_a_line_has_not_crossed_it() -> None:
    assert not hits_of([*walk(40), *walk(60, pair=2, human=3)], OVER_LINE)


# Absence.


def test_absence_starts_after_its_duration_and_ends_when_someone_acts() -> None:
    frames: list[Rows] = [[at(50)], *[[at(50, active=())]] * 40, *[[at(50)]] * 20]
    start, end = hits_of(frames, ABSENT)
    assert moments([start, end]) == [("start", 0, 1), ("end", 0, 40)]
    assert (start.index, end.index) == (26, 53)
    assert (start.pair, start.human, start.object, start.verb, start.label) == (-1, -1, -1, "", "")
    assert start.human_box_xyxy is None


def test_moment_of_action_does_not_end_an_absence() -> None:
    assert [hit.event for hit in hits_of([*[[]] * 20, [at(50)], *[[]] * 20], ABSENT)] == ["start", "end"]


def test_absence_counts_only_while_someone_is_in_the_zone_where_asked() -> None:
    rule = Rule(
        name="a", verbs=("ride",), zone=RIGHT_HALF, absent=True, absent_for_s=0.4, while_present=True, update_every_s=0
    )
    idle = {"active": ()}
    frames: list[Rows] = [*[[]] * 30, *[[at(20, **idle)]] * 30, *[[at(70, **idle)]] * 12, *[[at(20)]] * 30]
    assert moments(hits_of(frames, rule)) == [("start", 0, 60), ("end", 0, 71)]


def test_action_outside_the_zone_is_absence_in_it() -> None:
    rule = Rule(name="a", verbs=("ride",), zone=RIGHT_HALF, absent=True, absent_for_s=1.0)
    assert hits_of([[at(20)]] * 30, rule)
    assert not hits_of([[at(70)]] * 30, rule)


# Time of day.


def test_rule_counts_by_its_schedule_and_ends_with_it() -> None:
    rule = Rule(name="a", schedule=read_schedule({"hours": ["08:00-09:00"], "timezone": "UTC"}), update_every_s=0)
    start = datetime(2026, 1, 31, 7, 59, 59, tzinfo=timezone.utc)
    hits = hits_of([[at(50)]] * 50, rule, clock=lambda pts_s: start + timedelta(seconds=pts_s))
    assert moments(hits) == [("start", 0, 25), ("end", 0, 49)]
    late = datetime(2026, 1, 31, 8, 59, 59, tzinfo=timezone.utc)
    hits = hits_of([[at(50)]] * 50, rule, clock=lambda pts_s: late + timedelta(seconds=pts_s))
    assert moments(hits) == [("start", 0, 0), ("end", 0, 24)]


def test_schedule_without_a_clock_does_not_count_and_is_noted() -> None:
    rule = Rule(name="a", schedule=read_schedule({"hours": ["08:00-09:00"]}))
    matcher = RuleMatcher(RuleSet(rules=(rule,)), VOCABULARY)
    assert matcher.update(frame_of(0, [at(50)]))
    assert "--clock" in matcher.notes[0]


# Sizes, losses and other rules.


def test_zone_follows_a_change_of_the_frames_size() -> None:
    relative = Rule(name="relative", zone=RIGHT_HALF)
    px = Rule(name="px", zone=tuple((100 * x, 100 * y) for x, y in RIGHT_HALF), unit="px")
    inside = Row(human_box_xyxy=(130, 20, 150, 80), object_box_xyxy=(120, 60, 160, 80))
    frames = [frame_of(0, [at(20)]), frame_of(1, [inside], size_px=(200, 100))]
    assert {(hit.rule, hit.pts_s) for hit in hits_of(frames, relative, px)} == {("relative", 0.04), ("px", 0.04)}


def test_shapes_are_in_pixels_of_their_frame_and_show_what_holds() -> None:
    matcher = RuleMatcher(RuleSet(rules=(IN_ZONE, OVER_LINE)), VOCABULARY)
    small, large = frame_of(0, [at(20)]), frame_of(1, [at(190)], size_px=(200, 100))
    matcher.update(small)
    zone, line = matcher.shapes(small)
    assert (zone.points_xy[0], zone.direction, zone.holds) == ((50, 0), "", False)
    assert (line.points_xy, line.direction) == (((50, 0), (50, 100)), "any")
    matcher.update(large)
    zone, _ = matcher.shapes(large)
    assert (zone.points_xy[0], zone.holds) == ((100, 0), True)
    assert matcher.shapes(large) is matcher.shapes(large)


def test_loss_of_the_source_ends_hits_and_starts_absences_anew() -> None:
    matcher = RuleMatcher(RuleSet(rules=(ANYWHERE, ABSENT)), VOCABULARY)
    for index in range(5):
        matcher.update(frame_of(index, [at(50)]))
    matcher.interrupt()
    assert moments(matcher.update(frame_of(500, []))) == [("end", 0, 4)]
    assert not [hit for index in range(501, 525) for hit in matcher.update(frame_of(index, []))]
    assert moments(matcher.update(frame_of(525, []))) == [("start", 1, 500)]


def test_replaced_rules_end_and_equal_ones_go_on() -> None:
    matcher = RuleMatcher(RuleSet(rules=(ANYWHERE, Rule(name="other"))), VOCABULARY)
    matcher.update(frame_of(0, [at(50)]))
    matcher.replace_rules(RuleSet(rules=(Rule(name="new"), Rule(name="rides", verbs=("ride",)))))
    hits = matcher.update(frame_of(1, [at(50)]))
    assert [(hit.event, hit.hit, hit.rule) for hit in hits] == [("end", 1, "other"), ("start", 2, "new")]
    matcher.replace_rules(RuleSet())
    assert [hit.hit for hit in matcher.update(frame_of(2, [at(50)]))] == [0, 2]
    assert matcher.is_used
    assert matcher.hits == 3


def test_line_that_stays_remembers_where_pairs_were() -> None:
    matcher = RuleMatcher(RuleSet(rules=(OVER_LINE,)), VOCABULARY)
    matcher.update(frame_of(0, [at(40)]))
    matcher.replace_rules(RuleSet(rules=(OVER_LINE, ANYWHERE)))
    assert [hit.rule for hit in matcher.update(frame_of(1, [at(60)]))] == ["rides", "over", "over"]


def test_rules_of_other_words_are_refused_and_change_nothing() -> None:
    matcher = RuleMatcher(RuleSet(rules=(ANYWHERE,)), VOCABULARY)
    with pytest.raises(UsageError, match="rule 1 'a', verbs"):
        matcher.replace_rules(RuleSet(rules=(Rule(name="a", verbs=("fly",)),)))
    assert matcher.rules == RuleSet(rules=(ANYWHERE,))


def test_boxes_that_are_not_finite_are_in_no_zone() -> None:
    broken = Row(human_box_xyxy=(float("nan"),) * 4, object_box_xyxy=(float("inf"),) * 4)
    assert not hits_of([[broken]] * 3, IN_ZONE, OVER_LINE)


# Any stream.

ROWS = st.builds(
    at,
    st.floats(-20, 120),
    pair=st.integers(1, 4),
    human=st.integers(1, 2),
    object=st.integers(2, 3),
    label=st.integers(-1, 1),
    verbs=st.dictionaries(st.integers(0, len(VERBS) - 1), st.floats(0, 1), max_size=3),
    active=st.lists(st.integers(0, len(VERBS) - 1), max_size=3),
)
FRAMES = st.lists(
    st.tuples(st.lists(ROWS, max_size=3, unique_by=lambda row: row.pair), st.integers(1, 40), st.booleans()),
    max_size=25,
)
RULES = (
    *(ANYWHERE, IN_ZONE, OVER_LINE, ABSENT, Rule(name="cool", cool_down_s=0.7)),
    Rule(name="long", min_duration_s=0.3, grace_s=0.1, update_every_s=0.2),
    Rule(name="contact", zone=RIGHT_HALF, point="contact", min_score=0.3, grace_s=0.0),
    Rule(name="absent here", zone=RIGHT_HALF, absent=True, absent_for_s=0.2, while_present=True),
)


def results_of(frames: list[tuple[list[Row], int, bool]]) -> list[FrameResult]:
    indices = np.cumsum([step for _, step, _ in frames]).tolist()
    return [frame_of(i, rows, detected=seen) for i, (rows, _, seen) in zip(indices, frames, strict=True)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(FRAMES, st.lists(st.sampled_from(["nothing", "replace", "interrupt"]), max_size=40))
def test_every_start_has_one_end_with_updates_between(
    frames: list[tuple[list[Row], int, bool]], actions: list[str]
) -> None:
    def run() -> list[RuleHit]:
        matcher, found = RuleMatcher(RuleSet(rules=RULES), VOCABULARY), list[RuleHit]()
        for number, result in enumerate(results_of(frames)):
            action = actions[number] if number < len(actions) else "nothing"
            if action == "replace":
                matcher.replace_rules(RuleSet(rules=RULES[number % len(RULES) :]))
            elif action == "interrupt":
                matcher.interrupt()
            found += matcher.update(result)
            assert {shape.rule for shape in matcher.shapes(result)} <= {rule.name for rule in matcher.rules}
        return found + list(matcher.finish()) + list(matcher.finish())

    hits = run()
    assert hits == run()
    by_number: dict[int, list[RuleHit]] = {}
    for hit in hits:
        by_number.setdefault(hit.hit, []).append(hit)
    assert sorted(by_number) == list(range(len(by_number)))
    for numbered in by_number.values():
        assert [hit.event for hit in numbered] == ["start", *["update"] * (len(numbered) - 2), "end"]
        assert len({(hit.rule, hit.start_s, hit.human, hit.verb, hit.label) for hit in numbered}) == 1
        assert numbered[0].pts_s == numbered[0].start_s <= numbered[-1].pts_s
        assert [hit.peak_score for hit in numbered] == sorted(hit.peak_score for hit in numbered)


def test_rules_may_be_replaced_from_another_thread_while_frames_come() -> None:
    matcher, stop = RuleMatcher(RuleSet(rules=RULES), VOCABULARY), threading.Event()

    def replace() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            matcher.replace_rules(RuleSet(rules=RULES[number % 3 :]))

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        hits = [hit for index in range(300) for hit in matcher.update(frame_of(index, [at(index % 100)]))]
    finally:
        stop.set()
        thread.join()
    hits += matcher.finish()
    starts, ends = ([hit.hit for hit in hits if hit.event == event] for event in ("start", "end"))
    assert starts == sorted(set(starts))
    assert sorted(starts) == sorted(ends)
