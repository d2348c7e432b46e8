"""Small stories for video: fetch and use something, hand it on, ride, rest, throw, kick, walk the dog, pass by.

Every routine takes the length of its chapter and is told in shares of it, in a direction `way` (1 to the right). People
come from one edge of the place or beyond it, and most of them leave over the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.data.drawn import acts, stances
from hoiclip.data.drawn.compose import grounded, sized
from hoiclip.data.drawn.gait import Path, along
from hoiclip.data.drawn.repertoire import ACTS, Performance
from hoiclip.data.drawn.scene import Person, Thing
from hoiclip.data.drawn.shapes import Point
from hoiclip.data.drawn.timeline import Moment, Routine, State, Timeline, events

Rng = np.random.Generator

_PORTABLE = (
    "sports_ball",
    "frisbee",
    "umbrella",
    "suitcase",
    "backpack",
    "cup",
    "bottle",
    "laptop",
    "kite",
    "book",
    "cell_phone",
)
_USES = ("hold", "drink_with", "read", "text_on", "talk_on")
_CARRIED: dict[str, Point] = {
    "suitcase": (0.1, -0.485),
    "backpack": (0.1, -0.5),
    "book": (0.14, -0.5),
    "umbrella": (0.15, -0.65),
}
_BEFORE = 0.34
"""Body heights between a person and what lies at their feet."""
_GIVE_BODY: Point = (0.3, -0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a routine is given."""

    rng: Rng
    person: Person
    next_id: Callable[[], int]
    width_px: float
    length_s: float
    way: int
    entry: float
    """Where the person is at first, as a share of the way."""

    def x(self, share: float) -> float:
        """Pixels from the edge where the person comes from."""
        return self.width_px * (share if self.way == 1 else 1 - share)

    def path(self, *knots: tuple[float, float]) -> Path:
        """(share of the time, share of the way) to seconds and pixels."""
        return [(time * self.length_s, self.x(share)) for time, share in knots]

    def thing(self, name: str, scale_px: float | None = None) -> Thing:
        made = sized(self.rng, self.next_id(), name, scale_px or self.person.height_px)
        return replace(made, facing=self.way, depth=self.person.depth + acts.IN_HAND)

    def walker(self, path: Path, *, run: bool = False) -> Callable[[float], Person]:
        person = replace(self.person, facing=self.way)

        def at(at_s: float) -> Person:
            x_px, pose = along(person, path, at_s, run=run)
            return replace(person, x_px=x_px, pose=pose)

        return at

    def lying(self, thing: Thing, x_px: float) -> Thing:
        """On the ground at the person's depth."""
        return grounded(replace(thing, x_px=x_px, angle=0.0), self.person.ground_px)


def fetch(part: Part) -> Routine:
    """Comes, picks something up, uses it, carries it on, puts it down and goes."""
    name = _PORTABLE[part.rng.integers(len(_PORTABLE))]
    uses = [verb for verb in _USES if (verb, name) in ACTS]
    use = uses[part.rng.integers(len(uses))]
    thing, length = part.thing(name), part.length_s
    here, there = part.rng.uniform((0.25, 0.55), (0.45, 0.75)).tolist()
    walker = part.walker(
        part.path((0.0, part.entry), (0.22, here), (0.55, here), (0.8, there), (0.9, there), (1.0, there + 0.15))
    )
    ahead = part.way * _BEFORE * part.person.height_px
    first, last = part.lying(thing, part.x(here) + ahead), part.lying(thing, part.x(there) + ahead)
    life = Timeline(lambda t: Performance(walker(t), first))
    life.then(0.22 * length, _stooping(walker, first), ease_s=0.06 * length)
    life.then(0.29 * length, _carrying(walker, thing), ease_s=0.05 * length)
    life.then(0.36 * length, _using(walker, thing, use, int(part.rng.integers(2**31))), ease_s=0.04 * length)
    life.then(0.53 * length, _carrying(walker, thing), ease_s=0.03 * length)
    life.then(0.8 * length, _stooping(walker, last), ease_s=0.05 * length)
    life.then(0.86 * length, lambda t: Performance(walker(t), last), ease_s=0.05 * length)
    walking = "carry" if ("carry", name) in ACTS else "hold"
    spans = ((0.27, 0.32, "pick_up"), (0.32, 0.38, "hold"), (0.38, 0.54, use), (0.54, 0.83, walking))
    return _routine(life, part, thing, spans)


def throw_away(part: Part) -> Routine:
    """Carries a ball or a frisbee in and throws it on."""
    thing, length = part.thing(("sports_ball", "frisbee")[part.rng.integers(2)]), part.length_s
    here = float(part.rng.uniform(0.3, 0.55))
    walker = part.walker(part.path((0.0, part.entry), (0.35, here), (0.75, here), (1.0, here + 0.35)))
    release = 0.6 * length
    life = Timeline(_carrying(walker, thing))
    life.then(0.48 * length, _throwing(walker, thing, release, 0.08 * length), ease_s=0.06 * length)
    life.then(release, _flying(part, walker, life(release - 1e-3).thing, release), ease_s=1e-6)
    walking = "carry" if ("carry", thing.name) in ACTS else "hold"
    spans = ((0.0, 0.36, walking), (0.36, 0.52, "hold"), (0.52, 0.62, "throw"))
    return _routine(life, part, thing, spans)


