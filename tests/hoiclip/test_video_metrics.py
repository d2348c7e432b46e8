"""Verbs over time and trajectories, with the examples worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hoiclip.errors import DataError
from hoiclip.evaluation.video import measure_films
from hoiclip.evaluation.video.events import Events, event_map
from hoiclip.evaluation.video.film import acting, annotation
from hoiclip.evaluation.video.film_identities import covered_entities, entity_moments, pair_overlaps
from hoiclip.evaluation.video.flicker import flicker
from hoiclip.evaluation.video.segments import segments
from hoiclip.evaluation.video.trajectories import trajectories, volume_iou
from hoiclip.evaluation.video.triplets import predicted_triplets, vidhoi
from hoiclip.vocabulary import NO_OBJECT
from tests.hoiclip.making_evaluations import CUP, DOG, HOLD, HOLD_CUP, HOLD_DOG, PERSON, PET, PET_DOG
from tests.hoiclip.making_films import NOTHING, VOCABULARY, Pair, film, frame, on, together

FAR = (500.0, 500.0, 540.0, 600.0)


def test_truth_against_itself_is_perfect() -> None:
    truth = on(*range(3, 15), frames=30)
    got = measure_films([together(truth, truth)], VOCABULARY).summary
    assert got["frames"] == {"frame mAP": 1, "entity recall": 1, "VidHOI mAP": 1}
    assert set(got["trajectories"].values()) == {1}
    for who in ("entities", "pairs"):
        assert [got[who][name] for name in ("HOTA", "IDF1", "MOTA", "IDSW")] == [1, 1, 1, 0]
    assert got["verbs"]["onset median s"] == 0
    assert got["verbs"]["event mAP"] == got["verbs"]["onsets found"] == 1
    assert got["verbs"]["changes"] == got["verbs"]["true changes"] == pytest.approx(40)  # on and off in 3 s


def test_nothing_found_is_worth_nothing() -> None:
    truth = on(*range(3, 15), frames=30)
    got = measure_films([together(truth, [])], VOCABULARY)
    assert got.missing_frames == 30
    assert [got.summary[one][name] for one, name in (("frames", "frame mAP"), ("trajectories", "mAP"))] == [0, 0]
    assert (got.summary["pairs"]["IDF1"], got.summary["verbs"]["onsets found"]) == (0, 0)
    assert got.to_json()["verbs"]["flicker"] is None  # of no pair at all


def test_nothing_there_is_no_error() -> None:
    empty = film([], [], [])
    got = measure_films([together(empty, on(1, frames=3))], VOCABULARY).to_json()
    assert got["trajectories"]["mAP"] is None
    assert (got["pairs"]["FP"], got["verbs"]["onsets found"]) == (1, None)


def test_another_number_half_way_is_one_switch_of_the_pair() -> None:
    first, second = Pair(), Pair(pair=5, human=9)
    found = film(*[[first]] * 5, *[[second]] * 5)
    got = measure_films([together(on(*range(10), frames=10), found)], VOCABULARY).summary
    assert (got["pairs"]["IDSW"], got["pairs"]["IDF1"]) == (1, 0.5)
    assert (got["entities"]["IDSW"], got["entities"]["IDF1"]) == (1, 0.75)  # the cup stays the same cup


def test_an_entity_is_covered_whoever_does_it() -> None:
    """Two people in each other's arms are covered by one box; a cup is not covered by a dog."""
    near = (2.0, 0.0, 42.0, 100.0)
    truth = frame(0, Pair(), Pair(pair=2, human=3, object=4, human_box=near, object_box=FAR))
    found = frame(0, Pair(label=DOG))
    assert covered_entities(together([truth], [found]), VOCABULARY) == (2, 4)


def test_pairs_overlap_as_little_as_their_worse_half() -> None:
    true = frame(0, Pair())
    moved = frame(0, Pair(object_box=(40, 40, 60, 60)), Pair(pair=2, label=DOG), Pair(pair=3, human_box=FAR))
    assert pair_overlaps(true, moved).tolist() == [[pytest.approx(1 / 3), 0, 0]]
    alone = replace(true, object=np.array([-1]), label=np.array([NO_OBJECT]))
    assert pair_overlaps(alone, alone).tolist() == [[1]]


