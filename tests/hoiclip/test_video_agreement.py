"""What a viewer sees of a video against its ground truth, on examples worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hoiclip.evaluation.video import agreement
from tests.hoiclip.making_evaluations import DOG, HOLD, PET
from tests.hoiclip.making_films import NOTHING, VOCABULARY, Pair, film, on, together

FAR = (500.0, 500.0, 540.0, 600.0)
HELD = Pair()
IDLE = replace(HELD, active=())


def counts(truth, found, **options) -> tuple[int, int, int, int]:
    """Found, missed, right, wrong."""
    got = agreement(together(truth, found), VOCABULARY, **options)
    return len(got.found), len(got.missed), len(got.right), len(got.wrong)


def test_truth_against_itself_agrees_and_nothing_has_no_fraction() -> None:
    truth = film(*[[HELD]] * 10, *[[IDLE]] * 5, *[[HELD]] * 10)
    got = agreement(together(truth, truth), VOCABULARY)
    assert (got.recall, got.precision) == (1, 1)
    assert [one.start_s for one in got.found] == pytest.approx([0, 1.5])
    nothing = agreement(together(truth, film(*[[]] * 25)), VOCABULARY)
    assert nothing.recall == 0
    assert math.isnan(nothing.precision)


@pytest.mark.parametrize(
    "shown",
    [
        replace(HELD, human_box=FAR),
        replace(HELD, object_box=FAR),
        replace(HELD, label=DOG),
        replace(HELD, active=(PET,)),
    ],
    ids=["another human", "another object", "another label", "another verb"],
)
def test_another_pair_or_verb_finds_nothing_and_is_wrong(shown: Pair) -> None:
    assert counts(on(*range(10), frames=10), film(*[[shown]] * 10)) == (0, 1, 0, 1)


def test_identities_do_not_matter() -> None:
    other = replace(HELD, pair=7, human=8, object=9)
    assert counts(on(*range(10), frames=10), film(*[[HELD]] * 5, *[[other]] * 5)) == (1, 0, 2, 0)


@pytest.mark.parametrize(("frames", "expected"), [(4, (0, 1, 1, 0)), (5, (1, 0, 1, 0))])
def test_half_of_the_time_is_enough_to_be_found(frames: int, expected: tuple[int, ...]) -> None:
    assert counts(on(*range(10), frames=10), on(*range(frames), frames=10)) == expected


@pytest.mark.parametrize(("frames", "expected"), [(20, (1, 0, 1, 0)), (21, (1, 0, 0, 1))])
def test_what_is_shown_for_twice_as_long_as_it_lasts_is_just_right(frames: int, expected: tuple[int, ...]) -> None:
    assert counts(on(*range(10), frames=30), on(*range(frames), frames=30)) == expected


def test_a_second_box_round_the_same_pair_is_wrong() -> None:
    ghost = replace(HELD, pair=5, human=6, object=7, object_box=(31.0, 41.0, 51.0, 61.0))
    got = agreement(together(on(*range(10), frames=10), film(*[[ghost, HELD]] * 10)), VOCABULARY)
    assert [one.pair for one in got.right] == [HELD.pair]
    assert [one.pair for one in got.wrong] == [ghost.pair]


def test_two_people_who_do_the_same_are_two() -> None:
    """The first found one overlaps with both true ones, better with the first; the second with the first alone."""
    beside = replace(HELD, pair=2, human=3, object=4, human_box=(12.0, 0.0, 52.0, 100.0))
    left = replace(HELD, pair=3, human=5, object=6, human_box=(-10.0, 0.0, 30.0, 100.0))
    between = replace(HELD, pair=1, human_box=(5.0, 0.0, 45.0, 100.0))
    assert counts(film(*[[HELD, beside]] * 10), film(*[[between, left]] * 10)) == (2, 0, 2, 0)


def test_short_ones_are_not_asked_for_but_may_be_shown() -> None:
    truth = on(*range(4), frames=20)
    assert counts(truth, truth) == (0, 0, 1, 0)
    assert counts(truth, truth, min_true_s=0.3) == (1, 0, 1, 0)
    flash = on(*range(4), 10, frames=20)
    assert counts(truth, flash) == (0, 0, 1, 1), "what is wrong counts, however short"


def test_doing_nothing_is_neither_asked_for_nor_shown() -> None:
    idle = film(*[[replace(HELD, active=(NOTHING,))]] * 10)
    assert counts(idle, idle) == (0, 0, 0, 0)
    assert counts(on(*range(10), frames=10), idle) == (0, 1, 0, 0)


def test_two_verbs_of_a_pair_are_two_interactions() -> None:
    both = film(*[[replace(HELD, active=(HOLD, PET))]] * 10)
    assert counts(both, on(*range(10), frames=10)) == (1, 1, 1, 0)
