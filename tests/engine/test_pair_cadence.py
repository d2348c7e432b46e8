"""Long detection intervals, quiet verbs and photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from tests.engine.scenes import HOLD, KICK, NUM_VERBS, Triplet, box_at, pairs_of, times
from tests.engine.untrained import untrained_model

SCENE = pairs_of(Triplet(box_at(100, 100), box_at(150, 100, 30, 30), verb=HOLD))


def test_pair_ids_survive_detections_further_apart_than_lost_after_s() -> None:
    pts_s = [0.0, 2.0, 4.0, 6.0]
    patient = PairTracker(TrackConfig(lost_after_s=1.0).for_detection_interval(2.0))
    hasty = PairTracker(TrackConfig(lost_after_s=1.0))
    assert {int(patient.update(SCENE, t).pair[0]) for t in pts_s} == {1}
    assert [int(hasty.update(SCENE, t).pair[0]) for t in pts_s] == [1, 2, 3, 4]


def test_pair_that_is_often_missed_is_shown_until_the_next_inference() -> None:
    """Between every other inference, whose interval is most of hold_s."""
    tracker = PairTracker(TrackConfig(hold_s=0.3).for_detection_interval(0.25))
    for index in range(40):
        tracker.update(SCENE if index % 2 == 0 else pairs_of(), index / 4)
        if index > 10:
            assert len(tracker.predict(index / 4 + 0.24)) == 1


def test_quiet_verb_is_scored_but_never_active() -> None:
    tracker = PairTracker(TrackConfig(num_verbs=NUM_VERBS, quiet_verbs=(HOLD,)))
    scene = pairs_of(
        Triplet(box_at(100, 100), box_at(150, 100, 30, 30), verb=HOLD),
        Triplet(box_at(100, 100), box_at(150, 100, 30, 30), verb=KICK),
    )
    events = []
    for t in times(30, 1.0):
        pairs = tracker.update(scene, t)
        events += tracker.take_events()
    assert pairs.verb_scores[0, HOLD] > 0.7
    assert not pairs.verb_active[0, HOLD]
    assert {event.verb_index for event in (*events, *tracker.finish())} == {KICK}


def test_single_detection_of_a_photo_shows_its_verbs(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)).save(path)
    with Engine.load(untrained_model(), EngineConfig(backend="torch")) as engine:
        (result,) = engine.stream(path)
    assert len(result.pairs)
    assert result.pairs.verb_active.any()
