"""Small stories for video that show every action of the repertoire: `perform` has one for each (verb, object).

Every routine takes the length of its chapter and is written in fractions of it, in a direction `way` (1 to the right).
People come from one edge of the place or beyond it, and most of them leave over the other. The same state has the same
verb as in images: an object in the hand of a walking person is carried (or dragged), and held when they stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.synthetic import acts, stances
from hoiclip.synthetic.compose import grounded, sized
from hoiclip.synthetic.icons import natural_size
from hoiclip.synthetic.repertoire import ACTS, GRIPS, NO_INTERACTION, WALKING, Grip, Performance
from hoiclip.synthetic.scene import Person, SceneObject
from hoiclip.synthetic.shapes import Point
from hoiclip.synthetic.stances import Path, along
from hoiclip.synthetic.timeline import Routine, SceneMoment, State, Timeline, events

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
class RoutineSetup:
    """The inputs of a routine: person, place, length and direction."""

    rng: Rng
    person: Person
    next_id: Callable[[], int]
    width_px: float
    length_s: float
    way: int
    entry: float
    """Position of the person at first, as a fraction of the way."""

    def x(self, fraction: float) -> float:
        """Pixels from the edge where the person comes from."""
        return self.width_px * (fraction if self.way == 1 else 1 - fraction)

    def path(self, *knots: tuple[float, float]) -> Path:
        """(fraction of the time, fraction of the way) to seconds and pixels."""
        return [(time * self.length_s, self.x(fraction)) for time, fraction in knots]

    def new_object(self, name: str, scale_px: float | None = None) -> SceneObject:
        made = sized(self.rng, self.next_id(), name, scale_px or self.person.height_px)
        return replace(made, facing=self.way, depth=self.person.depth + acts.IN_HAND)

    def walker(self, path: Path, *, run: bool = False) -> Callable[[float], Person]:
        person = replace(self.person, facing=self.way)

        def at(at_s: float) -> Person:
            x_px, pose = along(person, path, at_s, run=run)
            return replace(person, x_px=x_px, pose=pose)

        return at

    def lying(self, obj: SceneObject, x_px: float) -> SceneObject:
        """The object on the ground at the person's depth."""
        return grounded(replace(obj, x_px=x_px, angle=0.0), self.person.ground_px)


def fetch(setup: RoutineSetup, name: str | None = None) -> Routine:
    """Comes, picks an object up, uses it, carries it on, puts it down and leaves."""
    name = name or _PORTABLE[setup.rng.integers(len(_PORTABLE))]
    uses = [verb for verb in _USES if (verb, name) in ACTS and verb != "fly"]
    use = uses[setup.rng.integers(len(uses))]
    walking = _walking_verb(setup.rng, name)
    obj, length = setup.new_object(name), setup.length_s
    here, there = setup.rng.uniform((0.25, 0.55), (0.45, 0.75)).tolist()
    walker = setup.walker(
        setup.path((0.0, setup.entry), (0.22, here), (0.55, here), (0.8, there), (0.9, there), (1.0, there + 0.15))
    )
    ahead = setup.way * _BEFORE * setup.person.height_px
    first, last = setup.lying(obj, setup.x(here) + ahead), setup.lying(obj, setup.x(there) + ahead)
    life = Timeline(lambda t: Performance(walker(t), first))
    life.then(0.22 * length, _stooping(walker, first), ease_s=0.06 * length)
    life.then(0.29 * length, _holding(walker, obj, "hold"), ease_s=0.05 * length)
    life.then(0.36 * length, _using(walker, obj, use, int(setup.rng.integers(2**31))), ease_s=0.04 * length)
    life.then(0.53 * length, _holding(walker, obj, walking), ease_s=0.03 * length)
    life.then(0.8 * length, _stooping(walker, last), ease_s=0.05 * length)
    life.then(0.86 * length, lambda t: Performance(walker(t), last), ease_s=0.05 * length)
    spans = ((0.27, 0.32, "pick_up"), (0.32, 0.38, "hold"), (0.38, 0.54, use), (0.54, 0.83, walking))
    return _routine(life, setup, obj, spans)