def kick_away(part: Part) -> Routine:
    """Runs up to a ball and kicks it."""
    thing, length = part.thing("sports_ball"), part.length_s
    here = float(part.rng.uniform(0.3, 0.5))
    walker = part.walker(part.path((0.0, part.entry - 0.05), (0.4, here), (0.7, here), (1.0, here + 0.3)), run=True)
    hit, swing_s = 0.48 * length, 0.16 * length
    kicker = replace(walker(hit), pose=stances.kick(0.5))
    ball = acts.at_the_foot(kicker, part.lying(thing, 0.0), gap=0.0)[1]
    waiting = part.lying(thing, ball.x_px)

    def kicking(t: float) -> Performance:
        return Performance(replace(walker(t), pose=stances.kick(0.5 + (t - hit) / swing_s)), waiting)

    life = Timeline(lambda t: Performance(walker(t), waiting))
    life.then(0.41 * length, kicking, ease_s=0.04 * length)
    life.then(hit, _flying(part, lambda t: kicking(t).person, waiting, hit), ease_s=1e-6)
    life.then(hit + 0.1 * length, _flying(part, walker, waiting, hit), ease_s=0.05 * length)
    return _routine(life, part, thing, ((0.45, 0.51, "kick"),))


def ride(part: Part) -> Routine:
    """Walks up to a bicycle, horse or skateboard, mounts, rides on, dismounts and goes."""
    name, length = ("bicycle", "horse", "skateboard")[part.rng.integers(3)], part.length_s
    ridden = part.thing(name, part.person.height_px / (0.75 if name == "horse" else 1.0))
    ridden = replace(ridden, y_px=part.person.ground_px)
    here, there = part.rng.uniform((0.15, 0.65), (0.35, 0.85)).tolist()
    way = part.path((0.3, here), (0.8, there))
    walker = part.walker(
        part.path((0.0, part.entry), (0.22, here), (0.3, here), (0.8, there), (0.88, there), (1.0, there + 0.2))
    )

    def rolling(t: float) -> Thing:
        x_px, _ = along(part.person, way, t)
        turns = part.way * x_px / (0.19 * ridden.scale_px) * (1.0 if name == "horse" else 0.6)
        return replace(ridden, x_px=x_px, phase=turns, depth=part.person.depth + acts.ASTRIDE)

    def riding(t: float) -> Performance:
        if name == "skateboard":
            return Performance(*acts.surf(walker(t), rolling(t)))
        return Performance(*acts.mount(walker(t), rolling(t), lean=0.5 if name == "bicycle" else 0.12))

    life = Timeline(lambda t: Performance(walker(t), rolling(t)))
    life.then(0.22 * length, riding, ease_s=0.07 * length)
    life.then(0.81 * length, lambda t: Performance(walker(t), rolling(t)), ease_s=0.07 * length)
    return _routine(life, part, ridden, ((0.26, 0.84, "ride"),))


def rest(part: Part) -> Routine:
    """Sits down on a chair or bench for a while."""
    seat, length = part.thing(("chair", "bench")[part.rng.integers(2)]), part.length_s
    here = float(part.rng.uniform(0.3, 0.65))
    seat = replace(seat, x_px=part.x(here), y_px=part.person.ground_px, depth=part.person.depth + acts.BEHIND)
    before = here + 0.16 * part.person.height_px / part.width_px
    walker = part.walker(part.path((0.0, part.entry), (0.3, before), (0.72, before), (1.0, 1.15)))
    life = Timeline(lambda t: Performance(walker(t), seat))
    life.then(0.32 * length, lambda t: Performance(*acts.sit(walker(t), seat)), ease_s=0.08 * length)
    life.then(0.64 * length, lambda t: Performance(walker(t), seat), ease_s=0.07 * length)
    return _routine(life, part, seat, ((0.37, 0.67, "sit_on"),))


def walk_the_dog(part: Part) -> Routine:
    """With a dog on a leash from edge to edge."""
    dog = part.thing("dog")
    walker = part.walker(part.path((0.0, part.entry - 0.1), (1.0, 1.1)))

    def leading(t: float) -> Performance:
        person = walker(t)
        steps = part.way * person.x_px / (0.08 * person.height_px)
        return Performance(*acts.lead(person, replace(dog, phase=steps), ahead=0.8))

    return _routine(Timeline(leading), part, dog, ((0.0, 1.0, "walk"),))


def pass_by(part: Part) -> Routine:
    """Crosses the picture with a backpack on, and hides for a moment what is behind."""
    backpack = part.thing("backpack")
    start = float(part.rng.uniform(0.0, 0.4))
    walker = part.walker(part.path((start, -0.15), (start + 0.55, 1.15)))
    life = Timeline(lambda t: Performance(*acts.wear(walker(t), backpack)))
    return _routine(life, part, backpack, ((start, start + 0.55, "wear"),))