def test_doing_nothing_is_no_event() -> None:
    idle = frame(0, Pair(active=(NOTHING,)))
    assert len(acting(idle, VOCABULARY)) == 0
    assert segments(film([Pair(active=(NOTHING,))]), VOCABULARY) == []
    moment = entity_moments(together([idle], [idle]), VOCABULARY)[0]
    assert len(moment.true_ids) == 0
    assert covered_entities(together([idle], [idle]), VOCABULARY) == (2, 2)  # but they are there
    assert annotation(idle, PERSON).interactions.tolist() == [[0, 1, NOTHING]]  # and it is an answer on a picture


def test_a_segment_outlives_being_hidden_but_not_being_over() -> None:
    pair, idle = Pair(), Pair(active=())
    hidden = segments(film([pair], [], [pair], [idle]), VOCABULARY)
    assert [(one.start_s, one.end_s, one.frames) for one in hidden] == [(0.0, pytest.approx(0.3), [0, 2])]
    over = segments(film([pair], [idle], [pair]), VOCABULARY)
    assert [(one.start_s, round(one.end_s, 6)) for one in over] == [(0.0, 0.1), (0.2, 0.3)]
    scored = Pair(scores={HOLD: 0.5})
    assert segments(film([scored], [pair]), VOCABULARY)[0].score == 0.75


def test_changes_are_counted_and_those_that_come_back() -> None:
    """On at 0.5 s, off at 0.6, on at 0.7: three changes, two of which undo the one before; later ones stay."""
    frames = on(5, *range(7, 25), frames=40)
    found = flicker(frames, VOCABULARY)
    assert (found.changes, found.undone, found.pair_s) == (4, 2, pytest.approx(4.0))
    assert found.changes_per_minute == pytest.approx(60)
    assert found.per_minute == pytest.approx(30)
    bystander = [replace(one, pair=one.pair + 7) for one in on(frames=40)]
    assert np.isnan(flicker(bystander, VOCABULARY).per_minute)  # who never does anything is no pair-minute


def test_an_onset_is_late_by_the_time_until_it_is_told() -> None:
    truth = on(*range(10, 20), frames=30)
    delays = lambda *numbers: Events(together(truth, on(*numbers, frames=30)), VOCABULARY).onsets()  # noqa: E731
    assert delays(*range(12, 25)).delays_s == (pytest.approx(0.2),)
    assert delays(*range(5, 25)).delays_s == (0.0,)  # too early is not late
    late = delays(*range(21, 25))
    assert (late.found, late.events) == (0.0, 1)
    other_verb = on(*range(10, 20), frames=30, pair=Pair(active=(PET,)))
    elsewhere = on(*range(10, 20), frames=30, pair=Pair(human_box=FAR))
    renumbered = [replace(one, pair=one.pair + (one.index > 8)) for one in on(*range(11, 20), frames=30)]
    found = [Events(together(truth, one), VOCABULARY).onsets().found for one in (other_verb, elsewhere, renumbered)]
    assert found == [0, 0, 1]


def test_events_match_by_their_common_time() -> None:
    """True from 1.0 to 2.0 s, found from 1.5 to 2.5: a third in common."""
    truth = on(*range(10, 20), frames=40)
    late = Events(together(truth, on(*range(15, 25), frames=40)), VOCABULARY)
    assert late.ranked().overlap_ng == pytest.approx(np.array([[1 / 3]]))
    assert event_map([late]) == {0.3: 1, 0.5: 0, 0.7: 0}


def test_a_false_event_with_a_better_score_halves_precision() -> None:
    truth = film(*[[Pair(scores={HOLD: 1.0})]] * 10)
    false = Pair(pair=4, human=6, object=7, human_box=FAR)
    found = film(*[[Pair(scores={HOLD: 0.5}), false]] * 10)
    one = together(truth, found)
    assert event_map([Events(one, VOCABULARY)])[0.5] == 0.5
    assert trajectories([one], VOCABULARY).map_by_film == 0.5


def test_volumes_overlap_over_frames() -> None:
    """Two frames each, one of them common, where half of each box is common: 50 / (200 + 200 - 50)."""
    box, shifted = np.array([[0.0, 0, 10, 10]] * 2), np.array([[5.0, 0, 15, 10]] * 2)
    assert volume_iou(np.array([0, 1]), box, np.array([1, 2]), shifted) == pytest.approx(50 / 350)
    assert volume_iou(np.array([0, 1]), box, np.array([2, 3]), box) == 0
    assert volume_iou(np.array([0, 1]), box, np.array([0, 1]), box) == 1