def take_along(setup: RoutineSetup, verb: str, name: str) -> Routine:
    """Carries an object from edge to edge; stops on the way where it is used or held standing."""
    obj, length = setup.new_object(name), setup.length_s
    walking = verb if verb in WALKING else _walking_verb(setup.rng, name)
    uses = [use for use in _USES if (use, name) in ACTS]
    if not uses:
        walker = setup.walker(setup.path((0.0, setup.entry), (1.0, 1.05)))
        return _routine(Timeline(_holding(walker, obj, walking)), setup, obj, ((0.0, 1.0, walking),))
    use = verb if verb in uses else uses[setup.rng.integers(len(uses))]
    here = float(setup.rng.uniform(0.35, 0.6))
    stop, leave = (0.4, 0.6) if verb in WALKING else (0.25, 0.75)
    walker = setup.walker(setup.path((0.0, setup.entry), (stop, here), (leave, here), (1.0, here + 0.5)))
    life = Timeline(_holding(walker, obj, walking))
    life.then((stop - 0.01) * length, _using(walker, obj, use, int(setup.rng.integers(2**31))), ease_s=0.05 * length)
    life.then((leave - 0.02) * length, _holding(walker, obj, walking), ease_s=0.05 * length)
    return _routine(life, setup, obj, ((0.0, stop, walking), (stop, leave, use), (leave, 1.0, walking)))


def attend(setup: RoutineSetup, verb: str, name: str) -> Routine:
    """Walks up to an object, uses it for a while, and leaves."""
    obj, length = setup.new_object(name), setup.length_s
    here, seed = float(setup.rng.uniform(0.3, 0.6)), int(setup.rng.integers(2**31))
    walker = setup.walker(setup.path((0.0, setup.entry), (0.27, here), (0.72, here), (1.0, here + 0.45)))
    act = _using(walker, obj, verb, seed)
    placed = act(0.5 * length).obj
    life = Timeline(lambda t: Performance(walker(t), placed))
    life.then(0.28 * length, act, ease_s=0.07 * length)
    life.then(0.66 * length, lambda t: Performance(walker(t), placed), ease_s=0.06 * length)
    return _routine(life, setup, placed, ((0.32, 0.69, verb),))


def accompany(setup: RoutineSetup, name: str) -> Routine:
    """Leads a dog or a horse, or pushes a bicycle, from edge to edge."""
    led = setup.new_object(name)
    walker = setup.walker(setup.path((0.0, setup.entry - 0.1), (1.0, 1.1)))

    def leading(t: float) -> Performance:
        person = walker(t)
        if name == "bicycle":
            turns = 0.6 * setup.way * person.x_px / (0.19 * led.scale_px)
            return Performance(*acts.push(person, replace(led, phase=turns)))
        steps = setup.way * person.x_px / (0.08 * person.height_px)
        return Performance(*acts.lead(person, replace(led, phase=steps), ahead=0.8 if name == "dog" else 1.0))

    return _routine(Timeline(leading), setup, led, ((0.0, 1.0, "walk"),))


def glide(setup: RoutineSetup, name: str) -> Routine:
    """Rides a board from edge to edge."""
    board = setup.lying(setup.new_object(name), 0.0)
    path = setup.path((0.0, setup.entry), (1.0, 1.1))

    def riding(t: float) -> Performance:
        x_px, _ = along(setup.person, path, t)
        return Performance(*acts.surf(replace(setup.person, facing=setup.way), replace(board, x_px=x_px)))

    return _routine(Timeline(riding), setup, board, ((0.0, 1.0, "ride"),))


def work(setup: RoutineSetup) -> Routine:
    """Sits with a laptop on the knees."""
    laptop, length = setup.new_object("laptop"), setup.length_s
    seed, x_px = int(setup.rng.integers(2**31)), setup.x(float(setup.rng.uniform(0.2, 0.8)))
    still = replace(setup.person, x_px=x_px, facing=setup.way)

    def typing(t: float) -> Performance:
        done = ACTS["type_on", "laptop"](still, laptop, np.random.default_rng(seed))
        nod = done.person.pose.nod + 0.08 * math.sin(1.7 * t)
        return replace(done, person=replace(done.person, pose=replace(done.person.pose, nod=nod)))

    done = typing(0.0)
    ((chair, sitting),) = done.props
    chair = replace(chair, id=setup.next_id())

    def at(t: float) -> SceneMoment:
        done = typing(t)
        return SceneMoment(people=(done.person,), objects=(done.obj, chair))

    typed = events(setup.person, laptop, [(0.0, length, "type_on")])
    return Routine(at=at, events=typed + events(setup.person, chair, [(0.0, length, sitting)]))


