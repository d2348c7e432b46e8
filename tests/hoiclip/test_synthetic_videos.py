"""Synthetic videos: equal at any frame rate, exact in every frame, with events that agree with the frames."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from hoiclip.synthetic.background import Backdrop
from hoiclip.synthetic.camera import Camera, View, view_scene
from hoiclip.synthetic.compose import ComposeConfig, idle_pairs, random_scene
from hoiclip.synthetic.draw import PlacedScene
from hoiclip.synthetic.figure import random_appearance
from hoiclip.synthetic.repertoire import ACTS, GRIPS, NO_INTERACTION, WALKING
from hoiclip.synthetic.routines import RoutineSetup, perform
from hoiclip.synthetic.scene import Person, SceneInteraction, SyntheticScene
from hoiclip.synthetic.shapes import Box
from hoiclip.synthetic.video import VideoConfig, VideoScript, draw_video, random_script
from hoiclip.synthetic.vocabulary import synthetic_triplets
from hoiclip.synthetic.world import SyntheticWorld, WorldConfig

SMALL = VideoConfig(width_px=128, height_px=96, fps=5.0, duration_s=10.0)


@pytest.fixture(scope="module")
def scripts() -> list[VideoScript]:
    return [random_script(SMALL, seed) for seed in range(24)]


def test_video_depends_on_its_seed_alone():
    config = replace(SMALL, duration_s=2.0)
    first, again, other = (list(draw_video(config, seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(first, again, strict=True))
    assert [frame.pairs for frame in first] == [frame.pairs for frame in again]
    assert not np.array_equal(first[0].rgb, other[0].rgb)


def test_video_events_do_not_depend_on_the_frame_rate():
    slow, fast = (random_script(replace(SMALL, fps=fps), 5) for fps in (2.0, 50.0))
    assert slow.events == fast.events
    at_s = slow.pts_s[13]
    assert at_s in fast.pts_s
    assert slow.chapters[0].scene_at(at_s) == fast.chapters[0].scene_at(at_s)


@pytest.mark.parametrize("uneven", [False, True])
def test_video_timestamps_increase_and_keep_the_mean_rate(uneven: bool):
    config = replace(SMALL, fps=30_000 / 1001, duration_s=20.0, uneven=uneven)
    times = np.array(random_script(config, 1).pts_s)
    steps = np.diff(times)
    assert times[0] == 0.0
    assert (steps > 0).all()
    assert times[-1] < 20.0
    assert len(times) == pytest.approx(20 * config.fps, rel=0.1)
    assert (steps.std() > 0.005) == uneven


def test_video_frames_show_the_events(scripts: list[VideoScript]):
    shown = 0
    for script in scripts[:8]:
        for frame in script.frames():
            going_on = {
                (event.human, event.object, event.verb)
                for event in script.events
                if event.start_s <= frame.pts_s < event.end_s
            }
            doing = {
                (pair.human, pair.object, verb) for pair in frame.pairs for verb in pair.verbs if verb != NO_INTERACTION
            }
            assert doing <= going_on
            visible = {entity.id for entity in frame.entities}
            assert doing == {done for done in going_on if {done[0], done[1]} <= visible}
            shown += len(doing)
    assert shown > 200


def test_videos_show_all_kinds_of_actions(scripts: list[VideoScript]):
    verbs = Counter(event.verb for script in scripts for event in script.events)
    assert {"ride", "hold", "carry", "sit_on", "throw", "kick", "walk", "wear", "pick_up"} <= set(verbs)
    owners = defaultdict(set)
    for row, script in enumerate(scripts):
        for event in script.events:
            assert 0 <= event.start_s < event.end_s <= SMALL.duration_s
            assert (event.verb, event.label) in ACTS
            owners[row, event.object].add(event.human)
    assert max(map(len, owners.values())) == 2, "something is handed on"


@pytest.mark.parametrize(("verb", "name"), [*ACTS, (NO_INTERACTION, "dog")])
def test_routines_show_every_action_of_images(verb: str, name: str):
    rng, ids = np.random.default_rng(1), count(2)
    person = Person(id=1, appearance=random_appearance(rng), x_px=0.0, ground_px=204.0, height_px=100.0, depth=204.0)
    setup = RoutineSetup(
        rng=rng, person=person, next_id=lambda: next(ids), width_px=333, length_s=10.0, way=1, entry=0.05
    )
    routine = perform(setup, verb, name)
    shown = 0
    for at_s in np.arange(0.0, 10.0, 0.2).tolist():
        moment = routine.at(at_s)
        done = [
            SceneInteraction(person_id=event.human, object_id=event.object, verbs=(event.verb,))
            for event in routine.events
            if event.start_s <= at_s < event.end_s
        ]
        scene = SyntheticScene(
            width_px=333,
            height_px=215,
            backdrop=Backdrop(kind="room", seed=0),
            people=moment.people,
            objects=moment.objects,
            interactions=(*done, *idle_pairs(moment.people, moment.objects, done)),
        )
        shown += any(verb in pair.verbs and pair.label == name for pair in PlacedScene(scene).ground_truth().pairs)
    assert shown >= 2, "for at least two of fifty moments"


def test_walkers_carry_and_standing_people_hold(scripts: list[VideoScript]):
    """The same state has the same verb as in images, in the middle of every event."""
    compared = 0
    for script in scripts:
        (chapter,) = script.chapters
        for event in chapter.events:
            verbs = {verb for verb, name in GRIPS if name == event.label}
            if event.verb not in verbs or not verbs & {*WALKING} or event.end_s - event.start_s < 0.5:
                continue
            middle = (event.start_s + event.end_s) / 2
            x_px = [
                next(person.x_px for person in chapter.scene_at(middle + dt).people if person.id == event.human)
                for dt in (-0.05, 0.05)
            ]
            assert (abs(x_px[1] - x_px[0]) > 0.05) == (event.verb in WALKING), event
            compared += 1
    assert compared > 40


def overlaps(a: Box, b: Box) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def crowding(shown: Iterable[Sequence[tuple[str, Box]]], width_px: float, height_px: float) -> tuple[float, float, int]:
    """Fractions of people who overlap another and of boxes at an edge of the image, and the most people of an image."""
    overlapping, at_edge, most = list[bool](), list[bool](), 0
    for entities in shown:
        people = [box for label, box in entities if label == "person"]
        overlapping += [any(overlaps(a, b) for b in people if b is not a) for a in people]
        at_edge += [x0 < 1 or y0 < 1 or x1 > width_px - 1 or y1 > height_px - 1 for _, (x0, y0, x1, y1) in entities]
        most = max(most, len(people))
    return float(np.mean(overlapping)), float(np.mean(at_edge)), most


@pytest.mark.thorough
def test_images_and_videos_are_crowded_alike(scripts: list[VideoScript]):
    videos = crowding(
        (
            [(entity.label, entity.box_xyxy) for entity in frame.entities]
            for script in scripts
            for frame in script.frames()
        ),
        SMALL.width_px,
        SMALL.height_px,
    )
    world = SyntheticWorld(WorldConfig(seed=3, frequencies="equal"))
    placed = (PlacedScene(world.scene(index)).ground_truth().entities for index in range(200))
    images = crowding(([(entity.label, entity.box_xyxy) for entity in entities] for entities in placed), 256, 192)
    for overlapping, at_edge, most in (videos, images):
        assert overlapping > 1 / 3
        assert at_edge > 0.15
        assert 5 <= most <= 7
    assert videos[1] > 0.22
    assert abs(videos[0] - images[0]) < 0.2


def test_video_pairs_are_of_the_vocabulary_and_boxes_inside_the_frame(scripts: list[VideoScript]):
    known, hidden = synthetic_triplets(), 0
    for script in scripts[8:12]:
        labels: dict[int, set[str]] = defaultdict(set)
        for frame in script.frames():
            assert frame.rgb.shape == (96, 128, 3)
            assert len({(pair.human, pair.object) for pair in frame.pairs}) == len(frame.pairs)
            for pair in frame.pairs:
                assert {(verb, pair.label) for verb in pair.verbs} <= known
            for entity in frame.entities:
                x0, y0, x1, y1 = entity.box_xyxy
                assert 0 <= x0 < x1 <= 128
                assert 0 <= y0 < y1 <= 96
                labels[entity.id].add(entity.label)
                hidden += entity.visible < 0.9
        assert all(len(names) == 1 for names in labels.values())
    assert hidden > 20, "people and objects hide each other"


def test_video_entities_move_smoothly():
    """A position moves less than 0.3 of a person's height in 1/25 s: nothing is faster than a thrown frisbee."""
    compared = 0
    for seed in range(10):
        script = random_script(replace(SMALL, fps=25.0), seed)
        (chapter,) = script.chapters
        before: dict[int, np.ndarray] = {}
        for pts_s in script.pts_s:
            scene = chapter.scene_at(pts_s)
            now = {person.id: np.array((person.x_px, person.ground_px)) for person in scene.people}
            now |= {obj.id: np.array((obj.x_px, obj.y_px)) for obj in scene.objects}
            for id in now.keys() & before.keys():
                moved = np.linalg.norm(now[id] - before[id])
                assert moved < 0.3 * scene.people[0].height_px, (seed, pts_s, id)
                compared += 1
            before = now
    assert compared > 5_000