def hand_on(part: Part, taker: Person) -> Routine:
    """One carries something to another, who takes it and goes the other way."""
    name = ("bottle", "cup", "book", "suitcase", "backpack", "umbrella", "sports_ball")[part.rng.integers(7)]
    thing, length = part.thing(name), part.length_s
    here = float(part.rng.uniform(0.35, 0.5))
    there = here + 0.62 * part.person.height_px / part.width_px
    giver = part.walker(part.path((0.0, part.entry), (0.35, here), (0.6, here), (1.0, 1.1)))
    other = replace(
        part, person=replace(taker, ground_px=part.person.ground_px - 1, depth=part.person.depth - 1), way=-part.way
    )
    taking = other.walker([(0.5 * length, part.x(there)), (0.62 * length, part.x(there)), (length, part.x(-0.1))])
    change = 0.47 * length
    gives = Timeline(_carrying(giver, thing))
    gives.then(0.37 * length, _carrying(giver, thing, _GIVE_BODY), ease_s=0.06 * length)
    gives.then(change, lambda t: Performance(giver(t), thing), ease_s=0.08 * length)
    takes = Timeline(lambda t: Performance(taking(t), thing))
    takes.then(0.37 * length, _carrying(taking, thing, _GIVE_BODY), ease_s=0.08 * length)
    takes.then(0.55 * length, _carrying(taking, thing), ease_s=0.05 * length)

    def at(t: float) -> Moment:
        given, taken = gives(t), takes(t)
        return Moment(people=(given.person, taken.person), things=((given if t < change else taken).thing,))

    told = events(part.person, thing, _seconds(((0.0, 0.35, "carry"), (0.35, 0.47, "hold")), length))
    told += events(taker, thing, _seconds(((0.47, 0.62, "hold"), (0.62, 1.0, "carry")), length))
    return Routine(at=at, events=told)


ALONE = (fetch, fetch, ride, rest, throw_away, kick_away, walk_the_dog)
"""Routines of one person; a chapter takes each at most once, and the first, which is the richest, twice."""


def _routine(life: Timeline, part: Part, thing: Thing, spans: tuple[tuple[float, float, str], ...]) -> Routine:
    def at(t: float) -> Moment:
        done = life(t)
        return Moment(people=(done.person,), things=(done.thing,), cords=(done.cord,) if done.cord else ())

    return Routine(at=at, events=events(part.person, thing, _seconds(spans, part.length_s)))


def _seconds(spans: tuple[tuple[float, float, str], ...], length_s: float) -> list[tuple[float, float, str]]:
    return [(start * length_s, end * length_s, verb) for start, end, verb in spans]


def _carrying(walker: Callable[[float], Person], thing: Thing, hand: Point | None = None) -> State:
    return lambda t: Performance(*acts.hold(walker(t), thing, hand or _CARRIED.get(thing.name, (0.24, -0.62))))


def _using(walker: Callable[[float], Person], thing: Thing, verb: str, seed: int) -> State:
    """As in pictures, with the same small accidents in every frame."""
    return lambda t: ACTS[verb, thing.name](walker(t), thing, np.random.default_rng(seed))


def _stooping(walker: Callable[[float], Person], lying: Thing) -> State:
    def state(t: float) -> Performance:
        person = walker(t)
        low = stances.BEND if lying.anchor_px("grip")[1] > person.ground_px - 0.3 * person.height_px else stances.STOOP
        person = replace(person, pose=low)
        return Performance(replace(person, pose=low.with_arms(near=person.point_body(lying.anchor_px("grip")))), lying)

    return state


def _throwing(walker: Callable[[float], Person], thing: Thing, release_s: float, swing_s: float) -> State:
    def state(t: float) -> Performance:
        person = replace(walker(t), pose=stances.throw(1 + (t - release_s) / swing_s))
        held = replace(thing, facing=person.facing, depth=person.depth + acts.IN_HAND)
        return Performance(person, held.pinned("grip", acts.found_joints(person).near_hand))

    return state


def _flying(part: Part, walker: Callable[[float], Person], thing: Thing, start_s: float) -> State:
    """Up, down, and rolling to a stop on the ground."""
    height, floor = part.person.height_px, part.lying(thing, 0.0).y_px
    pace = 0.1 * part.length_s

    def state(t: float) -> Performance:
        flown = max(0.0, t - start_s) / pace
        x_px = thing.x_px + part.way * height * 2.2 * (1 - math.exp(-0.8 * flown))
        y_px = thing.y_px + height * (-0.9 * flown + 0.7 * flown**2)
        turned = (x_px - thing.x_px) / (0.1 * height) if thing.name == "sports_ball" else 0.0
        return Performance(walker(t), replace(thing, x_px=x_px, y_px=min(y_px, floor), angle=part.way * turned))

    return state
