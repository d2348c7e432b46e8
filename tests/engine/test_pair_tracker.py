"""Pairs that keep their identity through a stream, and the events they make."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hoiclip_engine.track.verbs import VerbConfig
from hoiclip_kernels.box_iou import box_iou
from tests.engine.scenes import BIKE, CUP, HOLD, HUG, KICK, PERSON, RIDE, Triplet, box_at, pairs_of, times
from tests.engine.tracker_runs import (
    FRAME_RATES,
    SEEN_AT_ONCE,
    ann,
    bob,
    identities,
    kinds,
    mug,
    play,
    tracker_of,
)


def test_pair_begins_with_a_verb_score_and_then_stays():
    def script(t):
        return [Triplet(ann(t), mug(ann(t)), verb=HOLD, verb_score=0.8 if 1 <= t < 1.5 else 0.05)]

    pts_s = times(30, 3)
    frames, _ = play(tracker_of(min_verb_score=0.1), script, pts_s)
    shown = [len(pairs) for pairs in frames]
    first = shown.index(1)
    assert pts_s[first] == pytest.approx(1.0, abs=1 / 30)
    assert shown == [0] * first + [1] * (len(shown) - first)


@FRAME_RATES
def test_pair_has_one_id_and_one_start_and_one_end_at_every_frame_rate(fps, jitter):
    def script(t):
        verb_score = 0.8 if 1 <= t < 3 else 0.05
        return [Triplet(ann(t), mug(ann(t)), verb=HOLD, verb_score=verb_score)] * 2

    pts_s = times(fps, 5, jitter=jitter)
    verb = VerbConfig(start_score=0.4, end_score=0.25, min_duration_s=0.2, half_life_s=0.2, adapt=False)
    frames, events = play(tracker_of(verb=verb), script, pts_s)
    assert {tuple(identities(pairs)) for pairs in frames} == {((1, 1, 2),)}
    assert kinds(events) == [("start", 1, HOLD), ("end", 1, HOLD)]
    period = max(np.diff(pts_s))
    assert events[0].pts_s == pytest.approx(1.181, abs=period)
    assert events[1].pts_s == pytest.approx(3.381, abs=period)
    assert (events[0].human, events[0].object, events[0].label_index) == (1, 2, CUP)


def test_active_verbs_agree_with_events():
    rng = np.random.default_rng(0)
    going: set[tuple[int, int]] = set()
    tracker = tracker_of(verb=VerbConfig(half_life_s=0.05, min_duration_s=0.0, end_score=0.25, settle_s=0.0))
    count = 0
    for t in times(30, 6):
        triplets = [Triplet(who, mug(who), verb=v, verb_score=rng.random()) for who in (ann(t), bob(t)) for v in (0, 2)]
        pairs = tracker.update(pairs_of(*triplets), t)
        for event in tracker.take_events():
            count += 1
            change = going.add if event.event == "start" else going.remove
            change((event.pair, event.verb_index))
        assert going == {(int(pairs.pair[p]), int(v)) for p, v in np.argwhere(pairs.verb_active)}
    assert count > 20


def test_event_holds_its_start_its_peak_and_the_frames_that_show_it():
    def script(t):
        return [Triplet(ann(t), mug(ann(t)), verb_score=0.9 if round(t, 1) == 1.0 else 0.7)]

    tracker = tracker_of(verb=SEEN_AT_ONCE, lost_after_s=0.5)
    _, events = play(tracker, script, times(10, 2))
    (end,) = tracker.finish()
    assert kinds(events) == [("start", 1, HOLD)]
    assert (events[0].start_s, events[0].pts_s) == (0.0, 0.0)
    assert (end.start_s, end.peak_score, end.pts_s) == (0.0, 0.9, 1.9)
    assert end.evidence_s == (0.0, 1.0, 1.9)


@FRAME_RATES
@pytest.mark.parametrize("hidden", ["human", "object"])
def test_pair_outlives_the_occlusion_of_either_member(fps, jitter, hidden):
    """While the first is hidden the other is seen with another member, or alone."""

    def script(t):
        whole = [Triplet(ann(t), mug(ann(t))), Triplet(bob(t), None, verb=RIDE)]
        if not 1 < t < 1.7:
            return whole
        return [Triplet(bob(t), mug(ann(t)))] if hidden == "human" else [Triplet(ann(t), None, verb=RIDE), whole[1]]

    frames, _ = play(tracker_of(), script, times(fps, 3, jitter=jitter))
    assert (1, 1, 3) in identities(frames[0])
    assert (1, 1, 3) in identities(frames[-1])
    humans = {human for pairs in frames for human in pairs.human.tolist()}
    assert len(humans) == 2
    assert {target for pairs in frames for target in pairs.object.tolist()} == {3, -1}


@FRAME_RATES
def test_people_who_cross_keep_what_they_carry(fps, jitter):
    """One passes behind the other, who hides him and his mug for a moment."""

    def walker(t, way):
        return tuple(box_at(200 + way * 80 * (t - 2), 100 + 5 * way))

    def script(t):
        near, far = walker(t, 1), walker(t, -1)
        behind = abs(t - 2) < 0.25
        return [Triplet(near, mug(near))] + ([] if behind else [Triplet(far, mug(far), label=BIKE)])

    frames, _ = play(tracker_of(), script, times(fps, 4, jitter=jitter))
    assert len(frames[0]) == 2
    assert identities(frames[-1]) == identities(frames[0])
    assert frames[-1].label.tolist() == frames[0].label.tolist()


def test_identities_and_events_are_the_same_at_all_frame_rates_and_uneven_times():
    def script(t):
        holds = 0.8 if 1 <= t < 2.5 else 0.05
        found = [Triplet(ann(t), mug(ann(t)), verb_score=holds), Triplet(bob(t), mug(bob(t)), verb=KICK)]
        return found if t < 3 else found[1:]

    seen = []
    for fps, jitter in ((15, 0), (30, 0), (60, 0), (25, 0.8)):
        tracker = tracker_of()
        frames, events = play(tracker, script, times(fps, 4.5, jitter=jitter))
        seen.append((identities(frames[0]), identities(frames[-1]), kinds(events), kinds(tracker.finish())))
    assert all(outcome == seen[0] for outcome in seen)
    assert len(seen[0][0]) == 2


def test_shaken_camera_changes_no_identity_with_camera_motion():
    """An object smaller than the shake, whose surroundings show the camera's motion."""
    rng = np.random.default_rng(5)
    world = cv2.GaussianBlur(rng.integers(0, 255, (600, 800, 3), np.uint8), (0, 0), 9)
    world = cv2.normalize(world, None, 0, 255, cv2.NORM_MINMAX)
    pairs_seen = {}
    for follows in (True, False):
        tracker = tracker_of(camera_motion=follows)
        shakes = np.random.default_rng(1)
        for t in times(10, 3):
            x, y = (int(v) for v in shakes.integers(0, 45, 2))
            tracker.see(np.ascontiguousarray(world[y : y + 400, x : x + 500]))
            human, cup = box_at(300 - x, 250 - y, 60, 120), box_at(340 - x, 250 - y, 24, 24)
            tracker.update(pairs_of(Triplet(human, cup)), t)
        pairs_seen[follows] = tracker.pair_count
    assert pairs_seen[True] == 1
    assert pairs_seen[False] > 3