def stand_by(setup: RoutineSetup, name: str) -> Routine:
    """Stops beside an object and does nothing with it."""
    here = float(setup.rng.uniform(0.25, 0.65))
    walker = setup.walker(setup.path((0.0, setup.entry), (0.25, here), (0.8, here), (1.0, here + 0.4)))
    side = float(setup.rng.choice((-1.0, 1.0))) * (0.3 + 0.5 * natural_size(name)) * setup.person.height_px
    obj = setup.lying(setup.new_object(name), setup.x(here) + side)
    return _routine(Timeline(lambda t: Performance(walker(t), obj)), setup, obj, ())


def throw_away(setup: RoutineSetup, name: str | None = None) -> Routine:
    """Carries a ball or a frisbee in and throws it on."""
    obj, length = setup.new_object(name or ("sports_ball", "frisbee")[setup.rng.integers(2)]), setup.length_s
    walking = _walking_verb(setup.rng, obj.name)
    here = float(setup.rng.uniform(0.3, 0.55))
    walker = setup.walker(setup.path((0.0, setup.entry), (0.35, here), (0.75, here), (1.0, here + 0.35)))
    release = 0.6 * length
    life = Timeline(_holding(walker, obj, walking))
    life.then(0.35 * length, _holding(walker, obj, "hold"), ease_s=0.04 * length)
    life.then(0.48 * length, _throwing(walker, obj, release, 0.08 * length), ease_s=0.06 * length)
    life.then(release, _flying(setup, walker, life(release - 1e-3).obj, release), ease_s=1e-6)
    spans = ((0.0, 0.36, walking), (0.36, 0.52, "hold"), (0.52, 0.62, "throw"))
    return _routine(life, setup, obj, spans)


def kick_away(setup: RoutineSetup) -> Routine:
    """Runs up to a ball and kicks it."""
    obj, length = setup.new_object("sports_ball"), setup.length_s
    here = float(setup.rng.uniform(0.3, 0.5))
    walker = setup.walker(setup.path((0.0, setup.entry - 0.05), (0.4, here), (0.7, here), (1.0, here + 0.3)), run=True)
    hit, swing_s = 0.48 * length, 0.16 * length
    kicker = replace(walker(hit), pose=stances.kick(0.5))
    ball = acts.at_the_foot(kicker, setup.lying(obj, 0.0), gap=0.0)[1]
    waiting = setup.lying(obj, ball.x_px)

    def kicking(t: float) -> Performance:
        return Performance(replace(walker(t), pose=stances.kick(0.5 + (t - hit) / swing_s)), waiting)

    life = Timeline(lambda t: Performance(walker(t), waiting))
    life.then(0.41 * length, kicking, ease_s=0.04 * length)
    life.then(hit, _flying(setup, lambda t: kicking(t).person, waiting, hit), ease_s=1e-6)
    life.then(hit + 0.1 * length, _flying(setup, walker, waiting, hit), ease_s=0.05 * length)
    return _routine(life, setup, obj, ((0.45, 0.51, "kick"),))


def ride(setup: RoutineSetup, name: str | None = None) -> Routine:
    """Walks up to a bicycle, horse or skateboard, mounts, rides on, dismounts and leaves."""
    name, length = name or ("bicycle", "horse", "skateboard")[setup.rng.integers(3)], setup.length_s
    ridden = setup.new_object(name, setup.person.height_px / (0.75 if name == "horse" else 1.0))
    ridden = replace(ridden, y_px=setup.person.ground_px)
    here, there = setup.rng.uniform((0.15, 0.65), (0.35, 0.85)).tolist()
    way = setup.path((0.3, here), (0.8, there))
    walker = setup.walker(
        setup.path((0.0, setup.entry), (0.22, here), (0.3, here), (0.8, there), (0.88, there), (1.0, there + 0.2))
    )

    def rolling(t: float) -> SceneObject:
        x_px, _ = along(setup.person, way, t)
        turns = setup.way * x_px / (0.19 * ridden.scale_px) * (1.0 if name == "horse" else 0.6)
        return replace(ridden, x_px=x_px, phase=turns, depth=setup.person.depth + acts.ASTRIDE)

    def riding(t: float) -> Performance:
        if name == "skateboard":
            return Performance(*acts.surf(walker(t), rolling(t)))
        return Performance(*acts.mount(walker(t), rolling(t), lean=0.5 if name == "bicycle" else 0.12))

    life = Timeline(lambda t: Performance(walker(t), rolling(t)))
    life.then(0.22 * length, riding, ease_s=0.07 * length)
    life.then(0.81 * length, lambda t: Performance(walker(t), rolling(t)), ease_s=0.07 * length)
    return _routine(life, setup, ridden, ((0.26, 0.84, "ride"),))


