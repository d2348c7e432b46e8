"""Scores that a stream's own detections bear out, whatever scale they are on."""

from __future__ import annotations

import numpy as np
import pytest

from hoiclip_engine.track import EntityTracker
from hoiclip_engine.track.score_levels import ScoreLevels
from hoiclip_engine.track.verb_scale import VerbScale
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
def test_tracks_are_of_what_is_found_again_on_every_scale(scale):
    seen = tracks_of(scale)
    for ids in seen[30:]:
        assert min(ids[:4]) > 0
        assert ids[:4] == seen[-1][:4]
    assert sum(i > 0 for ids in seen[30:] for i in ids[4:]) <= 3


def test_nothing_is_learned_from_few_detections_or_where_even_the_best_come_and_go():
    few, fleeting = ScoreLevels(0.7, 0.1), ScoreLevels(0.7, 0.1)
    label = np.zeros(1, np.int64)
    few.learn(np.zeros(20, np.int64), np.full(20, 0.4), np.ones(20, bool))
    fleeting.learn(np.zeros(200, np.int64), np.linspace(0, 1, 200), np.arange(200) % 4 == 0)
    for levels in (few, fleeting):
        assert [float(level[0]) for level in levels.levels(label)] == [0.7, 0.1]


@EVERY_SCALE
def test_two_groups_of_verb_scores_are_mapped_to_the_scale_of_the_thresholds(scale):
    rng, verbs = np.random.default_rng(0), VerbScale()
    off, on = rng.beta(2, 40, 300), rng.beta(40, 5, 100)
    verbs.learn(scale(np.concatenate([off, on])))
    assert verbs(scale(on)).mean() == pytest.approx(0.8, abs=0.03)
    assert verbs(scale(off)).mean() == pytest.approx(0.0, abs=0.05)
    assert verbs.doubt < 0.5


def test_verb_scores_of_one_group_are_taken_as_they_are():
    rng, verbs = np.random.default_rng(0), VerbScale()
    scores = np.clip(rng.normal(0.4, 0.1, 500), 0.01, 1)
    verbs.learn(scores)
    np.testing.assert_allclose(verbs(scores), scores)
    assert verbs.doubt == 1