def test_mug_handed_over_is_the_same_mug_in_a_new_pair():
    def script(t):
        x = np.interp(t, [2, 4], [ann(2)[2], bob(4)[0]])
        owner = ann(t) if t < 3 else bob(t)
        target = mug(ann(t)) if t < 2 else box_at(x, 100, 24, 24)
        return [Triplet(owner, target), Triplet(bob(t) if t < 3 else ann(t), None, verb=RIDE, score=0.6)]

    frames, events = play(tracker_of(verb=SEEN_AT_ONCE), script, times(30, 5))
    held = {(e.pair, e.human, e.object) for e in events if e.verb_index == HOLD and e.event == "start"}
    pairs, humans, objects = zip(*sorted(held), strict=True)
    assert len(held) == 2
    assert len(set(pairs)) == len(set(humans)) == 2
    assert len(set(objects)) == 1
    assert len(frames[-1]) == 2


def test_person_with_two_objects_is_two_pairs_of_one_human():
    bike = box_at(110, 160, 120, 60)
    frames, _ = play(
        tracker_of(),
        lambda t: [Triplet(box_at(100, 100), bike, label=BIKE, verb=RIDE), Triplet(box_at(100, 100), mug(ann(0)))],
        times(30, 1),
    )
    last = frames[-1]
    assert len(set(last.pair.tolist())) == 2
    assert len(set(last.human.tolist())) == 1
    assert sorted(last.label.tolist()) == [CUP, BIKE]


