"""The story of the demo clip: a cyclist leaves, a traveller takes a suitcase and goes, a dog is walked and petted.

Everybody has a third of the image, and nobody passes before anybody else. Times are script seconds; the script takes
SCRIPT_S, and clip.py stretches it to the clip's length. What counts as doing what is as in repertoire.ACTS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from hoiclip.data.drawn import acts, stances
from hoiclip.data.drawn.figure import random_look
from hoiclip.data.drawn.gait import along
from hoiclip.data.drawn.repertoire import ACTS, Performance
from hoiclip.data.drawn.routines import Part
from hoiclip.data.drawn.scene import Cord, Person, Thing
from hoiclip.data.drawn.skeleton import Pose
from hoiclip.data.drawn.timeline import Moment, Routine, Timeline, events

Rng = np.random.Generator
Spans = Sequence[tuple[float, float, str]]

SCRIPT_S = 10.0
_CARRIED = (0.1, -0.485)
"""Where a hand carries a suitcase, in body heights."""
_HEIGHT = 0.52
"""Of a person, in heights of the image: large enough for a model that sees 256x192 pixels."""


def story_routines(rng: Rng, width_px: int, height_px: int) -> tuple[Routine, ...]:
    """The whole cast for this size of image, in script seconds."""
    ids = count(1)

    def part(ground: float, way: int) -> Part:
        """A new person at this height of the image, who goes to the right (1) or to the left (-1)."""
        ground_px, size_px = ground * height_px, _HEIGHT * min(height_px, 0.75 * width_px)
        look = random_look(rng)
        person = Person(id=next(ids), look=look, x_px=0.0, ground_px=ground_px, height_px=size_px, depth=ground_px)
        return Part(
            rng=rng,
            person=person,
            next_id=lambda: next(ids),
            width_px=width_px,
            length_s=SCRIPT_S,
            way=way,
            entry=0.0,
        )

    return _cyclist(part(0.9, -1)), _traveller(part(0.88, -1)), _dog_owner(part(0.94, 1))


_MOUNT_S, _LEAVE_S = 1.5, 2.1


def _cyclist(part: Part) -> Routine:
    """Stands beside a bicycle, mounts it and rides away over the left edge."""
    bicycle, width = part.thing("bicycle"), part.width_px
    standing_px = 0.3 * width
    way = ((_LEAVE_S, standing_px), (_LEAVE_S + 0.6, standing_px - 0.1 * width), (SCRIPT_S, -2.0 * width))
    person = replace(part.person, facing=part.way, x_px=standing_px - part.way * 0.1 * part.person.height_px)

    def rolling(s: float) -> Thing:
        x_px, _ = along(person, way, s)
        wheel_turns = part.way * (x_px - standing_px) / (0.19 * bicycle.scale_px)
        return replace(bicycle, x_px=x_px, y_px=person.ground_px, phase=0.6 * wheel_turns)

    def holding(s: float) -> Performance:
        return Performance(*acts.push(replace(person, pose=_standing(s)), bicycle))

    life = Timeline(holding)
    life.then(_MOUNT_S, lambda s: Performance(*acts.mount(person, rolling(s), lean=0.5)), ease_s=0.6)
    return _routine(life, part.person, bicycle, ((0.0, _MOUNT_S + 0.15, "hold"), (_MOUNT_S + 0.4, SCRIPT_S, "ride")))


_STAND_UP_S, _STOOP_S, _TAKE_S, _TURN_S = 3.7, 4.7, 5.7, 6.0


def _traveller(part: Part) -> Routine:
    """Sits on a chair, gets up, picks a suitcase up, turns round and carries it away over the right edge."""
    height, ground = part.person.height_px, part.person.ground_px
    chair = replace(part.thing("chair"), x_px=part.x(0.15), y_px=ground, depth=part.person.depth + acts.BEHIND)
    suitcase = part.lying(part.thing("suitcase"), part.x(0.36))
    risen_px, beside_px = chair.x_px - 0.22 * height, suitcase.x_px + 0.34 * height
    walker = part.walker([(_STAND_UP_S + 0.5, risen_px), (_STOOP_S, beside_px)])
    leaver = replace(part, way=-part.way).walker([(_TURN_S + 0.2, beside_px), (SCRIPT_S, part.x(-0.25))])

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
    routine = _routine(life, part.person, suitcase, spans)
    seated = events(part.person, chair, ((0.0, _STAND_UP_S + 0.2, "sit_on"),))

    def at(s: float) -> Moment:
        moment = routine.at(s)
        return replace(moment, things=(*moment.things, chair))

    return Routine(at=at, events=seated + routine.events)


_ENTER_S, _SEEN_S, _STAY_S, _PET_S = 3.0, 4.9, 7.1, 7.2


def _dog_owner(part: Part) -> Routine:
    """Walks a dog in from the left, stops and pets it."""
    dog = part.thing("dog")
    walker = part.walker([(_ENTER_S, part.x(-0.5)), (_SEEN_S, part.x(-0.03)), (_STAY_S, part.x(0.24))])

    def leading(s: float) -> Performance:
        person = walker(s)
        steps = person.x_px / (0.08 * person.height_px)
        return Performance(*acts.lead(person, replace(dog, phase=steps), ahead=0.75))

    def petting(s: float) -> Performance:
        done = ACTS["pet", "dog"](walker(s), dog, np.random.default_rng(0))
        head = done.person.point_body(done.thing.anchor_px("head"))
        stroking = (head[0] + 0.02 * math.sin(5.0 * s), head[1])
        return replace(done, person=replace(done.person, pose=done.person.pose.with_arms(near=stroking)))

    life = Timeline(leading)
    life.then(_PET_S, petting, ease_s=0.6)
    return _routine(life, part.person, dog, ((0.0, _PET_S + 0.1, "walk"), (_PET_S + 0.4, SCRIPT_S, "pet")))


def _routine(life: Timeline, person: Person, thing: Thing, spans: Spans) -> Routine:
    def at(s: float) -> Moment:
        done = life(s)
        return Moment(people=(done.person,), things=(done.thing,), cords=_cords(done))

    return Routine(at=at, events=events(person, thing, spans))


def _cords(done: Performance) -> tuple[Cord, ...]:
    """From hand to collar, also while a pose turns into the next."""
    if done.cord is None:
        return ()
    hand = acts.found_joints(done.person).near_hand
    return (replace(done.cord, start_px=hand, end_px=done.thing.anchor_px("collar")),)


def _standing(s: float) -> Pose:
    """Breathing, and looking round a little."""
    return replace(stances.STAND, nod=0.1 * math.sin(1.3 * s))
