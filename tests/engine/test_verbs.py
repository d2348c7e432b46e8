"""Verb scores over time, and the start and end of verbs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip_engine.track.verbs import RunningAverage, VerbChange, VerbConfig, VerbHistory, VerbSwitch
from tests.engine.scenes import times

ROW = np.array([0])


def average_of(scores: list[float], pts_s: list[float], half_life_s: float) -> list[float]:
    average = RunningAverage(1, half_life_s)
    average.add(1)
    return [float(average.observe(ROW, np.array([[x]]), t)[0, 0]) for x, t in zip(scores, pts_s, strict=True)]


def changes_of(score_at: Callable[[float], float], pts_s: list[float], config: VerbConfig) -> list[tuple[bool, float]]:
    """Starts and ends of one verb whose raw score is a function of time."""
    average, switch = RunningAverage(1, config.half_life_s), VerbSwitch(1, config)
    average.add(1)
    switch.add(1)
    changes: list[VerbChange] = []
    for t in pts_s:
        changes += switch.observe(ROW, average.observe(ROW, np.array([[score_at(t)]]), t), t)
    return [(change.starts, change.pts_s) for change in changes]


def test_average_halves_in_a_half_life():
    long_ago = [1.0] * 300
    result = average_of([*long_ago, 0.0, 0.0, 0.0], [*np.arange(300) / 10, 30.9, 31.9, 32.9], half_life_s=1.0)
    assert result[299] == pytest.approx(1.0)
    np.testing.assert_allclose(result[300:], [0.5, 0.25, 0.125], rtol=1e-3)


def test_first_score_counts_until_the_second():
    result = average_of([0.9, 0.1, 0.1], [0.0, 0.1, 0.2], half_life_s=0.2)
    assert result == pytest.approx([0.9, 0.1, 0.1])


def test_half_life_of_zero_averages_nothing():
    assert average_of([0.2, 0.9, 0.4], [0.0, 0.1, 0.1], half_life_s=0.0) == [0.2, 0.9, 0.4]


def test_second_score_at_the_same_time_changes_nothing():
    assert average_of([0.5, 0.9, 0.9], [0.0, 0.0, 0.0], half_life_s=0.2) == [0.5, 0.5, 0.5]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    inferences=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), min_size=1, max_size=12),
    half_life_s=st.sampled_from([0.0, 0.05, 0.3, 10.0]),
)
def test_average_stays_between_its_scores(inferences, half_life_s):
    scores = [score for _, score in inferences]
    result = average_of(scores, np.cumsum([wait for wait, _ in inferences]).tolist(), half_life_s)
    assert min(scores) - 1e-9 <= min(result)
    assert max(result) <= max(scores) + 1e-9


FRAME_RATES = pytest.mark.parametrize(("fps", "jitter"), [(15, 0), (30, 0), (60, 0), (25, 0.8)])


def switched_at(scores: list[float], doubt: float, config: VerbConfig) -> list[tuple[bool, float]]:
    """Starts and ends of one verb with these averaged scores at 10 frames per second, and when they are noticed."""
    switch = VerbSwitch(1, config)
    switch.add(1)
    found = [(n / 10, switch.observe(ROW, np.array([[score]]), n / 10, doubt)) for n, score in enumerate(scores)]
    return [(change.starts, noticed_s) for noticed_s, changes in found for change in changes]


def test_one_inference_suffices_where_active_and_inactive_clearly_differ():
    scores = [0.0, 0.9, *[0.9] * 14, 0.0, 0.0]
    assert switched_at(scores, 0.1, VerbConfig()) == [(True, 0.1), (False, 1.6)]
    assert switched_at(scores, 0.5, VerbConfig()) == [(True, 0.2), (False, 1.7)]


@pytest.mark.parametrize("blip", [0.9, 0.0])
def test_one_inference_never_undoes_what_has_just_changed(blip):
    """Neither a miss of a moment in what has just begun, nor a blip right after what has ended."""
    before = [0.0, 0.9] if blip == 0 else [0.0, *[0.9] * 15, 0.0]
    scores = [*before, *[before[-1]] * 3, blip, *[before[-1]] * 3]
    expected = switched_at([*before, *[before[-1]] * 7], 0.1, VerbConfig(settle_s=0.0))
    assert switched_at(scores, 0.1, VerbConfig(settle_s=0.0)) == expected


@FRAME_RATES
def test_verb_starts_and_ends_at_the_same_time_at_every_frame_rate(fps, jitter):
    """From 1 s to 3 s: exactly, the average needs 0.2 s · log2(0.8/0.4) up and 0.2 s · log2(0.8/0.25) down."""
    config = VerbConfig(start_score=0.4, end_score=0.25, half_life_s=0.2, min_duration_s=0.2)
    pts_s = times(fps, 5, jitter=jitter)
    changes = changes_of(lambda t: 0.8 if 1 <= t < 3 else 0.0, pts_s, config)
    assert [starts for starts, _ in changes] == [True, False]
    period = max(np.diff(pts_s))
    assert changes[0][1] == pytest.approx(1 + 0.2 * np.log2(0.8 / 0.4), abs=period)
    assert changes[1][1] == pytest.approx(3 + 0.2 * np.log2(0.8 / 0.25), abs=period)
    assert {t for _, t in changes} <= set(pts_s)


@FRAME_RATES
@pytest.mark.parametrize("blip_s", [0.0, 1.0])
def test_single_wrong_frame_starts_no_verb(fps, jitter, blip_s):
    pts_s = times(fps, 3, jitter=jitter)
    blip = min(t for t in pts_s if t >= blip_s)
    assert changes_of(lambda t: float(t == blip), pts_s, VerbConfig()) == []
    assert changes_of(lambda t: float(t >= blip), pts_s, VerbConfig()) != []


@FRAME_RATES
def test_single_missing_frame_ends_no_verb(fps, jitter):
    pts_s = times(fps, 3, jitter=jitter)
    hole = min(t for t in pts_s if t >= 2)
    assert [starts for starts, _ in changes_of(lambda t: 0.8 * (t != hole), pts_s, VerbConfig())] == [True]


def test_score_between_the_thresholds_keeps_the_state():
    config = VerbConfig(start_score=0.6, end_score=0.3, half_life_s=0.0, min_duration_s=0.0)
    scores = {0.0: 0.5, 1.0: 0.7, 2.0: 0.45, 3.0: 0.2, 4.0: 0.45}
    assert changes_of(scores.__getitem__, list(scores), config) == [(True, 1.0), (False, 3.0)]


@pytest.mark.parametrize(("score", "ended_s"), [(0.29, 0.7), (0.0, 0.3)])
def test_new_verb_ends_late_where_its_score_is_barely_too_low(score, ended_s):
    """From 0.2 s on; the clearer, the sooner."""
    config = VerbConfig(start_score=0.6, end_score=0.3, half_life_s=0.0, min_duration_s=0.0, settle_s=0.5)
    changes = changes_of(lambda t: 0.9 if t < 0.2 else score, [n / 10 for n in range(12)], config)
    assert [starts for starts, _ in changes] == [True, False]
    assert changes[1][1] == pytest.approx(ended_s, abs=0.11)


def test_start_is_dated_back_to_the_rise_of_the_score():
    config = VerbConfig(start_score=0.5, end_score=0.5, half_life_s=0.0, min_duration_s=0.25)
    switch = VerbSwitch(1, config)
    switch.add(1)
    seen = [(t, switch.observe(ROW, np.array([[0.9]]), t)) for t in (0.0, 0.1, 0.2, 0.3)]
    assert [t for t, changes in seen if changes] == [0.3]
    history = VerbHistory(start_s=0.0, peak_score=0.9, evidence_s=(0.0, 0.3))
    assert seen[-1][1] == [VerbChange(row=0, verb=0, starts=True, pts_s=0.0, history=history)]


def test_end_holds_start_peak_and_evidence():
    config = VerbConfig(start_score=0.6, end_score=0.3, half_life_s=0.0, min_duration_s=0.1, settle_s=0.0)
    scores = {0.0: 0.9, 0.1: 0.1, 1.0: 0.6, 1.1: 0.8, 1.2: 0.7, 1.3: 0.5, 1.4: 0.2}  # the blip at 0.0 is forgotten
    switch = VerbSwitch(1, config)
    switch.add(1)
    changes = [change for t, score in scores.items() for change in switch.observe(ROW, np.array([[score]]), t)]
    assert [(change.starts, change.pts_s) for change in changes] == [(True, 1.0), (False, 1.4)]
    assert changes[1].history == VerbHistory(start_s=1.0, peak_score=0.8, evidence_s=(1.0, 1.1, 1.2))


def test_second_event_of_a_verb_is_independent_of_the_first():
    config = VerbConfig(start_score=0.5, end_score=0.5, half_life_s=0.0, min_duration_s=0.0)
    switch = VerbSwitch(1, config)
    switch.add(1)
    scores = (0.9, 0.1, 0.6, 0.1)
    changes = [
        change for t, score in enumerate(scores) for change in switch.observe(ROW, np.array([[score]]), float(t))
    ]
    assert [change.history.peak_score for change in changes] == [0.9, 0.9, 0.6, 0.6]
    assert changes[-1].history.evidence_s == (2.0,)


def test_verbs_have_their_own_thresholds_and_further_verbs_the_default():
    config = VerbConfig(half_life_s=0.0, min_duration_s=0.0, start_scores=(0.2, 0.8), end_scores=(0.1, 0.7))
    switch = VerbSwitch(2, config)
    switch.widen(3)
    switch.add(1)
    heard = [
        [(change.verb, change.starts) for change in switch.observe(ROW, np.full((1, 3), score), t)]
        for t, score in ((0.0, 0.3), (1.0, 0.5), (2.0, 0.85), (3.0, 0.6), (4.0, 0.12), (5.0, 0.05))
    ]
    assert heard == [[(0, True)], [(2, True)], [(1, True)], [(1, False)], [(2, False)], [(0, False)]]


def test_dropped_rows_leave_others_unchanged():
    config = VerbConfig(half_life_s=0.0, min_duration_s=0.0)
    average, switch = RunningAverage(2, 0.0), VerbSwitch(2, config)
    for part in (average, switch):
        part.add(3)
    rows = np.arange(3)
    scores = np.array([[0.9, 0.0], [0.0, 0.9], [0.9, 0.9]])
    switch.observe(rows, average.observe(rows, scores, 0.0), 0.0)
    for part in (average, switch):
        part.keep(np.array([True, False, True]))
        part.add(1)
    np.testing.assert_array_equal(average.mean, [[0.9, 0], [0.9, 0.9], [0, 0]])
    assert [switch.active_verbs(row) for row in range(3)] == [[0], [0, 1], []]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"start_score": 0.2, "end_score": 0.3}, "end_score"),
        ({"start_score": 1.2}, "start_score"),
        ({"min_duration_s": -1.0}, "min_duration_s"),
        ({"half_life_s": float("nan")}, "half_life_s"),
        ({"start_scores": (0.5,)}, "end_scores"),
        ({"start_scores": (0.5,), "end_scores": (0.6,)}, "end <= start"),
    ],
)
def test_invalid_verb_config_is_refused(wrong, word):
    with pytest.raises(ValueError, match=word):
        VerbConfig(**wrong)
