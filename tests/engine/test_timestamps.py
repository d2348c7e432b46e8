"""Presentation times: forward whatever a file says, untouched where they are good."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip_engine.video.timestamps import PresentationClock, nominal_step_s, seconds

few = settings(max_examples=60, deadline=None, derandomize=True)


@few
@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 200)), max_size=40))
def test_time_always_goes_forward(stamps: list[int | None]) -> None:
    clock = PresentationClock(0.04)
    times = [clock.next(pts, Fraction(1, 1000)) for pts in stamps]
    assert all(b > a for a, b in pairwise(times))
    assert clock.missing == sum(seconds(pts, Fraction(1, 1000)) is None for pts in stamps)


@few
@given(st.sets(st.integers(-1000, 10**9), min_size=1, max_size=40), st.integers(1, 100_000))
def test_good_times_are_not_touched(stamps: set[int], ticks_per_s: int) -> None:
    clock = PresentationClock(0.04)
    good = sorted(stamps)
    assert [clock.next(pts, Fraction(1, ticks_per_s)) for pts in good] == [pts / ticks_per_s for pts in good]
    assert clock.missing == clock.repaired == 0


def test_a_duplicate_moves_only_itself() -> None:
    clock = PresentationClock(0.04)
    times = [clock.next(pts, Fraction(1, 1000)) for pts in (0, 40, 40, 80)]
    assert times == [0.0, 0.04, pytest.approx(0.041), 0.08]
    assert clock.repaired == 1


def test_a_clock_that_starts_anew_keeps_its_intervals() -> None:
    clock = PresentationClock(0.04)
    times = [clock.next(pts, Fraction(1, 1000)) for pts in (9000, 9040, 0, 33, 66)]
    assert times == pytest.approx([9.0, 9.04, 9.08, 9.113, 9.146])
    assert clock.repaired == 1


def test_absurd_rates_are_not_believed() -> None:
    assert nominal_step_s(Fraction(1000), None) == 0.04
    assert nominal_step_s(Fraction(1000), Fraction(60)) == pytest.approx(1 / 60)
    assert nominal_step_s(None, Fraction(0)) == 0.04
    assert nominal_step_s(Fraction(30000, 1001)) == pytest.approx(0.0333667)
