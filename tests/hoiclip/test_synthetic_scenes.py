"""Scenes and the demo clip of the synthetic world: drawn where the ground truth is, named as in the vocabulary."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.vocabulary import Vocabulary, load_vocabulary
from hoiclip.synthetic import SyntheticFrame, draw_clip, draw_scene
from hoiclip.synthetic.background import BACKDROP_KINDS, Backdrop, draw_backdrop
from hoiclip.synthetic.clip import clip_script
from hoiclip.synthetic.compose import act_out, random_scene
from hoiclip.synthetic.draw import object_outlines, person_outlines
from hoiclip.synthetic.figure import random_appearance
from hoiclip.synthetic.icons import ICON_NAMES, icon, natural_size
from hoiclip.synthetic.repertoire import ACTS, NO_INTERACTION
from hoiclip.synthetic.scene import Person, SceneInteraction, SyntheticScene, random_object
from hoiclip.synthetic.shapes import Box, extent_xyxy
from hoiclip.synthetic.skeleton import SHIN, SOLE, THIGH, Pose, joints, reach
from hoiclip.synthetic.stances import throw, walk

TIGHT_PX = 2.0


@pytest.fixture(scope="module")
def hico() -> Vocabulary:
    return load_vocabulary("hico")


@pytest.fixture(scope="module")
def clip() -> list[SyntheticFrame]:
    return list(draw_clip(320, 240, 10, 10.0, seed=3))


def drawn_box(scene: SyntheticScene, without: SyntheticScene) -> Box:
    """Round the pixels that differ between two images; faint anti-aliasing at the rim does not count."""
    difference = np.abs(draw_scene(scene).rgb.astype(int) - draw_scene(without).rgb).max(axis=2)
    rows, columns = np.nonzero(difference > 24)
    assert rows.size, "nothing was drawn"
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def assert_tight(box_xyxy: Box | None, pixels_xyxy: Box) -> None:
    assert box_xyxy is not None
    assert np.abs(np.subtract(box_xyxy, pixels_xyxy)).max() <= TIGHT_PX, (box_xyxy, pixels_xyxy)


def lone_scene(seed: int, triplet: tuple[str, str] = ("hold", "umbrella"), x_fraction: float = 0.5) -> SyntheticScene:
    """A scene of one person in action."""
    rng = np.random.default_rng(seed)
    appearance = random_appearance(rng)
    person = Person(
        id=1, appearance=appearance, x_px=256 * x_fraction, ground_px=180, height_px=110, facing=(-1) ** seed
    )
    done = act_out(person, *triplet, rng)
    objects = (done.obj, *(obj for obj, _ in done.props))
    doing = SceneInteraction(person_id=1, object_id=done.obj.id, verbs=(triplet[0],))
    backdrop = Backdrop(kind="room", seed=seed)
    return SyntheticScene(
        width_px=256,
        height_px=192,
        backdrop=backdrop,
        people=(done.person,),
        objects=objects,
        interactions=(doing,),
        shadows=False,
    )


def test_clip_depends_on_its_seed_alone():
    first, again, other = (next(draw_clip(160, 120, 25, 1.0, seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.rgb, again.rgb)
    assert first.pairs == again.pairs
    assert not np.array_equal(first.rgb, other.rgb)


def test_random_scene_depends_on_its_seed_alone():
    first, again = (random_scene(np.random.default_rng(9), 256, 192) for _ in range(2))
    assert first == again
    assert np.array_equal(draw_scene(first).rgb, draw_scene(again).rgb)


@pytest.mark.parametrize("triplet", ACTS, ids="-".join)
def test_boxes_fit_the_drawn_pixels_for_every_action(triplet: tuple[str, str]):
    scene = replace(lone_scene(1, triplet), backdrop=Backdrop(kind="beach", seed=1))
    (pair,) = draw_scene(scene).pairs
    alone = replace(scene, objects=(), interactions=())
    assert_tight(pair.human_box_xyxy, drawn_box(alone, replace(alone, people=())))
    object_only = replace(scene, people=(), objects=scene.objects[:1], interactions=())
    assert_tight(pair.object_box_xyxy, drawn_box(object_only, replace(object_only, objects=())))


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seed=st.integers(0, 10_000), x_fraction=st.floats(-0.15, 1.15), y_fraction=st.floats(0.3, 1.5))
def test_box_of_person_cut_by_the_frame_is_that_of_the_rest(seed: int, x_fraction: float, y_fraction: float):
    scene = lone_scene(seed, ("throw", "sports_ball"), x_fraction)
    person = replace(scene.people[0], ground_px=192 * y_fraction)
    empty = replace(scene, people=(), objects=(), interactions=())
    box = extent_xyxy(person_outlines(person), 256, 192)
    if box is None:
        difference = draw_scene(replace(empty, people=(person,))).rgb.astype(int) - draw_scene(empty).rgb
        assert np.abs(difference).max(initial=0) <= 130, "no box, yet something more than a faint edge is visible"
    else:
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= 256
        assert box[3] <= 192
        if min(box[2] - box[0], box[3] - box[1]) > 6:
            assert_tight(box, drawn_box(replace(empty, people=(person,)), empty))


def test_icons_are_at_least_twelve_objects_of_the_vocabulary(hico: Vocabulary):
    assert len(ICON_NAMES) >= 12
    assert set(ICON_NAMES) <= set(hico.objects)


@pytest.mark.parametrize("name", ICON_NAMES)
@pytest.mark.parametrize("size_px", [18, 47, 160])
def test_icons_can_be_drawn_from_18_pixels(name: str, size_px: int):
    rng = np.random.default_rng(len(name))
    obj = random_object(rng, 1, name, size_px / natural_size(name))
    _, lowest = icon(name).outlines.points_xy.max(axis=0) * obj.scale_px
    obj = replace(
        obj, x_px=128.3, y_px=220.6 - float(lowest), main=(255, 0, 200), accent=(0, 255, 60), facing=-1, angle=0.1
    )
    empty = SyntheticScene(width_px=256, height_px=240, backdrop=Backdrop(kind="court", seed=0), shadows=False)
    box = extent_xyxy((object_outlines(obj),), 256, 240)
    assert_tight(box, drawn_box(replace(empty, objects=(obj,)), empty))
    assert max(box[2] - box[0], box[3] - box[1]) >= 0.9 * size_px


def test_actions_and_idle_pairs_are_among_the_600_hois(hico: Vocabulary):
    known = {(hico.verbs[verb], hico.objects[obj]) for verb, obj in hico.hois}
    assert len(known) == 600
    assert len(ACTS) >= 40
    assert set(ACTS) | {(NO_INTERACTION, name) for name in ICON_NAMES} <= known


def test_clips_and_scenes_use_known_hois_only(clip: list[SyntheticFrame], hico: Vocabulary):
    known = {(hico.verbs[verb], hico.objects[obj]) for verb, obj in hico.hois}
    scenes = [draw_scene(random_scene(np.random.default_rng(seed), 128, 96)) for seed in range(30)]
    used = {(verb, pair.label) for frame in clip + scenes for pair in frame.pairs for verb in pair.verbs}
    assert used <= known


STORY = (
    ("hold", "bicycle"),
    ("ride", "bicycle"),
    ("sit_on", "chair"),
    ("pick_up", "suitcase"),
    ("carry", "suitcase"),
    ("walk", "dog"),
    ("pet", "dog"),
)


def test_clip_shows_its_whole_story_at_length(clip: list[SyntheticFrame]):
    seconds = defaultdict(list)
    for frame in clip:
        for pair in frame.pairs:
            for verb in pair.verbs:
                seconds[verb, pair.label].append(frame.pts_s)
    assert {done for done in seconds if done[0] != NO_INTERACTION} == set(STORY) <= set(ACTS)
    for triplet in STORY:
        first, last = seconds[triplet][0], seconds[triplet][-1]
        assert last - first >= 0.5, triplet
        assert len(seconds[triplet]) == round(10 * (last - first)) + 1, "without a break"
    for before, after in (STORY[:2], STORY[2:4], STORY[3:5], STORY[5:]):
        assert max(seconds[before]) < min(seconds[after])


def test_clip_is_not_crowded(clip: list[SyntheticFrame]):
    """Two people in action at most, and no box of a person over another's."""
    for frame in clip:
        busy = {pair.human: pair.human_box_xyxy for pair in frame.pairs if pair.verbs != (NO_INTERACTION,)}
        assert len(busy) <= 2
        for (left, _, right, _), (other_left, _, other_right, _) in combinations(busy.values(), 2):
            assert right <= other_left or other_right <= left, frame.pts_s


