"""Presentation times: strictly increasing for any file, unchanged where valid, evenly spaced where recorded so."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip_engine.sources.timestamps import JUMP_S, PresentationClock, nominal_step_s, pts_to_seconds

few = settings(max_examples=60, deadline=None, derandomize=True)
TICK = Fraction(1, 1000)
PAUSE = 5_000_000
"""Ticks of 1/1000 s: far more than a clock may jump."""


def times_of(clock: PresentationClock, stamps: Iterable[int | None], time_base: Fraction = TICK) -> list[float]:
    return [pts_s for _, pts_s in clock.timed(stamps, lambda pts: pts_to_seconds(pts, time_base))]


@few
@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 200)), max_size=40))
def test_clock_is_strictly_increasing(stamps: list[int | None]) -> None:
    clock = PresentationClock(0.04)
    times = times_of(clock, stamps)
    assert len(times) == len(stamps)
    assert all(b > a for a, b in pairwise(times))
    assert clock.missing == sum(pts_to_seconds(pts, TICK) is None for pts in stamps)


@few
@given(st.sets(st.integers(-1000, 10**9), min_size=1, max_size=40), st.integers(1, 100_000))
def test_clock_keeps_valid_timestamps(stamps: set[int], ticks_per_s: int) -> None:
    clock = PresentationClock(0.04)
    good = sorted(stamps)
    assert times_of(clock, good, Fraction(1, ticks_per_s)) == [pts / ticks_per_s for pts in good]
    assert clock.missing == clock.repaired == 0


@st.composite
def splices(draw: st.DrawFn) -> list[list[int]]:
    """Pieces of a recording with one even step, each on its own clock, in ticks."""
    step = draw(st.sampled_from([10, 20, 33, 40, 100]))
    starts = st.one_of(st.just(0), st.integers(0, 3000), st.integers(0, PAUSE))
    pieces = draw(st.lists(st.tuples(starts, st.integers(3, 40)), min_size=1, max_size=6))
    return [[start + n * step for n in range(count)] for start, count in pieces]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(splices(), st.booleans())
def test_clock_keeps_the_steps_of_spliced_pieces(pieces: list[list[int]], may_jump: bool) -> None:
    clock = PresentationClock(0.04, may_jump=may_jump)
    times = times_of(clock, [pts for piece in pieces for pts in piece])
    step_s = (pieces[0][1] - pieces[0][0]) / 1000
    ends = list(accumulate(len(piece) for piece in pieces))
    for n, (before, after) in enumerate(pairwise(times), start=1):
        if n not in ends:
            assert after - before == pytest.approx(step_s, abs=1e-6)
            continue
        at = ends.index(n)
        pause_s = (pieces[at + 1][0] - pieces[at][-1]) / 1000
        kept = pause_s > 0 and not (may_jump and pause_s > JUMP_S)
        assert 0 < after - before <= (pause_s if kept else step_s) + step_s * 1e-3


@few
@given(st.integers(1, 4), st.integers(3, 8), st.integers(0, PAUSE))
def test_clock_sorts_timestamps_in_decoding_order(b_frames: int, groups: int, start: int) -> None:
    # I P B B: the P is decoded, and so timed, before the B-frames that are presented before it.
    stamps = [start]
    for group in range(groups):
        first = start + 40 * (1 + group * (b_frames + 1))
        stamps += [first + 40 * n for n in range(1, b_frames + 1)] + [first]
    clock = PresentationClock(0.04)
    times = times_of(clock, stamps)
    assert times == pytest.approx([pts / 1000 for pts in sorted(stamps)])
    assert clock.repaired > 0


# A first frame that is early is one before a pause.
OUTLIERS = [(0, 10**9), (0, 3000), *((at, wild) for at in (1, 7, 18) for wild in (10**9, -(10**6), 3000))]


@pytest.mark.parametrize(("at", "wild"), OUTLIERS)
def test_clock_repairs_one_wild_timestamp_alone(at: int, wild: int) -> None:
    stamps = [40 * (n + 1) for n in range(20)]
    right = [pts / 1000 for pts in stamps]
    stamps[at] = wild
    clock = PresentationClock(0.04)
    assert times_of(clock, stamps) == pytest.approx(right)
    assert clock.repaired == 1
    assert "1 wrong timestamp" in clock.notes[0]


def test_clock_keeps_uneven_steps_and_reports_long_pauses() -> None:
    stamps = [1433, 1466, 1500, 1700, 1733, 4000, 4001, 4500, 904_500, 904_533]
    clock = PresentationClock(0.04)
    assert times_of(clock, stamps) == [pts / 1000 for pts in stamps]
    assert clock.repaired == 0
    assert clock.notes == ("its clock jumps ahead by 900 s after 4.50 s; kept as a pause",)


def test_clock_jump_is_joined_only_where_the_container_allows() -> None:
    stamps = [0, 40, 80, 1_000_000, 1_000_040]
    kept, joined = PresentationClock(0.04), PresentationClock(0.04, may_jump=True)
    assert times_of(kept, stamps)[-1] == pytest.approx(1000.04)
    assert times_of(joined, stamps) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert "+999.92 s after 0.08 s" in joined.notes[0]


def test_clock_repairs_one_duplicate_timestamp_alone() -> None:
    clock = PresentationClock(0.04)
    assert times_of(clock, [0, 33, 33, 100, 133]) == pytest.approx([0, 0.033, 0.0665, 0.1, 0.133])
    assert clock.repaired == 1


def test_clock_interpolates_missing_timestamps() -> None:
    clock = PresentationClock(0.04)
    assert times_of(clock, [0, 50, None, None, 200, None]) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert clock.missing == 3
    assert times_of(PresentationClock(0.04), [None] * 3) == pytest.approx([0, 0.04, 0.08])


def test_restarted_clock_keeps_its_intervals() -> None:
    clock = PresentationClock(0.04)
    times = times_of(clock, [9000, 9040, 0, 33, 66])
    assert times == pytest.approx([9.0, 9.04, 9.08, 9.113, 9.146])
    assert clock.repaired == 1


def test_absurd_rates_are_ignored() -> None:
    assert nominal_step_s(Fraction(1000), None) == 0.04
    assert nominal_step_s(Fraction(1000), Fraction(60)) == pytest.approx(1 / 60)
    assert nominal_step_s(None, Fraction(0)) == 0.04
    assert nominal_step_s(Fraction(30000, 1001)) == pytest.approx(0.0333667)
