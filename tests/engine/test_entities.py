"""Identities of single boxes over time."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hoiclip_engine.track.entities import EntityConfig, EntityTracker
from hoiclip_kernels.box_iou import box_iou
from tests.engine.extreme_numbers import extreme_64
from tests.engine.scenes import box_at, times

SEEN_AT_ONCE = EntityConfig(sure_score=0.8, high_score=0.3, low_score=0.1, reach=2.0)


def see(tracker: EntityTracker, pts_s: float, *boxes, score: float = 0.9, label: int = 0) -> list[int]:
    return tracker.update(list(boxes), [score] * len(boxes), [label] * len(boxes), pts_s).tolist()


FRAME_RATES = pytest.mark.parametrize(("fps", "jitter"), [(15, 0), (30, 0), (60, 0), (25, 0.8)])


def test_sure_detection_has_an_id_at_once_and_keeps_it():
    tracker = EntityTracker(SEEN_AT_ONCE)
    for index in range(10):
        assert see(tracker, index / 30, box_at(100 + index, 100), box_at(300, 100)) == [1, 2]


def test_track_needs_two_detections_by_default_and_survives_a_faint_one():
    tracker = EntityTracker()
    assert see(tracker, 0.0, box_at(100, 100), score=0.99) == [-1]
    assert see(tracker, 0.1, box_at(102, 100), score=0.8) == [1]
    assert see(tracker, 0.2, box_at(104, 100), score=0.05) == [1]
    assert see(tracker, 0.3, box_at(300, 100), score=0.6) == [-1]


def test_faint_detection_does_not_revive_a_track_lost_too_long():
    for patient_s, ids in ((0.5, [-1]), (1.0, [1])):
        tracker = EntityTracker(replace(SEEN_AT_ONCE, faint_within_s=patient_s))
        assert see(tracker, 0.0, box_at(100, 100)) == [1]
        assert see(tracker, 0.1) == see(tracker, 0.4) == []
        assert see(tracker, 0.8, box_at(100, 100), score=0.2) == ids


def test_faint_detection_at_the_next_inference_prolongs_at_any_interval():
    tracker = EntityTracker(replace(SEEN_AT_ONCE, faint_within_s=0.5, lost_after_s=3.0))
    assert see(tracker, 0.0, box_at(100, 100)) == [1]
    assert see(tracker, 2.0, box_at(100, 100), score=0.2) == [1]


@pytest.mark.parametrize("turn_deg", [0.0, 3.0])
def test_tracks_jump_with_the_camera(turn_deg):
    """The jump is larger than the boxes; without known camera motion it is a cut, and all ids are new."""
    angle = np.deg2rad(turn_deg)
    turn = 1.1 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.concatenate([turn, [[150.0], [-90.0]]], axis=1)

    def where(t: float, jumped: bool) -> list[tuple[float, ...]]:
        centres = np.array([[100 + 40 * t, 100], [300 - 30 * t, 120]])
        if jumped:
            centres = centres @ turn.T + affine[:, 2]
        side = (66, 132) if jumped else (60, 120)
        return [tuple(box_at(*centre, *side)) for centre in centres]

    for known, ids in ((True, [1, 2]), (False, [3, 4])):
        tracker = EntityTracker(SEEN_AT_ONCE)
        for t in times(10, 2):
            assert see(tracker, t, *where(t, False)) == [1, 2]
        if known:
            tracker.move_camera(affine)
            for before, after in zip(where(1.9, True), tracker.predict(1.9).boxes_xyxy, strict=True):
                np.testing.assert_allclose(after, before, atol=3)  # the filter lags by a fraction of a frame
        assert see(tracker, 2.0, *where(2.0, True)) == ids


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(3),
        np.full((2, 3), np.nan),
        np.zeros((2, 3)),
        np.eye(2, 3) * 1e200,
        np.eye(2, 3) + np.eye(2, 3, 2) * 1e300,
    ],
)
def test_impossible_camera_motion_is_refused(affine):
    with pytest.raises(ValueError, match="affine"):
        EntityTracker().move_camera(affine)


@FRAME_RATES
def test_people_who_cross_keep_their_ids(fps, jitter):
    """Walking towards and past each other at one body width per second; one hides the other where they meet."""
    tracker = EntityTracker(SEEN_AT_ONCE)
    for t in times(fps, 6, jitter=jitter):
        left, right = box_at(100 + 60 * t, 100), box_at(400 - 60 * t, 110)
        seen = {1: left} if abs((100 + 60 * t) - (400 - 60 * t)) < 20 else {1: left, 2: right}
        assert see(tracker, t, *seen.values()) == list(seen)


@FRAME_RATES
@pytest.mark.parametrize(("hidden_s", "same"), [(0.3, True), (0.7, True), (1.5, False)])
def test_id_outlives_a_short_occlusion_but_not_a_long_one(fps, jitter, hidden_s, same):
    tracker = EntityTracker(replace(SEEN_AT_ONCE, lost_after_s=1.0))
    ids = []
    for t in times(fps, 4, jitter=jitter):
        hidden = 1.5 < t < 1.5 + hidden_s
        ids.append(see(tracker, t, *([] if hidden else [box_at(100 + 50 * t, 100)])))
    assert ids[0] == [1]
    assert [] in ids
    assert ids[-1] == ([1] if same else [2])


def test_gap_without_frames_longer_than_the_limit_ends_a_track():
    tracker = EntityTracker(replace(SEEN_AT_ONCE, lost_after_s=1.0))
    assert see(tracker, 0.0, box_at(100, 100)) == [1]
    assert see(tracker, 0.9, box_at(100, 100)) == [1]
    assert see(tracker, 2.0, box_at(100, 100)) == [2]


def test_faint_detection_prolongs_a_track_but_starts_none():
    tracker = EntityTracker(SEEN_AT_ONCE)
    assert see(tracker, 0.0, box_at(100, 100), score=0.2) == [-1]
    assert see(tracker, 0.1, box_at(100, 100), score=0.2) == [-1]
    assert see(tracker, 0.2, box_at(100, 100), score=0.9) == [1]
    assert see(tracker, 0.3, box_at(100, 100), score=0.2) == [1]
    assert see(tracker, 0.4, box_at(100, 100), score=0.05) == [-1]


def test_middling_detection_becomes_a_track_when_it_is_seen_again():
    tracker = EntityTracker(SEEN_AT_ONCE)
    assert see(tracker, 0.0, box_at(100, 100), score=0.4) == [-1]
    assert see(tracker, 0.1, box_at(102, 100), score=0.4) == [1]


def test_middling_detection_seen_once_leaves_neither_a_ghost_nor_a_gap_in_the_ids():
    tracker = EntityTracker(replace(SEEN_AT_ONCE, confirm_within_s=0.3))
    assert see(tracker, 0.0, box_at(100, 100), score=0.4) == [-1]
    assert len(tracker.predict(0.0).ids) == 0
    assert see(tracker, 0.4) == []
    assert see(tracker, 0.5, box_at(100, 100), score=0.4) == [-1]
    assert see(tracker, 0.6, box_at(300, 100)) == [1]


def test_middling_detection_is_confirmed_at_long_detection_intervals():
    tracker = EntityTracker(replace(SEEN_AT_ONCE, confirm_within_s=0.3, lost_after_s=1.0))
    assert see(tracker, 0.0, box_at(100, 100), score=0.4) == [-1]
    assert see(tracker, 0.8, box_at(100, 100), score=0.4) == [1]


def test_box_of_another_label_is_another_object():
    tracker = EntityTracker(SEEN_AT_ONCE)
    assert see(tracker, 0.0, box_at(100, 100), label=3) == [1]
    assert see(tracker, 0.1, box_at(100, 100), label=4) == [2]
    assert see(tracker, 0.2, box_at(100, 100), label=3) == [1]


@pytest.mark.parametrize(("score", "first"), [(0.9, [1]), (0.4, [-1])])
def test_ball_faster_than_its_own_size_per_inference_is_followed(score, first):
    """36 pixels between inferences, 30 wide."""
    tracker = EntityTracker(SEEN_AT_ONCE)
    ids = [see(tracker, t, box_at(50 + 180 * t, 50, 30, 30), score=score) for t in times(5, 4)]
    assert ids == [first] + [[1]] * 19


def test_static_object_is_not_confused_with_its_neighbour():
    """Of two chairs side by side, one is hidden just when the other is seen for the first time."""
    tracker = EntityTracker(SEEN_AT_ONCE)
    left, right = box_at(100, 100, 60, 60), box_at(165, 100, 60, 60)
    assert [see(tracker, t, left) for t in times(10, 3)] == [[1]] * 30
    assert see(tracker, 3.0, right) == [2]
    assert see(tracker, 3.1, right, left) == [2, 1]


@FRAME_RATES
def test_prediction_moves_boxes_between_inferences(fps, jitter):
    """With inference at every fifth frame and steady walking, predicted boxes stay on the person."""
    tracker = EntityTracker(SEEN_AT_ONCE)
    worst = 1.0
    for index, t in enumerate(times(fps, 4, jitter=jitter)):
        true_box = np.array([box_at(100 + 80 * t, 100)])
        if index % 5 == 0:
            assert see(tracker, t, true_box[0]) == [1]
        here = tracker.predict(t)
        assert here.ids.tolist() == [1]
        if t > 1:
            worst = min(worst, float(box_iou(here.boxes_xyxy, true_box)[0, 0]))
    assert worst > 0.85


def test_prediction_changes_nothing():
    asked, silent = EntityTracker(SEEN_AT_ONCE), EntityTracker(SEEN_AT_ONCE)
    for index in range(20):
        box = box_at(100 + 3 * index, 100 + index)
        assert see(asked, index / 10, box) == see(silent, index / 10, box)
        for later in (0.01, 0.05, 0.09, 5.0):
            asked.predict(index / 10 + later)
    np.testing.assert_array_equal(asked.predict(2.0).boxes_xyxy, silent.predict(2.0).boxes_xyxy)


def test_new_image_size_changes_no_id_and_scales_places_sizes_and_motion():
    tracker, scale = EntityTracker(SEEN_AT_ONCE), np.array([0.5, 3.0, 0.5, 3.0])

    def box(t: float) -> np.ndarray:
        return np.array(box_at(200 + 100 * t, 200 + 20 * t))

    assert [see(tracker, t, box(t)) for t in times(20, 2)] == [[1]] * 40
    before = tracker.predict(2.3).boxes_xyxy
    tracker.rescale(0.5, 3.0)
    np.testing.assert_allclose(tracker.predict(2.3).boxes_xyxy, before * scale, rtol=1e-4)
    assert see(tracker, 2.3, box(2.3) * scale) == [1]


@pytest.mark.parametrize("scale", [(0.0, 1.0), (1.0, float("nan")), (-1.0, 1.0), (1.0, 1e300), (1e-300, 1.0)])
def test_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match="scales must be positive"):
        EntityTracker().rescale(*scale)


def test_time_may_stand_still_but_not_run_backwards():
    tracker = EntityTracker(SEEN_AT_ONCE)
    assert see(tracker, 1.0, box_at(100, 100)) == [1]
    assert see(tracker, 1.0, box_at(100, 100)) == [1]
    for bad in (0.99, float("nan"), float("inf"), -1e308, 1e308):
        with pytest.raises(ValueError, match="time must"):
            see(tracker, bad, box_at(100, 100))
        with pytest.raises(ValueError, match="time must"):
            tracker.predict(bad)
    assert see(tracker, 1.1, box_at(100, 100)) == [1]


@pytest.mark.parametrize(
    "box",
    [
        [np.nan] * 4,
        [0, 0, np.inf, 9],
        [5, 5, 5, 9],
        [9, 9, 5, 5],
        [0, 0, 1e12, 1e12],
        [-1e308, -1e308, 1e308, 1e308],
        [0, 0, 5e-324, 5e-324],
    ],
)
def test_unusable_box_is_ignored(box):
    tracker = EntityTracker(SEEN_AT_ONCE)
    good = box_at(100, 100)
    assert see(tracker, 0.0, good) == [1]
    assert see(tracker, 0.1, box, good) == [-1, 1]
    assert np.isfinite(tracker.predict(0.2).boxes_xyxy).all()


@pytest.mark.parametrize(
    ("boxes", "scores", "labels"),
    [(np.zeros((2, 3)), [1, 1], [0, 0]), (np.zeros((2, 4)), [1], [0, 0]), ([1], [1], [1])],
)
def test_arrays_that_do_not_fit_are_refused(boxes, scores, labels):
    with pytest.raises(ValueError, match="expected boxes"):
        EntityTracker().update(boxes, scores, labels, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [{"low_score": 0.8}, {"min_overlap": 0.0}, {"min_overlap_low": 1.1}, {"lost_after_s": 0.0}, {"reach": -1.0}],
)
def test_invalid_entity_config_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EntityConfig(**wrong)


def test_ids_of_hundreds_of_boxes_are_kept():
    rng = np.random.default_rng(0)
    centre = np.stack(np.meshgrid(np.arange(20) * 100, np.arange(15) * 100), axis=-1).reshape(-1, 2)
    speed = rng.uniform(-10, 10, centre.shape)
    tracker = EntityTracker(SEEN_AT_ONCE)
    for index in range(8):
        place = centre + speed * index / 10 + rng.normal(0, 1, centre.shape)
        order = rng.permutation(len(place))
        boxes = np.concatenate([place - 30, place + 30], axis=1)[order]
        ids = tracker.update(boxes, np.full(300, 0.9), np.zeros(300, int), index / 10)
        if index == 0:
            first = ids[np.argsort(order)]
        np.testing.assert_array_equal(ids[np.argsort(order)], first)
    assert sorted(first.tolist()) == list(range(1, 301))


detection = st.tuples(
    arrays(np.float64, 4, elements=st.one_of(st.floats(0, 300), extreme_64, st.floats())),
    st.one_of(st.floats(0, 1), extreme_64),
    st.integers(0, 1),
)
clip = st.lists(st.tuples(st.floats(0, 2), st.lists(detection, max_size=5)), max_size=8)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(clip=clip)
def test_ids_are_unique_and_reproducible_for_any_input(clip):
    def run() -> list[list[int]]:
        tracker, now, result = EntityTracker(), 0.0, []
        for wait, detections in clip:
            now += wait
            boxes, scores, labels = zip(*detections, strict=True) if detections else ([], [], [])
            result.append(tracker.update(np.array(boxes).reshape(-1, 4), scores, labels, now).tolist())
            alive = tracker.predict(now)
            assert np.isfinite(alive.boxes_xyxy).all()
            assert (np.diff(alive.ids) > 0).all()
        return result

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = run()
        assert frames == run()
    for ids in frames:
        named = [i for i in ids if i != -1]
        assert len(set(named)) == len(named)
        assert all(i >= 1 for i in named)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    maps=st.lists(
        st.one_of(
            st.tuples(extreme_64, extreme_64),
            st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)),
            arrays(np.float64, (2, 3), elements=st.one_of(st.floats(-1e3, 1e3), extreme_64)),
        ),
        max_size=60,
    ),
    again=st.integers(1, 400),
)
def test_tracks_stay_finite_for_any_camera_motion_and_size(maps, again):
    tracker = EntityTracker(SEEN_AT_ONCE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pts_s in (0.0, 0.1):
            see(tracker, pts_s, box_at(100 + 50 * pts_s, 100), box_at(500, 100))
        for change in maps * again:
            try:
                if isinstance(change, tuple):
                    tracker.rescale(*change)
                else:
                    tracker.move_camera(change)
            except ValueError:
                break
        known = tracker.predict(0.2)
        assert np.isfinite(known.boxes_xyxy).all()
        assert known.ids.tolist() == [1, 2]
        see(tracker, 0.2, box_at(100, 100))
        assert np.isfinite(tracker.predict(0.2).boxes_xyxy).all()


def test_tracking_imports_neither_torch_nor_a_decoder_nor_a_backend():
    names = "EntityTracker, EntityConfig, PairTracker, TrackConfig, VerbConfig"
    heavy = ("torch", "av", "cv2", "onnxruntime", "openvino", "hoiclip_engine.backends", "hoiclip_engine.engine")
    code = f"from hoiclip_engine.track import {names}; sys.exit(str([m for m in {heavy} if m in sys.modules] or 0))"
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip() == "0"