def test_clip_objects_are_visible_at_the_size_of_the_model():
    frames = draw_clip(256, 192, 5, 10.0, seed=9)
    boxes = [pair.object_box_xyxy for frame in frames for pair in frame.pairs]
    whole = [box for box in boxes if box[0] > 0 and box[2] < 256]
    smallest = min(math.sqrt((right - left) * (bottom - top)) for left, top, right, bottom in whole)
    assert smallest > 24


def test_clip_events_are_those_that_its_frames_show():
    script = clip_script(128, 96, 25, 5.0, seed=1)
    for frame in script.frames():
        doing = {
            (event.human, event.object, event.verb)
            for event in script.events
            if event.start_s <= frame.pts_s < event.end_s
        }
        shown = {(pair.human, pair.object, verb) for pair in frame.pairs for verb in pair.verbs}
        assert {triplet for triplet in shown if triplet[2] != NO_INTERACTION} <= doing
    assert len(script.events) == len(STORY)


def test_clip_identities_and_labels_stay_the_same(clip: list[SyntheticFrame]):
    labels, owners = defaultdict(set), defaultdict(set)
    for frame in clip:
        assert len({(pair.human, pair.object) for pair in frame.pairs}) == len(frame.pairs)
        for pair in frame.pairs:
            labels[pair.object].add(pair.label)
            if pair.verbs != (NO_INTERACTION,):
                owners[pair.object].add(pair.human)
    assert len(labels) == 4
    assert all(len(names) == 1 for names in labels.values())
    assert all(len(people) == 1 for people in owners.values())


