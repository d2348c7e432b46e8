"""Agreement of the shown interactions with the ground truth, on examples worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hoiclip.evaluation.video import measure_agreement
from tests.hoiclip.annotated_images import DOG, HOLD, PET
from tests.hoiclip.video_results import NOTHING, VOCABULARY, Pair, on, together, video

FAR = (500.0, 500.0, 540.0, 600.0)
HELD = Pair()
IDLE = replace(HELD, active=())


def counts(ground_truth, found, **options) -> tuple[int, int, int, int]:
    """Found, missed, right, wrong."""
    got = measure_agreement(together(ground_truth, found), VOCABULARY, **options)
    return len(got.found), len(got.missed), len(got.right), len(got.wrong)


def test_agreement_of_ground_truth_with_itself_is_full_and_of_nothing_is_nan() -> None:
    ground_truth = video(*[[HELD]] * 10, *[[IDLE]] * 5, *[[HELD]] * 10)
    got = measure_agreement(together(ground_truth, ground_truth), VOCABULARY)
    assert (got.recall, got.precision) == (1, 1)
    assert [segment.start_s for segment in got.found] == pytest.approx([0, 1.5])
    nothing = measure_agreement(together(ground_truth, video(*[[]] * 25)), VOCABULARY)
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
def test_agreement_needs_the_same_pair_and_verb(shown: Pair) -> None:
    assert counts(on(*range(10), frames=10), video(*[[shown]] * 10)) == (0, 1, 0, 1)


def test_agreement_ignores_identities() -> None:
    other = replace(HELD, pair=7, human=8, object=9)
    assert counts(on(*range(10), frames=10), video(*[[HELD]] * 5, *[[other]] * 5)) == (1, 0, 2, 0)


@pytest.mark.parametrize(("frames", "expected"), [(4, (0, 1, 1, 0)), (5, (1, 0, 1, 0))])
def test_agreement_needs_half_of_the_time(frames: int, expected: tuple[int, ...]) -> None:
    assert counts(on(*range(10), frames=10), on(*range(frames), frames=10)) == expected


@pytest.mark.parametrize(("frames", "expected"), [(20, (1, 0, 1, 0)), (21, (1, 0, 0, 1))])
def test_interaction_shown_for_twice_its_time_is_just_right(frames: int, expected: tuple[int, ...]) -> None:
    assert counts(on(*range(10), frames=30), on(*range(frames), frames=30)) == expected


def test_second_box_round_the_same_pair_is_wrong() -> None:
    ghost = replace(HELD, pair=5, human=6, object=7, object_box=(31.0, 41.0, 51.0, 61.0))
    got = measure_agreement(together(on(*range(10), frames=10), video(*[[ghost, HELD]] * 10)), VOCABULARY)
    assert [segment.pair for segment in got.right] == [HELD.pair]
    assert [segment.pair for segment in got.wrong] == [ghost.pair]


def test_agreement_counts_two_people_who_do_the_same_as_two() -> None:
    """The first found one overlaps both ground-truth ones, better the first; the second overlaps only the first."""
    beside = replace(HELD, pair=2, human=3, object=4, human_box=(12.0, 0.0, 52.0, 100.0))
    left = replace(HELD, pair=3, human=5, object=6, human_box=(-10.0, 0.0, 30.0, 100.0))
    between = replace(HELD, pair=1, human_box=(5.0, 0.0, 45.0, 100.0))
    assert counts(video(*[[HELD, beside]] * 10), video(*[[between, left]] * 10)) == (2, 0, 2, 0)


def test_short_interactions_are_not_required_but_may_be_shown() -> None:
    ground_truth = on(*range(4), frames=20)
    assert counts(ground_truth, ground_truth) == (0, 0, 1, 0)
    assert counts(ground_truth, ground_truth, min_gt_s=0.3) == (1, 0, 1, 0)
    flash = on(*range(4), 10, frames=20)
    assert counts(ground_truth, flash) == (0, 0, 1, 1), "what is wrong counts, however short"


def test_no_interaction_is_neither_required_nor_shown() -> None:
    idle = video(*[[replace(HELD, active=(NOTHING,))]] * 10)
    assert counts(idle, idle) == (0, 0, 0, 0)
    assert counts(on(*range(10), frames=10), idle) == (0, 1, 0, 0)


def test_agreement_counts_two_verbs_of_a_pair_as_two_interactions() -> None:
    both = video(*[[replace(HELD, active=(HOLD, PET))]] * 10)
    assert counts(both, on(*range(10), frames=10)) == (1, 1, 1, 0)
