"""Verbs over time and trajectories, with the examples worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hoiclip.core.errors import DataError
from hoiclip.core.vocabulary import NO_OBJECT
from hoiclip.evaluation.video import measure_videos
from hoiclip.evaluation.video.events import VideoEvents, event_map, flicker
from hoiclip.evaluation.video.frames import acting_pairs, frame_annotation, verb_segments
from hoiclip.evaluation.video.identity import covered_entities, entity_frames, pair_overlaps
from hoiclip.evaluation.video.trajectories import trajectories, volume_iou
from hoiclip.evaluation.video.vidhoi import predicted_triplets, vidhoi
from tests.hoiclip.annotated_images import CUP, DOG, HOLD, HOLD_CUP, HOLD_DOG, PERSON, PET, PET_DOG
from tests.hoiclip.video_results import NOTHING, VOCABULARY, Pair, frame, on, together, video

FAR = (500.0, 500.0, 540.0, 600.0)


def test_ground_truth_against_itself_is_perfect() -> None:
    ground_truth = on(*range(3, 15), frames=30)
    got = measure_videos([together(ground_truth, ground_truth)], VOCABULARY).summary
    assert got["frames"] == {"frame mAP": 1, "entity recall": 1, "VidHOI mAP": 1}
    assert set(got["trajectories"].values()) == {1}
    for kind in ("entities", "pairs"):
        assert [got[kind][name] for name in ("HOTA", "IDF1", "MOTA", "IDSW")] == [1, 1, 1, 0]
    assert got["verbs"]["onset median s"] == 0
    assert got["verbs"]["event mAP"] == got["verbs"]["onsets found"] == 1
    assert got["verbs"]["changes"] == got["verbs"]["true changes"] == pytest.approx(40)  # on and off in 3 s


def test_empty_results_score_zero() -> None:
    ground_truth = on(*range(3, 15), frames=30)
    got = measure_videos([together(ground_truth, [])], VOCABULARY)
    assert got.missing_frames == 30
    assert [got.summary[subject][name] for subject, name in (("frames", "frame mAP"), ("trajectories", "mAP"))] == [
        0,
        0,
    ]
    assert (got.summary["pairs"]["IDF1"], got.summary["verbs"]["onsets found"]) == (0, 0)
    assert got.to_json()["verbs"]["flicker"] is None  # of no pair at all


def test_empty_video_raises_no_error() -> None:
    empty = video([], [], [])
    got = measure_videos([together(empty, on(1, frames=3))], VOCABULARY).to_json()
    assert got["trajectories"]["mAP"] is None
    assert (got["pairs"]["FP"], got["verbs"]["onsets found"]) == (1, None)


def test_pair_renumbered_half_way_is_one_identity_switch() -> None:
    first, second = Pair(), Pair(pair=5, human=9)
    found = video(*[[first]] * 5, *[[second]] * 5)
    got = measure_videos([together(on(*range(10), frames=10), found)], VOCABULARY).summary
    assert (got["pairs"]["IDSW"], got["pairs"]["IDF1"]) == (1, 0.5)
    assert (got["entities"]["IDSW"], got["entities"]["IDF1"]) == (1, 0.75)  # the cup stays the same cup


def test_entity_is_covered_by_any_found_one() -> None:
    """Two people in each other's arms are covered by one box; a cup is not covered by a dog."""
    near = (2.0, 0.0, 42.0, 100.0)
    ground_truth = frame(0, Pair(), Pair(pair=2, human=3, object=4, human_box=near, object_box=FAR))
    found = frame(0, Pair(label=DOG))
    assert covered_entities(together([ground_truth], [found]), VOCABULARY) == (2, 4)


def test_pair_overlap_is_the_smaller_of_its_boxes() -> None:
    gt = frame(0, Pair())
    moved = frame(0, Pair(object_box=(40, 40, 60, 60)), Pair(pair=2, label=DOG), Pair(pair=3, human_box=FAR))
    assert pair_overlaps(gt, moved).tolist() == [[pytest.approx(1 / 3), 0, 0]]
    alone = replace(gt, object=np.array([-1]), label=np.array([NO_OBJECT]))
    assert pair_overlaps(alone, alone).tolist() == [[1]]


def test_no_interaction_is_no_event() -> None:
    idle = frame(0, Pair(active=(NOTHING,)))
    assert len(acting_pairs(idle, VOCABULARY)) == 0
    assert verb_segments(video([Pair(active=(NOTHING,))]), VOCABULARY) == []
    video_frame = entity_frames(together([idle], [idle]), VOCABULARY)[0]
    assert len(video_frame.gt_ids) == 0
    assert covered_entities(together([idle], [idle]), VOCABULARY) == (2, 2)  # but they are counted as entities
    assert frame_annotation(idle, PERSON).interactions.tolist() == [[0, 1, NOTHING]]  # and it is an answer on an image