def test_trajectories_are_counted_by_film_and_by_class() -> None:
    """A relation found whole, one found for less than half of its frames, and one of another film that is missed."""
    whole, part = Pair(), Pair(pair=2, human=3, object=4, label=DOG, human_box=FAR, object_box=FAR, active=(PET,))
    truth = film(*[[whole, part]] * 10)
    found = film(*([whole, part] if number < 4 else [whole] for number in range(10)))
    missed = film(*[[Pair(label=DOG)]] * 5)
    got = trajectories([together(truth, found), together(missed, [])], VOCABULARY)
    assert got.map_by_film == pytest.approx((0.5 + 0) / 2)
    assert got.map_by_class == pytest.approx((1 + 0 + 0) / 3)
    assert got.recall_at_50 == got.recall_at_100 == pytest.approx(1 / 3)


def test_a_true_relation_is_found_once() -> None:
    twin = Pair(pair=8, human=8, object=9, scores={HOLD: 0.9})
    one = together(film(*[[Pair()]] * 6), film(*[[Pair(), twin]] * 6))
    got = trajectories([one], VOCABULARY)
    assert (got.map_by_film, got.recall_at_50) == (1, 1)  # the twin comes after the hit and costs no precision
    assert Events(one, VOCABULARY).ranked().hits(0.5).tolist() == [True, False]


def test_vidhoi_counts_triplets_that_are_no_hoi() -> None:
    """Eleven points by hand: the right triplet ranks second of two in one frame, so precision is 1/2 everywhere."""
    truth = film([Pair(active=(PET,))])  # to pet a cup: no HOI of the vocabulary
    wrong = Pair(pair=2, human_box=FAR, active=(PET,), scores={PET: 0.9, NOTHING: 0.8})
    one = together(truth, film([Pair(active=(PET,), scores={PET: 0.4}), wrong]))
    found = [kind for kind in vidhoi([one], VOCABULARY) if kind.num_gt]
    assert [(kind.name, kind.ap, kind.num_predictions) for kind in found] == [("pet cup", 0.5, 2)]
    assert measure_films([one], VOCABULARY).to_json()["frames"]["frame mAP"] is None


def test_pairs_become_triplets_of_the_vocabulary() -> None:
    dog = Pair(pair=2, label=DOG, scores={HOLD: 0.3, PET: 0.9, NOTHING: 0.7})
    one = frame(0, Pair(scores={HOLD: 0.8, PET: 0.5}), dog)
    triplets = predicted_triplets(one, VOCABULARY)
    assert triplets.category.tolist() == [PET_DOG, HOLD_CUP, HOLD_DOG]  # best first; what is no HOI is not counted
    assert triplets.score == pytest.approx([0.9, 0.8, 0.3])
    assert triplets.query.tolist() == [1, 0, 1]
    by_verb = predicted_triplets(one, VOCABULARY, by_verb=True)
    assert by_verb.category.tolist() == [PET, HOLD, HOLD]


def test_frames_that_were_skipped_count_as_empty() -> None:
    truth = on(*range(10), frames=10)
    every_other = truth[::2]
    got = measure_films([together(truth, every_other)], VOCABULARY)
    assert (got.missing_frames, got.summary["pairs"]["FN"], got.summary["pairs"]["IDF1"]) == (
        5,
        5,
        pytest.approx(2 / 3),
    )


def test_a_run_of_a_part_is_placed_by_its_times() -> None:
    truth = on(*range(10), frames=10)
    part = [replace(one, index=one.index - 4, pts_s=one.pts_s + 0.01) for one in truth[4:8]]
    got = together(truth, part)
    assert (got.missing, got.foreign) == (6, 0)
    assert [len(one) for one in got.found] == [0] * 4 + [1] * 4 + [0] * 2
    assert [one.pts_s for one in got.found] == [one.pts_s for one in truth]


def test_truth_without_times_takes_those_of_the_results() -> None:
    truth = [replace(one, pts_s=float("nan")) for one in on(1, frames=3)]
    assert [one.pts_s for one in together(truth, on(1, frames=3)).truth] == [0, 0.1, 0.2]
    with pytest.raises(DataError, match="must have times"):
        together(truth, on(1, frames=2))


def test_results_of_another_film_are_one_error() -> None:
    later = [replace(one, pts_s=one.pts_s + 100) for one in on(1, frames=5)]
    with pytest.raises(DataError, match="none of the 5 results"):
        together(on(1, frames=5), later)


def test_labels_are_part_of_who_somebody_is() -> None:
    one = together(film([Pair(label=CUP)]), film([Pair(label=DOG)]))
    got = measure_films([one], VOCABULARY).summary
    assert (got["entities"]["FN"], got["entities"]["FP"]) == (1, 1)  # the human is found, the thing is not
    assert got["pairs"]["IDF1"] == 0
