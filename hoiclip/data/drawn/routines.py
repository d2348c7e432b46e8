"""Small stories for video that show every action of the repertoire: `perform` has one for each (verb, object).

Every routine takes the length of its chapter and is told in fractions of it, in a direction `way` (1 to the right).
People come from one edge of the place or beyond it, and most of them leave over the other. The same state has the same
verb as in images: what is in the hand of somebody who walks is carried (or dragged), and held when they stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.data.drawn import acts, stances
from hoiclip.data.drawn.compose import grounded, sized
from hoiclip.data.drawn.gait import Path, along
from hoiclip.data.drawn.objects import natural_size
from hoiclip.data.drawn.repertoire import ACTS, GRIPS, NO_INTERACTION, WALKING, Grip, Performance
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
_USES = ("hold", "drink_with", "read", "text_on", "talk_on", "fly")
_HANDED_ON = ("bottle", "cup", "book", "suitcase", "backpack", "umbrella", "sports_ball")
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


def fetch(part: Part, name: str | None = None) -> Routine:
    """Comes, picks something up, uses it, carries it on, puts it down and goes."""
    name = name or _PORTABLE[part.rng.integers(len(_PORTABLE))]
    uses = [verb for verb in _USES if (verb, name) in ACTS and verb != "fly"]
    use = uses[part.rng.integers(len(uses))]
    walking = _walking_verb(part.rng, name)
    thing, length = part.thing(name), part.length_s
    here, there = part.rng.uniform((0.25, 0.55), (0.45, 0.75)).tolist()
    walker = part.walker(
        part.path((0.0, part.entry), (0.22, here), (0.55, here), (0.8, there), (0.9, there), (1.0, there + 0.15))
    )
    ahead = part.way * _BEFORE * part.person.height_px
    first, last = part.lying(thing, part.x(here) + ahead), part.lying(thing, part.x(there) + ahead)
    life = Timeline(lambda t: Performance(walker(t), first))
    life.then(0.22 * length, _stooping(walker, first), ease_s=0.06 * length)
    life.then(0.29 * length, _holding(walker, thing, "hold"), ease_s=0.05 * length)
    life.then(0.36 * length, _using(walker, thing, use, int(part.rng.integers(2**31))), ease_s=0.04 * length)
    life.then(0.53 * length, _holding(walker, thing, walking), ease_s=0.03 * length)
    life.then(0.8 * length, _stooping(walker, last), ease_s=0.05 * length)
    life.then(0.86 * length, lambda t: Performance(walker(t), last), ease_s=0.05 * length)
    spans = ((0.27, 0.32, "pick_up"), (0.32, 0.38, "hold"), (0.38, 0.54, use), (0.54, 0.83, walking))
    return _routine(life, part, thing, spans)


def take_along(part: Part, verb: str, name: str) -> Routine:
    """With something in hand from edge to edge; stops on the way where it is used or held standing."""
    thing, length = part.thing(name), part.length_s
    walking = verb if verb in WALKING else _walking_verb(part.rng, name)
    uses = [use for use in _USES if (use, name) in ACTS]
    if not uses:
        walker = part.walker(part.path((0.0, part.entry), (1.0, 1.05)))
        return _routine(Timeline(_holding(walker, thing, walking)), part, thing, ((0.0, 1.0, walking),))
    use = verb if verb in uses else uses[part.rng.integers(len(uses))]
    here = float(part.rng.uniform(0.35, 0.6))
    stops, goes = (0.4, 0.6) if verb in WALKING else (0.25, 0.75)
    walker = part.walker(part.path((0.0, part.entry), (stops, here), (goes, here), (1.0, here + 0.5)))
    life = Timeline(_holding(walker, thing, walking))
    life.then((stops - 0.01) * length, _using(walker, thing, use, int(part.rng.integers(2**31))), ease_s=0.05 * length)
    life.then((goes - 0.02) * length, _holding(walker, thing, walking), ease_s=0.05 * length)
    return _routine(life, part, thing, ((0.0, stops, walking), (stops, goes, use), (goes, 1.0, walking)))


def attend(part: Part, verb: str, name: str) -> Routine:
    """Walks up to something that stands there, does something with it for a while, and goes."""
    thing, length = part.thing(name), part.length_s
    here, seed = float(part.rng.uniform(0.3, 0.6)), int(part.rng.integers(2**31))
    walker = part.walker(part.path((0.0, part.entry), (0.27, here), (0.72, here), (1.0, here + 0.45)))
    act = _using(walker, thing, verb, seed)
    placed = act(0.5 * length).thing
    life = Timeline(lambda t: Performance(walker(t), placed))
    life.then(0.28 * length, act, ease_s=0.07 * length)
    life.then(0.66 * length, lambda t: Performance(walker(t), placed), ease_s=0.06 * length)
    return _routine(life, part, placed, ((0.32, 0.69, verb),))


def accompany(part: Part, name: str) -> Routine:
    """Leads a dog or a horse, or pushes a bicycle, from edge to edge."""
    led = part.thing(name)
    walker = part.walker(part.path((0.0, part.entry - 0.1), (1.0, 1.1)))

    def leading(t: float) -> Performance:
        person = walker(t)
        if name == "bicycle":
            turns = 0.6 * part.way * person.x_px / (0.19 * led.scale_px)
            return Performance(*acts.push(person, replace(led, phase=turns)))
        steps = part.way * person.x_px / (0.08 * person.height_px)
        return Performance(*acts.lead(person, replace(led, phase=steps), ahead=0.8 if name == "dog" else 1.0))

    return _routine(Timeline(leading), part, led, ((0.0, 1.0, "walk"),))


def glide(part: Part, name: str) -> Routine:
    """On a board from edge to edge."""
    board = part.lying(part.thing(name), 0.0)
    path = part.path((0.0, part.entry), (1.0, 1.1))

    def riding(t: float) -> Performance:
        x_px, _ = along(part.person, path, t)
        return Performance(*acts.surf(replace(part.person, facing=part.way), replace(board, x_px=x_px)))

    return _routine(Timeline(riding), part, board, ((0.0, 1.0, "ride"),))


def work(part: Part) -> Routine:
    """Sits with a laptop on the knees."""
    laptop, length = part.thing("laptop"), part.length_s
    seed, x_px = int(part.rng.integers(2**31)), part.x(float(part.rng.uniform(0.2, 0.8)))
    still = replace(part.person, x_px=x_px, facing=part.way)

    def typing(t: float) -> Performance:
        done = ACTS["type_on", "laptop"](still, laptop, np.random.default_rng(seed))
        nod = done.person.pose.nod + 0.08 * math.sin(1.7 * t)
        return replace(done, person=replace(done.person, pose=replace(done.person.pose, nod=nod)))

    done = typing(0.0)
    ((chair, sitting),) = done.props
    chair = replace(chair, id=part.next_id())

    def at(t: float) -> Moment:
        done = typing(t)
        return Moment(people=(done.person,), things=(done.thing, chair))

    told = events(part.person, laptop, [(0.0, length, "type_on")])
    return Routine(at=at, events=told + events(part.person, chair, [(0.0, length, sitting)]))


def stand_by(part: Part, name: str) -> Routine:
    """Stops beside something and does nothing with it."""
    here = float(part.rng.uniform(0.25, 0.65))
    walker = part.walker(part.path((0.0, part.entry), (0.25, here), (0.8, here), (1.0, here + 0.4)))
    side = float(part.rng.choice((-1.0, 1.0))) * (0.3 + 0.5 * natural_size(name)) * part.person.height_px
    thing = part.lying(part.thing(name), part.x(here) + side)
    return _routine(Timeline(lambda t: Performance(walker(t), thing)), part, thing, ())


def throw_away(part: Part, name: str | None = None) -> Routine:
    """Carries a ball or a frisbee in and throws it on."""
    thing, length = part.thing(name or ("sports_ball", "frisbee")[part.rng.integers(2)]), part.length_s
    walking = _walking_verb(part.rng, thing.name)
    here = float(part.rng.uniform(0.3, 0.55))
    walker = part.walker(part.path((0.0, part.entry), (0.35, here), (0.75, here), (1.0, here + 0.35)))
    release = 0.6 * length
    life = Timeline(_holding(walker, thing, walking))
    life.then(0.35 * length, _holding(walker, thing, "hold"), ease_s=0.04 * length)
    life.then(0.48 * length, _throwing(walker, thing, release, 0.08 * length), ease_s=0.06 * length)
    life.then(release, _flying(part, walker, life(release - 1e-3).thing, release), ease_s=1e-6)
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


def ride(part: Part, name: str | None = None) -> Routine:
    """Walks up to a bicycle, horse or skateboard, mounts, rides on, dismounts and goes."""
    name, length = name or ("bicycle", "horse", "skateboard")[part.rng.integers(3)], part.length_s
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


def rest(part: Part, name: str | None = None) -> Routine:
    """Sits down on a chair or bench for a while."""
    seat, length = part.thing(name or ("chair", "bench")[part.rng.integers(2)]), part.length_s
    here = float(part.rng.uniform(0.3, 0.65))
    seat = replace(seat, x_px=part.x(here), y_px=part.person.ground_px, depth=part.person.depth + acts.BEHIND)
    before = here + 0.16 * part.person.height_px / part.width_px
    walker = part.walker(part.path((0.0, part.entry), (0.3, before), (0.72, before), (1.0, 1.15)))
    life = Timeline(lambda t: Performance(walker(t), seat))
    life.then(0.32 * length, lambda t: Performance(*acts.sit(walker(t), seat)), ease_s=0.08 * length)
    life.then(0.64 * length, lambda t: Performance(walker(t), seat), ease_s=0.07 * length)
    return _routine(life, part, seat, ((0.37, 0.67, "sit_on"),))


def pass_by(part: Part) -> Routine:
    """Crosses the picture with a backpack on, and hides for a moment what is behind."""
    backpack = part.thing("backpack")
    start = float(part.rng.uniform(0.0, 0.4))
    walker = part.walker(part.path((start, -0.15), (start + 0.55, 1.15)))
    life = Timeline(lambda t: Performance(*acts.wear(walker(t), backpack)))
    return _routine(life, part, backpack, ((start, start + 0.55, "wear"),))


def hand_on(part: Part, taker: Person) -> Routine:
    """One carries something to another, who takes it and goes the other way."""
    name = _HANDED_ON[part.rng.integers(len(_HANDED_ON))]
    thing, length = part.thing(name), part.length_s
    here = float(part.rng.uniform(0.35, 0.5))
    there = here + 0.62 * part.person.height_px / part.width_px
    giver = part.walker(part.path((0.0, part.entry), (0.35, here), (0.6, here), (1.0, 1.1)))
    other = replace(
        part, person=replace(taker, ground_px=part.person.ground_px - 1, depth=part.person.depth - 1), way=-part.way
    )
    taking = other.walker([(0.5 * length, part.x(there)), (0.62 * length, part.x(there)), (length, part.x(-0.1))])
    change = 0.47 * length
    gives = Timeline(_holding(giver, thing, "carry"))
    gives.then(0.37 * length, _reaching(giver, thing), ease_s=0.06 * length)
    gives.then(change, lambda t: Performance(giver(t), thing), ease_s=0.08 * length)
    takes = Timeline(lambda t: Performance(taking(t), thing))
    takes.then(0.37 * length, _reaching(taking, thing), ease_s=0.08 * length)
    takes.then(0.55 * length, _holding(taking, thing, "carry"), ease_s=0.05 * length)

    def at(t: float) -> Moment:
        given, taken = gives(t), takes(t)
        return Moment(people=(given.person, taken.person), things=((given if t < change else taken).thing,))

    told = events(part.person, thing, _seconds(((0.0, 0.35, "carry"), (0.35, 0.47, "hold")), length))
    told += events(taker, thing, _seconds(((0.47, 0.62, "hold"), (0.62, 1.0, "carry")), length))
    return Routine(at=at, events=told)


ALONE: tuple[Callable[[Part], Routine], ...] = (
    fetch,
    fetch,
    ride,
    rest,
    throw_away,
    kick_away,
    lambda part: accompany(part, "dog"),
)
"""Routines of one person; a chapter takes each at most once, and the first, which is the richest, twice."""


def perform(part: Part, verb: str, name: str) -> Routine:
    """A routine in which this is done, or in which nothing is done beside this object."""
    match verb:
        case _ if verb == NO_INTERACTION:
            return stand_by(part, name)
        case "wear":
            return pass_by(part)
        case "throw":
            return throw_away(part, name)
        case "kick":
            return kick_away(part)
        case "pick_up":
            return fetch(part, name)
        case "type_on":
            return work(part)
        case "walk":
            return accompany(part, name)
        case "ride":
            return glide(part, name) if name.endswith("board") and part.rng.random() < 0.5 else _mounting(part, name)
        case "sit_on" if name in ("chair", "bench"):
            return rest(part, name)
        case _ if (verb, name) in GRIPS or (verb in _USES and ("hold", name) in GRIPS):
            return take_along(part, verb, name)
        case _:
            return attend(part, verb, name)


def _mounting(part: Part, name: str) -> Routine:
    """Nobody walks up to a surfboard."""
    return glide(part, name) if name == "surfboard" else ride(part, name)


def _walking_verb(rng: Rng, name: str) -> str:
    """Verb of this in the hand of somebody who walks."""
    verbs = [verb for verb in WALKING if (verb, name) in GRIPS]
    return verbs[rng.integers(len(verbs))] if verbs else "hold"


def _routine(life: Timeline, part: Part, thing: Thing, spans: tuple[tuple[float, float, str], ...]) -> Routine:
    def at(t: float) -> Moment:
        done = life(t)
        return Moment(people=(done.person,), things=(done.thing,), cords=(done.cord,) if done.cord else ())

    return Routine(at=at, events=events(part.person, thing, _seconds(spans, part.length_s)))


def _seconds(spans: tuple[tuple[float, float, str], ...], length_s: float) -> list[tuple[float, float, str]]:
    return [(start * length_s, end * length_s, verb) for start, end, verb in spans]


def _holding(walker: Callable[[float], Person], thing: Thing, verb: str) -> State:
    """With the arms of an image of this verb, and the legs of whoever walks or stands."""
    grip = GRIPS[verb, thing.name]
    return lambda t: grip.hold(walker(t), thing)


def _reaching(walker: Callable[[float], Person], thing: Thing) -> State:
    return lambda t: Grip(_GIVE_BODY).hold(walker(t), thing)


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