def rest(setup: RoutineSetup, name: str | None = None) -> Routine:
    """Sits down on a chair or bench for a while."""
    seat, length = setup.new_object(name or ("chair", "bench")[setup.rng.integers(2)]), setup.length_s
    here = float(setup.rng.uniform(0.3, 0.65))
    seat = replace(seat, x_px=setup.x(here), y_px=setup.person.ground_px, depth=setup.person.depth + acts.BEHIND)
    before = here + 0.16 * setup.person.height_px / setup.width_px
    walker = setup.walker(setup.path((0.0, setup.entry), (0.3, before), (0.72, before), (1.0, 1.15)))
    life = Timeline(lambda t: Performance(walker(t), seat))
    life.then(0.32 * length, lambda t: Performance(*acts.sit(walker(t), seat)), ease_s=0.08 * length)
    life.then(0.64 * length, lambda t: Performance(walker(t), seat), ease_s=0.07 * length)
    return _routine(life, setup, seat, ((0.37, 0.67, "sit_on"),))


def pass_by(setup: RoutineSetup) -> Routine:
    """Crosses the image with a backpack on, and hides for a moment what is behind."""
    backpack = setup.new_object("backpack")
    start = float(setup.rng.uniform(0.0, 0.4))
    walker = setup.walker(setup.path((start, -0.15), (start + 0.55, 1.15)))
    life = Timeline(lambda t: Performance(*acts.wear(walker(t), backpack)))
    return _routine(life, setup, backpack, ((start, start + 0.55, "wear"),))


def hand_on(setup: RoutineSetup, taker: Person) -> Routine:
    """Hands an object on: another person takes it and carries it the other way."""
    name = _HANDED_ON[setup.rng.integers(len(_HANDED_ON))]
    obj, length = setup.new_object(name), setup.length_s
    here = float(setup.rng.uniform(0.35, 0.5))
    there = here + 0.62 * setup.person.height_px / setup.width_px
    giver = setup.walker(setup.path((0.0, setup.entry), (0.35, here), (0.6, here), (1.0, 1.1)))
    other = replace(
        setup, person=replace(taker, ground_px=setup.person.ground_px - 1, depth=setup.person.depth - 1), way=-setup.way
    )
    taking = other.walker([(0.5 * length, setup.x(there)), (0.62 * length, setup.x(there)), (length, setup.x(-0.1))])
    change = 0.47 * length
    gives = Timeline(_holding(giver, obj, "carry"))
    gives.then(0.37 * length, _reaching(giver, obj), ease_s=0.06 * length)
    gives.then(change, lambda t: Performance(giver(t), obj), ease_s=0.08 * length)
    takes = Timeline(lambda t: Performance(taking(t), obj))
    takes.then(0.37 * length, _reaching(taking, obj), ease_s=0.08 * length)
    takes.then(0.55 * length, _holding(taking, obj, "carry"), ease_s=0.05 * length)

    def at(t: float) -> SceneMoment:
        given, taken = gives(t), takes(t)
        return SceneMoment(people=(given.person, taken.person), objects=((given if t < change else taken).obj,))

    both = events(setup.person, obj, _seconds(((0.0, 0.35, "carry"), (0.35, 0.47, "hold")), length))
    both += events(taker, obj, _seconds(((0.47, 0.62, "hold"), (0.62, 1.0, "carry")), length))
    return Routine(at=at, events=both)


ALONE: tuple[Callable[[RoutineSetup], Routine], ...] = (
    fetch,
    fetch,
    ride,
    rest,
    throw_away,
    kick_away,
    lambda setup: accompany(setup, "dog"),
)
"""Routines of one person; a chapter takes each at most once, and the first, which is the richest, twice."""