def test_segment_outlives_a_gap_but_not_an_inactive_frame() -> None:
    pair, idle = Pair(), Pair(active=())
    hidden = verb_segments(video([pair], [], [pair], [idle]), VOCABULARY)
    assert [(segment.start_s, segment.end_s, segment.frames) for segment in hidden] == [
        (0.0, pytest.approx(0.3), [0, 2])
    ]
    over = verb_segments(video([pair], [idle], [pair]), VOCABULARY)
    assert [(segment.start_s, round(segment.end_s, 6)) for segment in over] == [(0.0, 0.1), (0.2, 0.3)]
    scored = Pair(scores={HOLD: 0.5})
    assert verb_segments(video([scored], [pair]), VOCABULARY)[0].score == 0.75


def test_flicker_counts_changes_and_undone_changes() -> None:
    """On at 0.5 s, off at 0.6, on at 0.7: three changes, two of which undo the one before; later ones stay."""
    frames = on(5, *range(7, 25), frames=40)
    found = flicker(frames, VOCABULARY)
    assert (found.changes, found.undone, found.pair_s) == (4, 2, pytest.approx(4.0))
    assert found.changes_per_minute == pytest.approx(60)
    assert found.per_minute == pytest.approx(30)
    bystander = [replace(segment, pair=segment.pair + 7) for segment in on(frames=40)]
    assert np.isnan(flicker(bystander, VOCABULARY).per_minute)  # a pair that never does anything has no pair-minutes


def test_onset_delay_is_the_time_until_the_verb_is_found() -> None:
    ground_truth = on(*range(10, 20), frames=30)
    delays = lambda *numbers: VideoEvents(together(ground_truth, on(*numbers, frames=30)), VOCABULARY).onsets()  # noqa: E731
    assert delays(*range(12, 25)).delays_s == (pytest.approx(0.2),)
    assert delays(*range(5, 25)).delays_s == (0.0,)  # too early is not late
    late = delays(*range(21, 25))
    assert (late.found, late.events) == (0.0, 1)
    other_verb = on(*range(10, 20), frames=30, pair=Pair(active=(PET,)))
    elsewhere = on(*range(10, 20), frames=30, pair=Pair(human_box=FAR))
    renumbered = [
        replace(video_frame, pair=video_frame.pair + (video_frame.index > 8))
        for video_frame in on(*range(11, 20), frames=30)
    ]
    found = [
        VideoEvents(together(ground_truth, found), VOCABULARY).onsets().found
        for found in (other_verb, elsewhere, renumbered)
    ]
    assert found == [0, 0, 1]


def test_events_match_by_their_common_time() -> None:
    """True from 1.0 to 2.0 s, found from 1.5 to 2.5: a third in common."""
    ground_truth = on(*range(10, 20), frames=40)
    late = VideoEvents(together(ground_truth, on(*range(15, 25), frames=40)), VOCABULARY)
    assert late.ranked().overlap_ng == pytest.approx(np.array([[1 / 3]]))
    assert event_map([late]) == {0.3: 1, 0.5: 0, 0.7: 0}


def test_false_event_with_a_better_score_halves_precision() -> None:
    ground_truth = video(*[[Pair(scores={HOLD: 1.0})]] * 10)
    false = Pair(pair=4, human=6, object=7, human_box=FAR)
    found = video(*[[Pair(scores={HOLD: 0.5}), false]] * 10)
    both = together(ground_truth, found)
    assert event_map([VideoEvents(both, VOCABULARY)])[0.5] == 0.5
    assert trajectories([both], VOCABULARY).map_by_video == 0.5


def test_volume_iou_sums_over_frames() -> None:
    """Two frames each, one of them common, where half of each box is common: 50 / (200 + 200 - 50)."""
    box, shifted = np.array([[0.0, 0, 10, 10]] * 2), np.array([[5.0, 0, 15, 10]] * 2)
    assert volume_iou(np.array([0, 1]), box, np.array([1, 2]), shifted) == pytest.approx(50 / 350)
    assert volume_iou(np.array([0, 1]), box, np.array([2, 3]), box) == 0
    assert volume_iou(np.array([0, 1]), box, np.array([0, 1]), box) == 1