def test_object_with_two_persons_is_two_pairs_of_one_object():
    bench = box_at(200, 150, 200, 40)
    frames, _ = play(
        tracker_of(), lambda t: [Triplet(p(t), bench, label=BIKE, verb=RIDE) for p in (ann, bob)], times(30, 1)
    )
    assert len(set(frames[-1].human.tolist())) == 2
    assert len(set(frames[-1].object.tolist())) == 1


def test_people_who_hug_are_named_by_their_human_ids():
    def script(t):
        return [
            Triplet(ann(t), bob(t), label=PERSON, verb=HUG),
            Triplet(bob(t), ann(t), label=PERSON, verb=HUG),
            Triplet(ann(t), mug(ann(t))),
        ]

    frames, _ = play(tracker_of(), script, times(30, 1))
    last = frames[-1]
    hugs = last.label == PERSON
    assert sorted(last.human[hugs].tolist()) == sorted(last.object[hugs].tolist())
    assert last.human[~hugs].item() in last.human[hugs]


def test_person_without_object_is_a_pair_with_the_same_box_twice():
    frames, _ = play(tracker_of(), lambda t: [Triplet(ann(t), None, verb=RIDE)], times(30, 1))
    last = frames[-1]
    assert identities(last) == [(1, 1, -1)]
    assert last.label.tolist() == [-1]
    np.testing.assert_array_equal(last.human_boxes_xyxy, last.object_boxes_xyxy)


@FRAME_RATES
@pytest.mark.parametrize(("hidden_s", "pair"), [(0.6, 1), (1.4, 2)])
def test_pair_outlives_a_short_disappearance_but_not_a_long_one(fps, jitter, hidden_s, pair):
    tracker = tracker_of(lost_after_s=1.0)
    frames, _ = play(
        tracker,
        lambda t: [] if 2 < t < 2 + hidden_s else [Triplet(ann(t), mug(ann(t)))],
        times(fps, 4, jitter=jitter),
    )
    assert frames[0].pair.tolist() == [1]
    assert frames[-1].pair.tolist() == [pair]
    assert tracker.pair_count == pair


@pytest.mark.parametrize(("every", "held_s"), [(1, 0.0), (3, 0.15)])
def test_pair_that_is_missed_is_held_as_long_as_the_detector_may_have_missed_it(every, held_s):
    """Found at every inference, a pair has left once it is missed; found at every third, it is probably present."""
    tracker = tracker_of(lost_after_s=1.0)
    shown = {}
    for index, t in enumerate(times(20, 3)):
        found = t < 2 and index % every == 0
        pairs = tracker.update(pairs_of(*([Triplet(ann(t), mug(ann(t)))] if found else [])), t)
        shown[index] = len(pairs)
    last = max(index for index, count in shown.items() if count)
    assert all(shown[index] for index in range(20, 40))
    assert last >= 39 + 20 * held_s
    assert last <= 39 + 20 * (held_s + 0.4)


@pytest.mark.parametrize("inferred", [True, False], ids=["empty inferences", "predictions"])
def test_end_by_disappearance_carries_the_time_last_seen(inferred):
    tracker = tracker_of(lost_after_s=0.5, verb=SEEN_AT_ONCE)
    events = []
    for t in times(20, 3):
        if t < 1:
            tracker.update(pairs_of(Triplet(ann(t), mug(ann(t)))), t)
        elif inferred:
            tracker.update(pairs_of(), t)
        else:
            tracker.predict(t)
        events += [(t, event) for event in tracker.take_events()]
    assert kinds(event for _, event in events) == [("start", 1, HOLD), ("end", 1, HOLD)]
    emitted_s, end = events[1]
    assert end.pts_s == pytest.approx(0.95)
    assert emitted_s == pytest.approx(1.5)
    assert tracker.finish() == ()


def test_end_of_a_stream_ends_active_verbs_once():
    tracker = tracker_of(verb=SEEN_AT_ONCE)
    tracker.update(pairs_of(Triplet(ann(0), mug(ann(0))), Triplet(bob(0), mug(bob(0)), verb=KICK)), 0.5)
    tracker.predict(0.7)
    closing = tracker.finish()
    assert sorted(kinds(closing)) == [("end", 1, HOLD), ("end", 2, KICK)]
    assert {event.pts_s for event in closing} == {0.5}
    assert tracker.finish() == ()
    assert tracker.pair_count == 2


