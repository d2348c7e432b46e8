"""Score levels learned from a stream's own detections, on any scale."""

from __future__ import annotations

import numpy as np
import pytest

from hoiclip_engine.track import EntityTracker
from hoiclip_engine.track.score_levels import ScoreLevels, VerbScale
from tests.engine.scenes import box_at

SCALES = {
    "as they are": lambda score: score,
    "halved": lambda score: score / 2,
    "squeezed": lambda score: 1 / (1 + np.exp(1 - 2 * score)),
}
EVERY_SCALE = pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)


def tracks_of(scale) -> list[list[int]]:
    """Four people who stand at 0.75 to 0.95, and two detections of nothing per frame, at 0.2 to 0.6."""
    rng, tracker, seen = np.random.default_rng(3), EntityTracker(), []
    for index in range(100):
        people = [box_at(100 + 150 * n, 100) for n in range(4)]
        nothing = [box_at(*rng.uniform((50, 400), (600, 2000)), 40, 40) for _ in range(2)]
        scores = np.concatenate([rng.uniform(0.75, 0.95, 4), rng.uniform(0.2, 0.6, 2)])
        seen.append(tracker.update(people + nothing, scale(scores), np.zeros(6, int), index / 10).tolist())
    return seen


@EVERY_SCALE
def test_tracked_objects_are_those_found_again_on_every_score_scale(scale):
    seen = tracks_of(scale)
    for ids in seen[30:]:
        assert min(ids[:4]) > 0
        assert ids[:4] == seen[-1][:4]
    assert sum(i > 0 for ids in seen[30:] for i in ids[4:]) <= 3


LABEL = np.zeros(1, np.int64)


def learned(inferences, doubtful_ratio: float = 0.6) -> list[float]:
    """High and low level after inferences of (boxes, scores)."""
    levels = ScoreLevels(0.7, 0.1, doubtful_ratio)
    for boxes, scores in inferences:
        levels.learn(np.array(boxes, float).reshape(-1, 4), np.zeros(len(scores), np.int64), np.array(scores))
    return [float(level[0]) for level in levels.levels(LABEL)]


def some_of_nothing(count: int, step_px: float = 0.0):
    """Two who walk, at 0.5 to 0.6, and one of nothing, at 0.1 to 0.3, which is somewhere else at every inference."""
    rng = np.random.default_rng(0)
    for index in range(count):
        walkers = [box_at(100 + step_px * index, 100), box_at(100 + step_px * index, 400)]
        nothing = box_at(*rng.uniform((50, 700), (600, 9000)))
        yield [*walkers, nothing], [*rng.uniform(0.5, 0.6, 2), rng.uniform(0.1, 0.3)]


def test_levels_are_not_learned_from_few_or_fleeting_detections():
    rng = np.random.default_rng(0)
    assert learned(([box_at(100, 100)], [0.4]) for _ in range(20)) == [0.7, 0.1]
    fleeting = (([box_at(*rng.uniform(0, 90_000, 2))], [rng.uniform()]) for _ in range(200))
    assert learned(fleeting) == [0.7, 0.1]


@pytest.mark.parametrize("step_px", [0.0, 25.0])
def test_level_lies_between_lasting_and_fleeting_detections(step_px):
    high, low = learned(some_of_nothing(60, step_px))
    assert 0.3 < high < 0.6
    assert 0.1 <= low < 0.3


def test_running_people_are_found_again_at_their_expected_place():
    """Two who start slowly and then run: 50 pixels between inferences, of boxes 60 wide, IoU 0.09."""
    place_px = np.cumsum(np.minimum(10 + 2 * np.arange(400), 50))
    inferences = [([box_at(x, 100), box_at(x, 400)], [0.4, 0.5]) for x in place_px]
    assert learned(inferences[:20]) == [0.4, 0.1]  # all are found again, so that nothing speaks against the poorest
    assert learned(inferences) == [0.4, 0.1]


def test_score_is_not_doubted_for_a_few_more_misses():
    """Of two who stand, one is missed at every fifth inference."""

    def inferences():
        for index in range(100):
            both = [box_at(100, 100), box_at(400, 100)], [0.9, 0.4]
            yield both if index % 5 else ([both[0][0]], [0.9])

    assert learned(inferences(), doubtful_ratio=0.6)[0] == pytest.approx(0.9)
    assert learned(inferences(), doubtful_ratio=0.2)[0] == pytest.approx(0.4)


def test_track_begun_before_levels_were_learned_is_not_reported_below_them():
    """A post that is taken for a person at 0.75, somewhere else at every second inference; people are at 0.9."""
    rng, tracker = np.random.default_rng(1), EntityTracker()
    post, person = box_at(900, 900), box_at(100, 100)
    reported = []
    for index in range(60):
        nothing = [box_at(*rng.uniform((1500, 0), (9000, 9000))) for _ in range(3)]
        scores = [0.9, 0.75 if index < 10 else 0.71, *rng.uniform(0.7, 0.8, 3)]
        reported.append(tracker.update([person, post, *nothing], scores, np.zeros(5, int), index / 10).tolist())
    assert reported[5][0] > 0
    assert reported[5][1] > 0
    assert reported[-1][0] == reported[5][0]
    assert reported[-1][1] == -1


@EVERY_SCALE
def test_verb_scores_of_two_groups_are_mapped_to_the_scale_of_the_thresholds(scale):
    rng, verbs = np.random.default_rng(0), VerbScale()
    off, on = rng.beta(2, 40, 300), rng.beta(40, 5, 100)
    verbs.learn(scale(np.concatenate([off, on])))
    assert verbs(scale(on)).mean() == pytest.approx(0.8, abs=0.03)
    assert verbs(scale(off)).mean() == pytest.approx(0.0, abs=0.05)
    assert verbs.doubt < 0.5


def test_verb_scores_of_one_group_are_unchanged():
    rng, verbs = np.random.default_rng(0), VerbScale()
    scores = np.clip(rng.normal(0.4, 0.1, 500), 0.01, 1)
    verbs.learn(scores)
    np.testing.assert_allclose(verbs(scores), scores)
    assert verbs.doubt == 1
