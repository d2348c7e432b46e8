"""Duplicates of one image become single humans, objects and pairs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hoiclip.core.detections import HOIDetections
from hoiclip_engine.track.consolidate import Scene, consolidate
from hoiclip_kernels.box_iou import box_iou
from tests.engine.extreme_numbers import extreme_64
from tests.engine.scenes import BIKE, CUP, DOG, HOLD, HUG, KICK, NUM_VERBS, PERSON, RIDE, Triplet, box_at, pairs_of

ANN, BOB = box_at(100, 100), box_at(300, 100)
ANN_AGAIN, BOB_AGAIN = box_at(102, 101), box_at(299, 103)
MUG, MUG_AGAIN = box_at(130, 100, 20, 20), box_at(131, 101, 20, 20)


def scene_of(*triplets: Triplet, person_label: int = PERSON) -> Scene:
    return consolidate(pairs_of(*triplets), num_verbs=NUM_VERBS, person_label=person_label)


def members(scene: Scene) -> list[tuple[list[float], list[float] | None]]:
    """Human box and object box of every pair."""
    boxes = scene.boxes_xyxy.tolist()
    return [
        (boxes[h], None if o < 0 else boxes[o])
        for h, o in zip(scene.human.tolist(), scene.object.tolist(), strict=True)
    ]


def test_duplicate_pair_keeps_better_boxes_and_best_score_per_verb():
    scene = scene_of(
        Triplet(ANN_AGAIN, MUG_AGAIN, verb=HOLD, score=0.5, verb_score=0.9),
        Triplet(ANN, MUG, verb=HOLD, score=0.8, verb_score=0.6),
        Triplet(ANN, MUG, verb=KICK, score=0.3, verb_score=0.1),
    )
    assert members(scene) == [(list(ANN), list(MUG))]
    assert scene.pair_scores.tolist() == [0.8]
    assert scene.verb_scores.tolist() == [[0.9, 0.1, 0, 0]]
    assert scene.labels.tolist() == [PERSON, CUP]
    assert scene.scores.tolist() == [0.8, 0.8]


def test_shared_persons_and_objects_stay_in_all_their_pairs():
    dog = box_at(200, 200, 50, 40)
    scene = scene_of(Triplet(ANN, MUG), Triplet(ANN_AGAIN, dog, label=DOG), Triplet(BOB, dog, label=DOG, verb=KICK))
    assert len(scene.labels) == 4
    assert sorted(members(scene)) == sorted([(list(ANN), list(MUG)), (list(ANN), list(dog)), (list(BOB), list(dog))])


def test_faint_loose_box_beside_a_sure_one_is_the_same_object_and_a_sure_one_is_another():
    loose = box_at(112, 100)
    assert 0.5 < float(box_iou(np.array([ANN]), np.array([loose]))[0, 0]) < 0.75, "between the limits"
    dog = box_at(300, 200)
    for score, humans in ((0.79, 2), (0.2, 1)):
        scene = scene_of(Triplet(ANN, MUG, score=0.8), Triplet(loose, dog, label=DOG, score=score))
        assert len(set(scene.human.tolist())) == humans, score


def test_adjacent_objects_of_one_class_stay_two():
    other = box_at(155, 100, 20, 20)
    assert len(scene_of(Triplet(ANN, MUG), Triplet(ANN, other)).human) == 2


@pytest.mark.parametrize("person_label", [0, 1])
def test_hugging_people_are_the_humans_of_both_pairs(person_label):
    scene = scene_of(
        Triplet(ANN, BOB_AGAIN, label=person_label, verb=HUG, score=0.9),
        Triplet(BOB, ANN_AGAIN, label=person_label, verb=HUG, score=0.8),
        person_label=person_label,
    )
    assert scene.labels.tolist() == [person_label, person_label]
    assert sorted(zip(scene.human.tolist(), scene.object.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_person_is_no_pair_with_itself():
    assert len(scene_of(Triplet(ANN, ANN_AGAIN, label=PERSON, verb=HUG)).human) == 0


def test_humans_share_no_label_with_objects_without_person_class():
    scene = scene_of(Triplet(ANN, ANN_AGAIN, label=PERSON), person_label=-1)
    assert scene.labels.tolist() == [-1, PERSON]
    assert len(scene.human) == 1


def test_person_without_object_makes_a_pair_without_object():
    scene = scene_of(Triplet(ANN, None, verb=RIDE), Triplet(ANN_AGAIN, MUG))
    assert sorted(members(scene), key=str) == sorted([(list(ANN), None), (list(ANN), list(MUG))], key=str)
    assert len(scene.labels) == 2


def test_better_label_of_one_box_is_kept_in_all_pairs():
    ride = box_at(120, 150, 100, 60)
    scene = scene_of(
        Triplet(ANN, ride, label=BIKE, verb=RIDE, score=0.7),
        Triplet(ANN, ride, label=DOG, verb=KICK, score=0.4),
        Triplet(BOB, box_at(121, 150, 100, 60), label=DOG, verb=KICK, score=0.3),
    )
    assert members(scene) == [(list(ANN), list(ride))]
    assert scene.labels[scene.object].tolist() == [BIKE]
    assert scene.verb_scores[0, KICK] == 0


def test_object_as_large_as_the_person_stays_an_object():
    scene = scene_of(Triplet(ANN, ANN, label=BIKE, verb=RIDE))
    assert members(scene) == [(list(ANN), list(ANN))]


def test_consolidate_of_no_detections_is_empty():
    scene = scene_of()
    assert scene.boxes_xyxy.shape == (0, 4)
    assert scene.verb_scores.shape == (0, NUM_VERBS)


@pytest.mark.parametrize("bad", [(np.nan, 0, 9, 9), (0, 0, np.inf, 9), (9, 9, 5, 5), (5, 5, 5, 9)])
def test_triplets_with_unusable_boxes_are_skipped(bad):
    scene = scene_of(Triplet(bad, MUG, score=0.9), Triplet(ANN, bad, score=0.9), Triplet(ANN, MUG, score=0.5))
    assert members(scene) == [(list(ANN), list(MUG))]
    assert scene.pair_scores.tolist() == [0.5]


@pytest.mark.parametrize("verb", [-1, NUM_VERBS])
def test_verb_outside_the_vocabulary_is_refused(verb):
    with pytest.raises(ValueError, match=r"verbs must be 0\.\.3"):
        scene_of(Triplet(ANN, MUG, verb=verb))


box = st.tuples(*[st.integers(0, 8)] * 4).map(lambda b: tuple(10.0 * v for v in b))
score = st.floats(0, 1)
triplet = st.builds(
    Triplet,
    human=box,
    target=st.none() | box,
    label=st.integers(0, 3),
    verb=st.integers(0, 3),
    score=score,
    verb_score=score,
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(triplets=st.lists(triplet, max_size=12))
def test_consolidate_output_has_no_duplicates_and_no_new_pairs(triplets):
    pairs: HOIDetections = pairs_of(*triplets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene = consolidate(pairs, num_verbs=NUM_VERBS, person_label=PERSON)
    given_boxes = {tuple(b) for b in np.concatenate([pairs.human_boxes_xyxy, pairs.object_boxes_xyxy]).tolist()}
    assert {tuple(b) for b in scene.boxes_xyxy.tolist()} <= given_boxes
    overlap = box_iou(scene.boxes_xyxy, scene.boxes_xyxy) * (scene.labels[:, None] == scene.labels)
    np.fill_diagonal(overlap, 0)
    better, worse = np.maximum.outer(scene.scores, scene.scores), np.minimum.outer(scene.scores, scene.scores)
    ratio = np.divide(worse, better, out=np.ones_like(better), where=better > 0)
    assert (overlap < 0.5 + 0.25 * ratio**3 + 1e-6).all()  # scores of float32
    keys = list(zip(scene.human.tolist(), scene.object.tolist(), strict=True))
    assert len(set(keys)) == len(keys)
    assert all(h != o for h, o in keys)
    assert (scene.labels[scene.human] == PERSON).all()
    assert set(scene.pair_scores.tolist()) <= set(pairs.score.tolist())
    assert (scene.verb_scores <= pairs.verb_score.max(initial=0)).all()


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    boxes=arrays(np.float64, (2, 4, 4), elements=st.one_of(st.floats(0, 300), extreme_64)),
    scores=arrays(np.float64, (2, 4), elements=st.one_of(st.floats(0, 1), extreme_64)),
    labels=st.lists(st.integers(-1, 1), min_size=4, max_size=4),
)
def test_impossible_boxes_and_scores_are_dropped_without_warning(boxes, scores, labels):
    pairs = HOIDetections(
        query=np.arange(4),
        human_boxes_xyxy=boxes[0],
        object_boxes_xyxy=boxes[1],
        label=np.array(labels),
        verb=np.arange(4) % NUM_VERBS,
        hoi=np.full(4, -1),
        score=scores[0],
        verb_score=scores[1],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene = consolidate(pairs, num_verbs=NUM_VERBS, person_label=PERSON)
    for values in (scene.boxes_xyxy, scene.scores, scene.pair_scores, scene.verb_scores):
        assert np.isfinite(values.astype(np.float32)).all()