@FRAME_RATES
def test_ids_are_kept_and_boxes_move_with_inference_at_every_fifth_frame(fps, jitter):
    tracker = tracker_of()

    def person(t):
        return box_at(100 + 80 * t, 100)

    for index, t in enumerate(times(fps, 4, jitter=jitter)):
        inferred = index % 5 == 0
        pairs = tracker.update(pairs_of(Triplet(person(t), mug(person(t)))), t) if inferred else tracker.predict(t)
        assert identities(pairs) == [(1, 1, 2)]
        if t > 1:
            assert box_iou(pairs.human_boxes_xyxy, np.array([person(t)]))[0, 0] > 0.85
            assert box_iou(pairs.object_boxes_xyxy, np.array([mug(person(t))]))[0, 0] > 0.6
    assert tracker.pair_count == 1


def test_pairs_and_events_are_complete_with_inference_every_0_7_seconds():
    tracker = tracker_of(hold_s=0.3, lost_after_s=1.0)
    events = []
    for index in range(40):
        t = index / 10
        pairs = tracker.update(pairs_of(Triplet(ann(t), mug(ann(t)))), t) if index % 7 == 0 else tracker.predict(t)
        events += tracker.take_events()
        assert identities(pairs) == [(1, 1, 2)]
    assert kinds(events) == [("start", 1, HOLD)]


def test_new_image_size_keeps_ids_and_scales_boxes():
    tracker = tracker_of()
    frames, _ = play(tracker, lambda t: [Triplet(ann(t), mug(ann(t)))], times(30, 1))
    scale = np.array([0.25, 2.0, 0.25, 2.0])
    tracker.rescale(0.25, 2.0)
    here = tracker.predict(29 / 30)
    np.testing.assert_allclose(here.human_boxes_xyxy, frames[-1].human_boxes_xyxy * scale, rtol=1e-5)

    def smaller(t):
        return [Triplet(tuple(ann(t) * scale), tuple(mug(ann(t)) * scale))]

    frames, _ = play(tracker, smaller, [1 + t for t in times(30, 1)])
    assert {tuple(identities(pairs)) for pairs in frames} == {((1, 1, 2),)}


def test_output_is_the_same_for_the_same_input():
    def run() -> list[object]:
        rng = np.random.default_rng(7)
        tracker, result = tracker_of(), []
        for t in times(25, 4, jitter=0.5):
            triplets = []
            for n in range(12):
                person = np.add(box_at(60 * (n % 5), 100), rng.normal(0, 4, 4))
                target = np.add(box_at(60 * (n % 4), 120, 30, 30), rng.normal(0, 3, 4))
                triplets.append(
                    Triplet(tuple(person), tuple(target), int(rng.integers(0, 3)), n % 4, rng.random(), rng.random())
                )
            pairs = tracker.update(pairs_of(*triplets), t)
            values = (getattr(pairs, name).tolist() for name in pairs.__dataclass_fields__)
            result.append((*values, tracker.take_events()))
        return [*result, tracker.finish()]

    first = run()
    assert sum(len(frame[0]) for frame in first[:-1]) > 100
    assert first == run()


def test_ids_of_pairs_and_objects_are_never_used_again():
    tracker = tracker_of(lost_after_s=0.2)
    seen_pairs, seen_objects = [], []
    for index in range(10):
        pairs = tracker.update(pairs_of(Triplet(ann(0), mug(ann(0)))), 3.0 * index)
        seen_pairs += pairs.pair.tolist()
        seen_objects += [*pairs.human.tolist(), *pairs.object.tolist()]
    assert seen_pairs == list(range(1, 11))
    assert sorted(seen_objects) == list(range(1, 21))


@pytest.mark.parametrize(("score", "shown"), [(0.25, 0), (0.35, 1), (0.9, 1)])
def test_pair_below_min_score_is_never_shown(score, shown):
    frames, _ = play(tracker_of(min_score=0.3), lambda t: [Triplet(ann(t), mug(ann(t)), score=score)], times(30, 1))
    assert len(frames[-1]) == shown


def test_lower_min_score_shows_fainter_pairs():
    frames, _ = play(tracker_of(min_score=0.05), lambda t: [Triplet(ann(t), mug(ann(t)), score=0.06)], times(30, 1))
    assert len(frames[-1]) == 1