def perform(setup: RoutineSetup, verb: str, name: str) -> Routine:
    """The routine of a (verb, object); with NO_INTERACTION the person only stands beside the object."""
    match verb:
        case _ if verb == NO_INTERACTION:
            return stand_by(setup, name)
        case "wear":
            return pass_by(setup)
        case "throw":
            return throw_away(setup, name)
        case "kick":
            return kick_away(setup)
        case "pick_up":
            return fetch(setup, name)
        case "type_on":
            return work(setup)
        case "walk":
            return accompany(setup, name)
        case "ride":
            return glide(setup, name) if name.endswith("board") and setup.rng.random() < 0.5 else _mounting(setup, name)
        case "sit_on" if name in ("chair", "bench"):
            return rest(setup, name)
        case _ if (verb, name) in GRIPS or (verb in _USES and ("hold", name) in GRIPS):
            return take_along(setup, verb, name)
        case _:
            return attend(setup, verb, name)


def _mounting(setup: RoutineSetup, name: str) -> Routine:
    """Riding that begins on foot, except on a surfboard."""
    return glide(setup, name) if name == "surfboard" else ride(setup, name)


def _walking_verb(rng: Rng, name: str) -> str:
    """Verb of this object in the hand of a walking person."""
    verbs = [verb for verb in WALKING if (verb, name) in GRIPS]
    return verbs[rng.integers(len(verbs))] if verbs else "hold"


def _routine(
    life: Timeline, setup: RoutineSetup, obj: SceneObject, spans: tuple[tuple[float, float, str], ...]
) -> Routine:
    def at(t: float) -> SceneMoment:
        done = life(t)
        return SceneMoment(people=(done.person,), objects=(done.obj,), cords=(done.cord,) if done.cord else ())

    return Routine(at=at, events=events(setup.person, obj, _seconds(spans, setup.length_s)))


def _seconds(spans: tuple[tuple[float, float, str], ...], length_s: float) -> list[tuple[float, float, str]]:
    return [(start * length_s, end * length_s, verb) for start, end, verb in spans]


def _holding(walker: Callable[[float], Person], obj: SceneObject, verb: str) -> State:
    """The arms of an image of this verb, and the legs of the walker."""
    grip = GRIPS[verb, obj.name]
    return lambda t: grip.hold(walker(t), obj)


def _reaching(walker: Callable[[float], Person], obj: SceneObject) -> State:
    return lambda t: Grip(_GIVE_BODY).hold(walker(t), obj)


def _using(walker: Callable[[float], Person], obj: SceneObject, verb: str, seed: int) -> State:
    """The action as in images, with the same random details in every frame."""
    return lambda t: ACTS[verb, obj.name](walker(t), obj, np.random.default_rng(seed))


def _stooping(walker: Callable[[float], Person], lying: SceneObject) -> State:
    def state(t: float) -> Performance:
        person = walker(t)
        low = stances.BEND if lying.anchor_px("grip")[1] > person.ground_px - 0.3 * person.height_px else stances.STOOP
        person = replace(person, pose=low)
        return Performance(replace(person, pose=low.with_arms(near=person.point_body(lying.anchor_px("grip")))), lying)

    return state


def _throwing(walker: Callable[[float], Person], obj: SceneObject, release_s: float, swing_s: float) -> State:
    def state(t: float) -> Performance:
        person = replace(walker(t), pose=stances.throw(1 + (t - release_s) / swing_s))
        held = replace(obj, facing=person.facing, depth=person.depth + acts.IN_HAND)
        return Performance(person, held.pinned("grip", acts.found_joints(person).near_hand))

    return state


def _flying(setup: RoutineSetup, walker: Callable[[float], Person], obj: SceneObject, start_s: float) -> State:
    """A thrown object: up, down, and rolling to a stop on the ground."""
    height, floor = setup.person.height_px, setup.lying(obj, 0.0).y_px
    pace = 0.1 * setup.length_s

    def state(t: float) -> Performance:
        flown = max(0.0, t - start_s) / pace
        x_px = obj.x_px + setup.way * height * 2.2 * (1 - math.exp(-0.8 * flown))
        y_px = obj.y_px + height * (-0.9 * flown + 0.7 * flown**2)
        turned = (x_px - obj.x_px) / (0.1 * height) if obj.name == "sports_ball" else 0.0
        return Performance(walker(t), replace(obj, x_px=x_px, y_px=min(y_px, floor), angle=setup.way * turned))

    return state