def test_long_video_has_cuts_and_no_identity_returns():
    script = random_script(replace(SMALL, duration_s=30.0, fps=2.0), 2)
    assert len(script.chapters) == 3
    assert len(list(script.frames())) == 60
    people = [{person.id for person in chapter.scene_at(1.0).people} for chapter in script.chapters]
    assert not people[0] & people[1]
    assert not people[1] & people[2]
    for chapter in script.chapters:
        for event in chapter.events:
            assert chapter.start_s <= event.start_s < event.end_s <= chapter.start_s + chapter.length_s + 1e-9


@pytest.mark.parametrize(("duration_s", "size"), [(0.1, (128, 96)), (2.0, (64, 200)), (3.0, (333, 111))])
def test_short_videos_and_odd_sizes_are_drawn(duration_s: float, size: tuple[int, int]):
    width_px, height_px = size
    config = VideoConfig(width_px=width_px, height_px=height_px, fps=4.0, duration_s=duration_s)
    frames = list(draw_video(config, 0))
    assert len(frames) == max(1, round(4 * duration_s))
    assert frames[0].rgb.shape == (height_px, width_px, 3)
    for event in random_script(config, 0).events:
        assert 0 <= event.start_s < event.end_s <= duration_s


def test_view_moves_boxes_as_it_moves_points():
    view = View(left_px=8.0, top_px=6.0, zoom=1.1)
    compared = 0
    for seed in range(8):
        scene = random_scene(np.random.default_rng(seed), 256, 192, ComposeConfig(closest=1.0))
        plain = {entity.id: entity.box_xyxy for entity in PlacedScene(scene).ground_truth().entities}
        for entity in PlacedScene(view_scene(scene, view, 256, 192)).ground_truth().entities:
            x0, y0, x1, y1 = entity.box_xyxy
            if entity.id in plain and x0 > 1 and y0 > 1 and x1 < 255 and y1 < 191:
                left, top, right, bottom = plain[entity.id]
                expected = (*view.point((left, top)), *view.point((right, bottom)))
                assert np.abs(np.subtract(entity.box_xyxy, expected)).max() < 1.0
                compared += 1
    assert compared >= 10


def test_camera_stays_in_the_place():
    camera = Camera(
        place_px=(180, 110),
        image_px=(128, 96),
        start=(0.0, 1.0, 1.0),
        end=(1.0, 0.0, 1.25),
        duration_s=4.0,
        shake_px=9.0,
        phase=1.0,
    )
    views = [camera.view(at_s) for at_s in np.linspace(-1, 6, 80).tolist()]
    for view in views:
        assert view.left_px >= 0
        assert view.top_px >= 0
        assert view.left_px + 128 / view.zoom <= 180 + 1e-6
        assert view.top_px + 96 / view.zoom <= 110 + 1e-6
    assert views[0].zoom == 1.0
    assert views[-1].zoom == 1.25
    assert len({view.left_px for view in views}) > 50


def test_video_config_refuses_wrong_arguments():
    with pytest.raises(ValueError, match="fps, duration_s and chapter_s > 0"):
        VideoConfig(fps=0)
    with pytest.raises(ValueError, match="16x16"):
        VideoConfig(width_px=8)