def test_trajectories_are_counted_by_video_and_by_class() -> None:
    """A relation found whole, one found for less than half of its frames, and one of another video that is missed."""
    whole, part = Pair(), Pair(pair=2, human=3, object=4, label=DOG, human_box=FAR, object_box=FAR, active=(PET,))
    ground_truth = video(*[[whole, part]] * 10)
    found = video(*([whole, part] if number < 4 else [whole] for number in range(10)))
    missed = video(*[[Pair(label=DOG)]] * 5)
    got = trajectories([together(ground_truth, found), together(missed, [])], VOCABULARY)
    assert got.map_by_video == pytest.approx((0.5 + 0) / 2)
    assert got.map_by_class == pytest.approx((1 + 0 + 0) / 3)
    assert got.recall_at_50 == got.recall_at_100 == pytest.approx(1 / 3)


def test_relation_is_found_once() -> None:
    twin = Pair(pair=8, human=8, object=9, scores={HOLD: 0.9})
    both = together(video(*[[Pair()]] * 6), video(*[[Pair(), twin]] * 6))
    got = trajectories([both], VOCABULARY)
    assert (got.map_by_video, got.recall_at_50) == (1, 1)  # the twin comes after the hit and costs no precision
    assert VideoEvents(both, VOCABULARY).ranked().hits(0.5).tolist() == [True, False]


def test_vidhoi_counts_triplets_that_are_no_hoi() -> None:
    """Eleven points by hand: the right triplet ranks second of two in one frame, so precision is 1/2 everywhere."""
    ground_truth = video([Pair(active=(PET,))])  # to pet a cup: no HOI of the vocabulary
    wrong = Pair(pair=2, human_box=FAR, active=(PET,), scores={PET: 0.9, NOTHING: 0.8})
    both = together(ground_truth, video([Pair(active=(PET,), scores={PET: 0.4}), wrong]))
    found = [kind for kind in vidhoi([both], VOCABULARY) if kind.num_gt]
    assert [(kind.name, kind.ap, kind.num_predictions) for kind in found] == [("pet cup", 0.5, 2)]
    assert measure_videos([both], VOCABULARY).to_json()["frames"]["frame mAP"] is None


def test_predicted_triplets_are_hois_of_the_vocabulary() -> None:
    dog = Pair(pair=2, label=DOG, scores={HOLD: 0.3, PET: 0.9, NOTHING: 0.7})
    both = frame(0, Pair(scores={HOLD: 0.8, PET: 0.5}), dog)
    triplets = predicted_triplets(both, VOCABULARY)
    assert triplets.category.tolist() == [PET_DOG, HOLD_CUP, HOLD_DOG]  # best first; what is no HOI is not counted
    assert triplets.score == pytest.approx([0.9, 0.8, 0.3])
    assert triplets.query.tolist() == [1, 0, 1]
    by_verb = predicted_triplets(both, VOCABULARY, by_verb=True)
    assert by_verb.category.tolist() == [PET, HOLD, HOLD]


def test_skipped_frames_count_as_empty() -> None:
    ground_truth = on(*range(10), frames=10)
    every_other = ground_truth[::2]
    got = measure_videos([together(ground_truth, every_other)], VOCABULARY)
    assert (got.missing_frames, got.summary["pairs"]["FN"], got.summary["pairs"]["IDF1"]) == (
        5,
        5,
        pytest.approx(2 / 3),
    )


def test_run_of_a_section_is_aligned_by_its_times() -> None:
    ground_truth = on(*range(10), frames=10)
    part = [
        replace(video_frame, index=video_frame.index - 4, pts_s=video_frame.pts_s + 0.01)
        for video_frame in ground_truth[4:8]
    ]
    got = together(ground_truth, part)
    assert (got.missing, got.foreign) == (6, 0)
    assert [len(video_frame) for video_frame in got.found] == [0] * 4 + [1] * 4 + [0] * 2
    assert [video_frame.pts_s for video_frame in got.found] == [video_frame.pts_s for video_frame in ground_truth]


def test_ground_truth_without_times_takes_those_of_the_results() -> None:
    ground_truth = [replace(video_frame, pts_s=float("nan")) for video_frame in on(1, frames=3)]
    assert [video_frame.pts_s for video_frame in together(ground_truth, on(1, frames=3)).ground_truth] == [0, 0.1, 0.2]
    with pytest.raises(DataError, match="must have times"):
        together(ground_truth, on(1, frames=2))


def test_results_of_another_video_are_one_error() -> None:
    later = [replace(video_frame, pts_s=video_frame.pts_s + 100) for video_frame in on(1, frames=5)]
    with pytest.raises(DataError, match="none of the 5 results"):
        together(on(1, frames=5), later)


def test_entities_of_different_labels_do_not_match() -> None:
    both = together(video([Pair(label=CUP)]), video([Pair(label=DOG)]))
    got = measure_videos([both], VOCABULARY).summary
    assert (got["entities"]["FN"], got["entities"]["FP"]) == (1, 1)  # the human is found, the object is not
    assert got["pairs"]["IDF1"] == 0