def test_clip_entities_move_smoothly():
    """A box centre moves less than 0.6 of its height in 1/30 s (the ball is the fastest), the frame's edges aside."""
    last: dict[int, tuple[np.ndarray, float]] = {}
    for frame in draw_clip(320, 240, 30, 9.0, seed=1):
        seen = {}
        for pair in frame.pairs:
            for id, box in ((pair.human, pair.human_box_xyxy), (pair.object, pair.object_box_xyxy)):
                if box[0] > 1 and box[2] < 319:
                    seen[id] = np.array(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)), box[3] - box[1]
        for id in seen.keys() & last.keys():
            assert np.linalg.norm(seen[id][0] - last[id][0]) < 0.6 * seen[id][1], (id, frame.pts_s)
        last = seen


@pytest.mark.parametrize(("fps", "duration_s", "frames"), [(25, 2.0, 50), (30000 / 1001, 1.0, 30), (12.5, 0.01, 1)])
def test_clip_timestamps_follow_the_frame_rate(fps: float, duration_s: float, frames: int):
    stamps = [frame.pts_s for frame in draw_clip(96, 64, fps, duration_s, seed=0)]
    assert stamps == pytest.approx([index / fps for index in range(frames)], abs=1e-9)


@pytest.mark.parametrize("size", [(16, 16), (64, 200), (200, 64), (333, 111)])
def test_scenes_of_odd_sizes_have_boxes_inside(size: tuple[int, int]):
    width, height = size
    frames = [*draw_clip(width, height, 4, 3.0, seed=2)]
    frames.append(draw_scene(random_scene(np.random.default_rng(1), width, height)))
    for frame in frames:
        assert frame.rgb.shape == (height, width, 3)
        assert frame.rgb.dtype == np.uint8
        for pair in frame.pairs:
            for x0, y0, x1, y1 in (pair.human_box_xyxy, pair.object_box_xyxy):
                assert 0 <= x0 < x1 <= width
                assert 0 <= y0 < y1 <= height


@pytest.mark.parametrize("kind", BACKDROP_KINDS)
def test_backdrops_differ_by_seed_and_are_not_flat(kind: str):
    first, other = (draw_backdrop(Backdrop(kind=kind, seed=seed), 128, 96) for seed in (1, 2))
    assert not np.array_equal(first, other)
    assert first.std() > 5


@settings(deadline=None, derandomize=True, max_examples=50)
@given(angle=st.floats(-3.1, 3.1), distance=st.floats(0.02, 0.46), bend=st.sampled_from((1, -1)))
def test_inverse_kinematics_leads_back_to_the_point(angle: float, distance: float, bend: int):
    target = (distance * math.sin(angle), distance * math.cos(angle))
    first, second = reach((0.0, 0.0), target, THIGH, SHIN, bend=bend)
    end = (
        THIGH * math.sin(first) + SHIN * math.sin(second),
        THIGH * math.cos(first) + SHIN * math.cos(second),
    )
    assert end == pytest.approx(target, abs=1e-6)
    assert bend * (second - first) >= 0


def test_hand_is_put_at_a_point():
    hand = joints(Pose().with_arms(near=(0.2, -0.6))).near_hand
    assert hand == pytest.approx((0.2, -0.6), abs=1e-9)


def test_walkers_have_a_foot_on_the_ground():
    for phase in np.linspace(0, 2 * math.pi, 17):
        found = joints(walk(float(phase)))
        assert max(found.near_ankle[1], found.far_ankle[1]) == pytest.approx(-SOLE, abs=1e-9)


def test_throw_passes_over_the_head_and_forward():
    hands = [joints(throw(progress)).near_hand for progress in np.linspace(0, 1, 9).tolist()]
    assert min(y for _, y in hands) < -0.95
    assert hands[-1][0] > 0.25 > hands[0][0]


def test_scene_refuses_wrong_arguments():
    with pytest.raises(ValueError, match="needs fps"):
        draw_clip(64, 64, 0, 1.0, seed=0)
    with pytest.raises(ValueError, match="16x16"):
        draw_clip(8, 64, 25, 1.0, seed=0)
    with pytest.raises(ValueError, match="no icon for 'zeppelin'"):
        icon("zeppelin")
    with pytest.raises(ValueError, match="no action draws"):
        act_out(lone_scene(0).people[0], "eat", "bicycle", np.random.default_rng(0))
    with pytest.raises(ValueError, match="unique"):
        replace(lone_scene(0), people=lone_scene(0).people * 2)
