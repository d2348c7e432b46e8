"""Arguments, errors and results of a pair tracker, for any input."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.extreme_numbers import extreme_32
from tests.engine.scenes import HOLD, HUG, KICK, NUM_VERBS, Triplet, pairs_of, times
from tests.engine.tracker_runs import (
    SEEN_AT_ONCE,
    ann,
    identities,
    kinds,
    mug,
    play,
    tracker_of,
)


def test_tracker_of_no_detections_is_empty():
    tracker = tracker_of()
    pairs = tracker.update(pairs_of(), 0.0)
    assert len(pairs) == 0
    assert pairs.verb_scores.shape == pairs.verb_active.shape == (0, NUM_VERBS)
    assert pairs.human_boxes_xyxy.shape == (0, 4)
    assert tracker.take_events() == ()
    assert len(tracker.predict(1.0)) == 0


def test_arrays_have_the_types_of_the_contract():
    frames, _ = play(tracker_of(), lambda t: [Triplet(ann(t), mug(ann(t)))], times(30, 1))
    last = frames[-1]
    types = {name: getattr(last, name).dtype for name in last.__dataclass_fields__}
    ints = dict.fromkeys(("pair", "human", "object", "label"), np.dtype(np.int64))
    floats = dict.fromkeys(("human_boxes_xyxy", "object_boxes_xyxy", "score", "verb_scores"), np.dtype(np.float32))
    assert types == ints | floats | {"verb_active": np.dtype(bool)}
    assert last.score.item() == pytest.approx(0.8)
    assert last.verb_scores[0].tolist() == pytest.approx([0.8, 0, 0, 0])


def test_time_that_runs_backwards_is_refused_also_after_a_prediction():
    tracker = tracker_of()
    tracker.update(pairs_of(Triplet(ann(0), mug(ann(0)))), 1.0)
    tracker.predict(2.0)
    for call in (lambda: tracker.update(pairs_of(), 1.5), lambda: tracker.predict(1.5)):
        with pytest.raises(ValueError, match="backwards"):
            call()


def test_refused_frame_changes_nothing():
    tracker = tracker_of()
    tracker.update(pairs_of(Triplet(ann(0), mug(ann(0)))), 0.0)
    with pytest.raises(ValueError, match="verbs must be"):
        tracker.update(pairs_of(Triplet(ann(0), mug(ann(0)), verb=NUM_VERBS)), 0.1)
    assert identities(tracker.update(pairs_of(Triplet(ann(0), mug(ann(0)))), 0.05)) == [(1, 1, 2)]


def test_tracker_without_vocabulary_learns_the_number_of_verbs():
    """As of the tracker that knew from the start, in every column that both have."""
    knowing, learning = tracker_of(), PairTracker()
    for index, verb in enumerate([KICK, KICK, HOLD, HUG, KICK, HOLD] * 5):
        scene = pairs_of(Triplet(ann(index / 10), mug(ann(index / 10)), verb=verb))
        known, learned = knowing.update(scene, index / 10), learning.update(scene, index / 10)
        columns = learned.verb_scores.shape[1]
        assert columns == (KICK + 1 if index < 3 else HUG + 1)
        np.testing.assert_array_equal(learned.verb_scores, known.verb_scores[:, :columns])
        np.testing.assert_array_equal(learned.verb_active, known.verb_active[:, :columns])
        assert learning.take_events() == knowing.take_events()
    assert identities(learned) == [(1, 1, 2)]


@pytest.mark.parametrize("verb", [-1, 10**12])
def test_impossible_verb_is_refused_also_without_a_vocabulary(verb):
    with pytest.raises(ValueError, match="verbs must be"):
        PairTracker().update(pairs_of(Triplet(ann(0), mug(ann(0)), verb=verb)), 0.0)


def test_events_are_taken_once():
    tracker = tracker_of(verb=SEEN_AT_ONCE)
    tracker.update(pairs_of(Triplet(ann(0), mug(ann(0)))), 0.0)
    tracker.update(pairs_of(Triplet(ann(0), mug(ann(0)), verb_score=0.1)), 0.1)
    assert kinds(tracker.take_events()) == [("start", 1, HOLD), ("end", 1, HOLD)]
    assert tracker.take_events() == ()


BOX = arrays(np.float32, 4, elements=st.one_of(st.floats(0, 300, width=32), extreme_32, st.floats(width=32)))
SCORE = st.one_of(st.floats(0, 1), st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308]))
ROWS = st.lists(st.tuples(BOX, BOX, st.integers(-1, 3), st.integers(0, NUM_VERBS - 1), SCORE, SCORE), max_size=5)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(clip=st.lists(st.tuples(st.floats(0, 1), ROWS, st.booleans()), max_size=8))
def test_pairs_are_unique_and_events_alternate_for_any_input(clip):
    tracker, now = tracker_of(verb=SEEN_AT_ONCE), 0.0
    going: set[tuple[int, int]] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for wait, rows, inferred in clip:
            now += wait
            triplets = [Triplet(tuple(h), tuple(o), label, verb, *scores) for h, o, label, verb, *scores in rows]
            pairs = tracker.update(pairs_of(*triplets), now) if inferred else tracker.predict(now)
            assert (np.diff(pairs.pair) > 0).all()
            assert np.isfinite(pairs.human_boxes_xyxy).all()
            assert np.isfinite(pairs.object_boxes_xyxy).all()
            assert ((pairs.verb_scores >= 0) & (pairs.verb_scores <= 1)).all()
            follow(going, tracker.take_events(), now)
    follow(going, tracker.finish(), now)
    assert not going


def follow(going: set[tuple[int, int]], events: Iterable[Event], now: float) -> None:
    """Starts what is not going on, ends what is; raises KeyError for anything else."""
    for event in events:
        key = (event.pair, event.verb_index)
        assert (event.event == "start") == (key not in going)
        assert event.start_s <= event.evidence_s[-1] <= now
        assert event.start_s <= event.pts_s <= now
        change = going.add if event.event == "start" else going.remove
        change(key)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_verb_score": -0.1},
        {"min_score": 1.5},
        {"same_overlap": 0.0},
        {"hold_s": -1.0},
        {"lost_after_s": 0.0},
        {"num_verbs": -1},
        {"quiet_verbs": (-1,)},
    ],
)
def test_invalid_track_config_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrackConfig(**wrong)
