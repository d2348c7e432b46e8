"""Identities that boxes alone would confuse, and partners keep apart."""

from __future__ import annotations

import numpy as np
import pytest

from hoiclip_engine.track import DetectedPairs, EntityTracker
from tests.engine.scenes import Triplet, box_at, pairs_of
from tests.engine.tracker_runs import SEEN_AT_ONCE, mug, tracker_of

MUG, BAG = 1, 2
HIDDEN_S = 0.3
ERROR_PX = 5.0


RATES = pytest.mark.parametrize("fps", [8, 15, 60])


@RATES
def test_person_nearer_to_where_a_hidden_one_stood_is_known_by_what_is_carried(fps):
    known, found = humans_by_object(fps, {MUG: box_at(100, 100), BAG: box_at(124, 100)}, {MUG: box_at(114, 100)})
    assert found[MUG] == known[MUG]


@RATES
def test_newcomer_with_another_object_is_not_who_stood_near_before(fps):
    known, found = humans_by_object(fps, {MUG: box_at(100, 100)}, {BAG: box_at(138, 100)})
    assert known[MUG] != found[BAG]


@RATES
def test_person_who_takes_another_object_in_view_stays_the_same(fps):
    person = box_at(100, 100)
    known, found = humans_by_object(fps, {MUG: person}, {BAG: person}, hidden_s=0.0)
    assert known[MUG] == found[BAG]


def humans_by_object(fps, before, after, hidden_s: float = HIDDEN_S) -> tuple[dict[int, int], dict[int, int]]:
    """Ids of humans by the label of what they carry: after a second of `before`, and after one of `after`."""
    tracker, rng = tracker_of(verb=SEEN_AT_ONCE), np.random.default_rng(0)
    ids = []
    for start_s, scene in ((0.0, before), (1.0 + hidden_s, after)):
        for index in range(fps):
            people = {label: tuple(person + rng.normal(0, ERROR_PX, 4)) for label, person in scene.items()}
            triplets = [Triplet(person, mug(person), label=label) for label, person in people.items()]
            pairs = tracker.update(pairs_of(*triplets), start_s + index / fps)
        ids.append(dict(zip(pairs.label.tolist(), pairs.human.tolist(), strict=True)))
    return ids[0], ids[1]


@RATES
@pytest.mark.parametrize(("flight_px", "same"), [(45, True), (300, False)])
def test_thrown_ball_is_found_again_within_the_reach_of_its_thrower(fps, flight_px, same):
    tracker, person = tracker_of(verb=SEEN_AT_ONCE), box_at(100, 100, 60, 160)
    for index in range(fps):
        held = tracker.update(pairs_of(Triplet(person, box_at(130, 100, 8, 8))), index / fps)
    flown = tracker.update(pairs_of(Triplet(person, box_at(130 + flight_px, 100, 8, 8))), 1.0)
    there = flown.object_boxes_xyxy[:, 0] > 130 + flight_px / 2
    assert (flown.object[there].tolist() == held.object.tolist()) == same


def test_sure_partner_leaves_hardly_anything_to_its_rivals():
    pairs = DetectedPairs(human=np.array([0, 0]), object=np.array([1, 2]), scores=np.array([0.8, 0.4]))
    ties = pairs.ties(4)
    assert ties.weights_nn[0, 1] == ties.weights_nn[1, 0] == 1
    assert 0 < ties.weights_nn[0, 2] < 0.01
    assert ties.is_human.tolist() == [True, False, False, False]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_ties_do_not_depend_on_the_scale_of_scores(scale):
    pairs = {"human": np.array([0, 0, 3]), "object": np.array([1, 2, 2])}
    scores = np.array([0.8, 0.6, 0.3])
    one, other = (DetectedPairs(**pairs, scores=scores * by).ties(4).weights_nn for by in (1.0, scale))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_detections_without_pairs_are_followed_as_if_partners_were_not_asked():
    none = np.zeros(0, np.int64)
    asked, not_asked = EntityTracker(), EntityTracker()
    rng = np.random.default_rng(0)
    for index in range(50):
        boxes = np.array([box_at(100 + 20 * n + 3 * index, 100) for n in range(6)]) + rng.normal(0, 3, (6, 4))
        seen = (boxes, rng.random(6), np.arange(6) % 2, index / 15)
        pairs = DetectedPairs(human=none, object=none, scores=np.zeros(0))
        assert asked.update(*seen, pairs=pairs).tolist() == not_asked.update(*seen).tolist()
