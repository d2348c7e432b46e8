"""The demo clip: a short story with exact ground truth for every frame.

A cyclist leaves, a traveller takes a suitcase and goes, a dog is walked and petted. Each person has a third of the
image, and none passes before another. Times of the story are script seconds; the script takes SCRIPT_S and is stretched
to the clip's length. Which pose counts as which action is as in repertoire.ACTS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from hoiclip.synthetic import acts, stances
from hoiclip.synthetic.background import Backdrop, BackdropKind
from hoiclip.synthetic.camera import Camera
from hoiclip.synthetic.draw import SyntheticFrame
from hoiclip.synthetic.figure import random_appearance
from hoiclip.synthetic.repertoire import ACTS, Performance
from hoiclip.synthetic.routines import RoutineSetup
from hoiclip.synthetic.scene import Cord, Person, SceneObject
from hoiclip.synthetic.skeleton import Pose
from hoiclip.synthetic.stances import along
from hoiclip.synthetic.timeline import Routine, SceneMoment, Timeline, events
from hoiclip.synthetic.video import Chapter, VideoConfig, VideoScript

Rng = np.random.Generator
Spans = Sequence[tuple[float, float, str]]

SCRIPT_S = 10.0
_CARRIED = (0.1, -0.485)
"""Position of the hand that carries a suitcase, in body heights."""
_HEIGHT = 0.52
"""Of a person, in heights of the image: large enough for a model that sees 256x192 pixels."""
_MOUNT_S, _LEAVE_S = 1.5, 2.1
_STAND_UP_S, _STOOP_S, _TAKE_S, _TURN_S = 3.7, 4.7, 5.7, 6.0
_ENTER_S, _VISIBLE_S, _STAY_S, _PET_S = 3.0, 4.9, 7.1, 7.2
_PLACES: tuple[BackdropKind, ...] = ("street", "field", "court", "beach")


def draw_clip(width_px: int, height_px: int, fps: float, duration_s: float, seed: int) -> Iterator[SyntheticFrame]:
    """Draws the whole story in `duration_s` seconds, frame by frame; equal arguments draw equal clips.

    Yields:
        round(duration_s * fps) frames, at least one, at pts_s = 0, 1/fps, 2/fps ...

    Raises:
        ValueError: fps or duration_s is not positive, or the image is smaller than 16x16.
    """
    return clip_script(width_px, height_px, fps, duration_s, seed).frames()


def clip_script(width_px: int, height_px: int, fps: float, duration_s: float, seed: int) -> VideoScript:
    """The same clip as a script, which has its events too.

    Raises:
        ValueError: as draw_clip.
    """
    config = VideoConfig(width_px=width_px, height_px=height_px, fps=fps, duration_s=duration_s)
    rng = np.random.default_rng(seed)
    backdrop = Backdrop(kind=_PLACES[rng.integers(len(_PLACES))], seed=int(rng.integers(2**31)))
    chapter = Chapter(
        start_s=0.0,
        length_s=duration_s,
        begun_s=0.0,
        backdrop=backdrop,
        camera=_still_camera(width_px, height_px, duration_s),
        routines=tuple(
            _stretched(routine, duration_s / SCRIPT_S) for routine in story_routines(rng, width_px, height_px)
        ),
    )
    steps = max(1, round(duration_s * fps))
    return VideoScript(config=config, chapters=(chapter,), pts_s=tuple(index / fps for index in range(steps)))


def _still_camera(width_px: int, height_px: int, duration_s: float) -> Camera:
    size_px, framing = (width_px, height_px), (0.0, 0.0, 1.0)
    return Camera(
        place_px=size_px, image_px=size_px, start=framing, end=framing, duration_s=duration_s, shake_px=0.0, phase=0.0
    )


def _stretched(routine: Routine, factor: float) -> Routine:
    """The routine in seconds of the clip instead of the script."""
    return Routine(
        at=lambda at_s: routine.at(at_s / factor),
        events=tuple(
            replace(event, start_s=factor * event.start_s, end_s=factor * event.end_s) for event in routine.events
        ),
    )


def story_routines(rng: Rng, width_px: int, height_px: int) -> tuple[Routine, ...]:
    """The whole cast for this size of image, in script seconds."""
    ids = count(1)

    def new_setup(ground: float, way: int) -> RoutineSetup:
        """A new person at this height of the image, who goes to the right (1) or to the left (-1)."""
        ground_px, size_px = ground * height_px, _HEIGHT * min(height_px, 0.75 * width_px)
        appearance = random_appearance(rng)
        person = Person(
            id=next(ids), appearance=appearance, x_px=0.0, ground_px=ground_px, height_px=size_px, depth=ground_px
        )
        return RoutineSetup(
            rng=rng,
            person=person,
            next_id=lambda: next(ids),
            width_px=width_px,
            length_s=SCRIPT_S,
            way=way,
            entry=0.0,
        )

    return _cyclist(new_setup(0.9, -1)), _traveller(new_setup(0.88, -1)), _dog_owner(new_setup(0.94, 1))


def _cyclist(setup: RoutineSetup) -> Routine:
    """Stands beside a bicycle, mounts it and rides away over the left edge."""
    bicycle, width = setup.new_object("bicycle"), setup.width_px
    standing_px = 0.3 * width
    way = ((_LEAVE_S, standing_px), (_LEAVE_S + 0.6, standing_px - 0.1 * width), (SCRIPT_S, -2.0 * width))
    person = replace(setup.person, facing=setup.way, x_px=standing_px - setup.way * 0.1 * setup.person.height_px)

    def rolling(s: float) -> SceneObject:
        x_px, _ = along(person, way, s)
        wheel_turns = setup.way * (x_px - standing_px) / (0.19 * bicycle.scale_px)
        return replace(bicycle, x_px=x_px, y_px=person.ground_px, phase=0.6 * wheel_turns)

    def holding(s: float) -> Performance:
        return Performance(*acts.push(replace(person, pose=_standing(s)), bicycle))

    life = Timeline(holding)
    life.then(_MOUNT_S, lambda s: Performance(*acts.mount(person, rolling(s), lean=0.5)), ease_s=0.6)
    return _routine(life, setup.person, bicycle, ((0.0, _MOUNT_S + 0.15, "hold"), (_MOUNT_S + 0.4, SCRIPT_S, "ride")))


def _traveller(setup: RoutineSetup) -> Routine:
    """Sits on a chair, gets up, picks a suitcase up, turns round and carries it away over the right edge."""
    height, ground = setup.person.height_px, setup.person.ground_px
    chair = replace(setup.new_object("chair"), x_px=setup.x(0.15), y_px=ground, depth=setup.person.depth + acts.BEHIND)
    suitcase = setup.lying(setup.new_object("suitcase"), setup.x(0.36))
    risen_px, beside_px = chair.x_px - 0.22 * height, suitcase.x_px + 0.34 * height
    walker = setup.walker([(_STAND_UP_S + 0.5, risen_px), (_STOOP_S, beside_px)])
    leaver = replace(setup, way=-setup.way).walker([(_TURN_S + 0.2, beside_px), (SCRIPT_S, setup.x(-0.25))])

    def sitting(s: float) -> Performance:
        person, _ = acts.sit(walker(s), chair)
        return Performance(replace(person, pose=replace(person.pose, nod=0.08 * math.sin(1.5 * s))), suitcase)

    def stooping(s: float) -> Performance:
        person = replace(walker(s), pose=stances.STOOP)
        hand = person.point_body(suitcase.anchor_px("grip"))
        return Performance(replace(person, pose=person.pose.with_arms(near=hand)), suitcase)

    life = Timeline(sitting)
    life.then(_STAND_UP_S, lambda s: Performance(walker(s), suitcase), ease_s=0.5)
    life.then(_STOOP_S, stooping, ease_s=0.4)
    life.then(_TAKE_S, lambda s: Performance(*acts.hold(walker(s), suitcase, _CARRIED)), ease_s=0.3)
    life.then(_TURN_S, lambda s: Performance(*acts.hold(leaver(s), suitcase, _CARRIED)), ease_s=0.3)
    spans = ((_STOOP_S + 0.2, _TAKE_S + 0.2, "pick_up"), (_TURN_S + 0.3, SCRIPT_S, "carry"))
    routine = _routine(life, setup.person, suitcase, spans)
    seated = events(setup.person, chair, ((0.0, _STAND_UP_S + 0.2, "sit_on"),))

    def at(s: float) -> SceneMoment:
        moment = routine.at(s)
        return replace(moment, objects=(*moment.objects, chair))

    return Routine(at=at, events=seated + routine.events)


def _dog_owner(setup: RoutineSetup) -> Routine:
    """Walks a dog in from the left, stops and pets it."""
    dog = setup.new_object("dog")
    walker = setup.walker([(_ENTER_S, setup.x(-0.5)), (_VISIBLE_S, setup.x(-0.03)), (_STAY_S, setup.x(0.24))])

    def leading(s: float) -> Performance:
        person = walker(s)
        steps = person.x_px / (0.08 * person.height_px)
        return Performance(*acts.lead(person, replace(dog, phase=steps), ahead=0.75))

    def petting(s: float) -> Performance:
        done = ACTS["pet", "dog"](walker(s), dog, np.random.default_rng(0))
        head = done.person.point_body(done.obj.anchor_px("head"))
        stroking = (head[0] + 0.02 * math.sin(5.0 * s), head[1])
        return replace(done, person=replace(done.person, pose=done.person.pose.with_arms(near=stroking)))

    life = Timeline(leading)
    life.then(_PET_S, petting, ease_s=0.6)
    return _routine(life, setup.person, dog, ((0.0, _PET_S + 0.1, "walk"), (_PET_S + 0.4, SCRIPT_S, "pet")))


def _routine(life: Timeline, person: Person, obj: SceneObject, spans: Spans) -> Routine:
    def at(s: float) -> SceneMoment:
        done = life(s)
        return SceneMoment(people=(done.person,), objects=(done.obj,), cords=_cords(done))

    return Routine(at=at, events=events(person, obj, spans))


def _cords(done: Performance) -> tuple[Cord, ...]:
    """Cords from hand to collar, also while a pose blends into the next."""
    if done.cord is None:
        return ()
    hand = acts.found_joints(done.person).near_hand
    return (replace(done.cord, start_px=hand, end_px=done.obj.anchor_px("collar")),)


def _standing(s: float) -> Pose:
    """Standing, with a slow movement of the head."""
    return replace(stances.STAND, nod=0.1 * math.sin(1.3 * s))
