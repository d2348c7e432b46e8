"""The verbs of the synthetic world: one action for each (verb, object), in the names of the vocabulary "hico"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from hoiclip.synthetic import acts, stances
from hoiclip.synthetic.icons import icon
from hoiclip.synthetic.scene import Cord, Person, SceneObject, random_object
from hoiclip.synthetic.shapes import Point
from hoiclip.synthetic.skeleton import Pose

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Performance:
    """A person in action; `props` are objects that the action needs, with what the person does to them."""

    person: Person
    obj: SceneObject
    cord: Cord | None = None
    props: tuple[tuple[SceneObject, str], ...] = ()


Act = Callable[[Person, SceneObject, Rng], Performance]


def _striding(rng: Rng) -> Pose:
    """A walking pose, but not the moment when the legs pass each other, which resembles standing."""
    phase = (0.5 if rng.random() < 0.5 else 1.5) * np.pi + float(rng.uniform(-1.0, 1.0))
    return stances.walk(phase)


@dataclass(frozen=True, slots=True)
class Grip:
    """The position of an object in the near hand, or in both."""

    hand: Point
    """In body heights."""
    angle: float = 0.0
    both: bool = False

    def hold(self, person: Person, obj: SceneObject) -> Performance:
        """The person in the pose they are in, but for the arms."""
        return Performance(*acts.hold(person, obj, self.hand, angle=self.angle, both=self.both))


def _in_hand(verb: str, name: str, grip: Grip) -> Act:
    """Carrying and dragging are done walking, all else standing; what is never carried is held walking, too."""
    walking = 1.0 if verb in WALKING else 0.0 if verb != "hold" or ("carry", name) in GRIPS else 0.5

    def act(person: Person, obj: SceneObject, rng: Rng) -> Performance:
        strides = rng.random() < walking
        pose = _striding(rng) if strides else replace(stances.STAND, nod=rng.uniform(0, 0.25))
        dx, dy, tilt = rng.uniform((-0.03, -0.03, -0.15), (0.03, 0.03, 0.15)).tolist()
        loose = replace(grip, hand=(grip.hand[0] + dx, grip.hand[1] + dy), angle=grip.angle + tilt)
        return loose.hold(replace(person, pose=pose), obj)

    return act


def _at_head(offset: Point, *, anchor: str, angle: float) -> Act:
    def act(person: Person, obj: SceneObject, rng: Rng) -> Performance:
        person = replace(person, pose=replace(stances.STAND, nod=float(rng.uniform(-0.2, 0.0))))
        return Performance(*acts.to_the_head(person, obj, offset, anchor=anchor, angle=angle))

    return act


def _mount(lean: float) -> Act:
    def act(person: Person, obj: SceneObject, rng: Rng) -> Performance:
        phase = float(rng.uniform(0, 2 * np.pi))
        standing = replace(obj, x_px=person.x_px, y_px=person.ground_px, facing=person.facing, phase=phase)
        return Performance(*acts.mount(person, standing, lean=lean + float(rng.uniform(-0.05, 0.05))))

    return act


def _on_ground(person: Person, obj: SceneObject, lift: float = 0.0) -> SceneObject:
    return replace(obj, x_px=person.x_px, y_px=person.ground_px - lift * obj.scale_px, facing=person.facing)


def _ride_skateboard(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    return Performance(*acts.surf(person, _on_ground(person, obj)))


def _ride_surfboard(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    tilted = replace(_on_ground(person, obj, 0.06), angle=float(rng.uniform(-0.1, 0.0)))
    return Performance(*acts.surf(person, tilted))


def _stand_on(anchor: str, lift: float = 0.0) -> Act:
    def act(person: Person, obj: SceneObject, rng: Rng) -> Performance:
        arms = float(rng.uniform(0.1, 0.7))
        pose = replace(stances.STAND, near_arm=(-arms, -arms + 0.3), far_arm=(arms, arms + 0.3))
        return Performance(*acts.stand_on(replace(person, pose=pose), _on_ground(person, obj, lift), anchor=anchor))

    return act


def _sit_on(anchor: str) -> Act:
    def act(person: Person, obj: SceneObject, rng: Rng) -> Performance:
        return Performance(*acts.sit(person, _on_ground(person, obj), anchor=anchor))

    return act


def _type_on(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    chair = _on_ground(person, random_object(rng, obj.id + 1, "chair", person.height_px))
    person, chair = acts.sit(person, chair)
    person = replace(person, pose=replace(person.pose, nod=0.25))
    person, laptop = acts.on_the_lap(person, obj)
    return Performance(person, laptop, props=((chair, "sit_on"),))


def _wear(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    pose = _striding(rng) if rng.random() < 0.6 else stances.STAND
    return Performance(*acts.wear(replace(person, pose=pose), obj))


def _kick(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    person = replace(person, pose=stances.kick(float(rng.uniform(0.4, 0.55))))
    return Performance(*acts.at_the_foot(person, obj, gap=float(rng.uniform(-0.02, 0.12))))


def _throw(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    person = replace(person, pose=stances.throw(float(rng.uniform(0.3, 1.0))))
    found = acts.found_joints(person)
    flown = float(rng.uniform(0.03, 0.15))
    thrown = replace(obj, facing=person.facing, depth=person.depth + acts.IN_HAND)
    away = person.point_body(found.near_hand)
    return Performance(person, thrown.pinned("grip", person.point_px((away[0] + flown, away[1] - 0.4 * flown))))


def _pick_up(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    person = replace(person, pose=stances.BEND)
    return Performance(*acts.hold(person, obj, (0.4, -0.16 - float(rng.uniform(0, 0.05))), both=True))


def _lead(ahead: float) -> Act:
    def act(person: Person, obj: SceneObject, rng: Rng) -> Performance:
        person = replace(person, pose=_striding(rng))
        obj = replace(obj, phase=float(rng.uniform(0, 2 * np.pi)))
        return Performance(*acts.lead(person, obj, ahead=ahead * float(rng.uniform(0.95, 1.15))))

    return act


def _push(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    return Performance(*acts.push(replace(person, pose=_striding(rng)), obj))


def _pick_up_by_the_handle(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    """Bends over an object that still stands on the ground."""
    person = replace(person, pose=stances.STOOP)
    x, _ = person.point_px((float(rng.uniform(0.3, 0.4)), 0.0))
    case = replace(obj, x_px=x, y_px=person.ground_px, facing=person.facing, depth=person.depth + acts.IN_HAND)
    hand = person.point_body(case.anchor_px("grip"))
    return Performance(replace(person, pose=person.pose.with_arms(near=hand)), case)


def _hold_bicycle(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    return Performance(*acts.push(replace(person, pose=stances.STAND), obj))


def _pet_horse(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    """Faces the horse, a hand on its nose."""
    person = replace(person, pose=replace(stances.STAND, nod=-0.1))
    x, _ = person.point_px((0.3 + 0.64 * obj.scale_px / person.height_px, 0.0))
    horse = replace(obj, x_px=x, y_px=person.ground_px, facing=-person.facing, depth=person.depth + acts.IN_HAND)
    hand = person.point_body(horse.anchor_px("collar"))
    return Performance(replace(person, pose=person.pose.with_arms(near=hand)), horse)


def _point_at(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    """Points at an object on the ground ahead; "inspect" is the nearest verb of the vocabulary."""
    points = icon(obj.name).outlines.points_xy * obj.scale_px / person.height_px
    ahead = float(rng.uniform(0.35, 0.5)) - float(points[:, 0].min())
    x, y = person.point_px((ahead, -float(points[:, 1].max())))
    shown = replace(obj, x_px=x, y_px=y, facing=person.facing, depth=person.depth + acts.IN_HAND)
    middle = (ahead, float(points[:, 1].mean() - points[:, 1].max()))
    pose = replace(stances.STAND, lean=0.12, nod=0.2, far_arm=(-0.1, 0.5)).with_arms(near=middle)
    return Performance(replace(person, pose=pose), shown)


def _pet(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    person = replace(person, pose=stances.STOOP)
    x, _ = person.point_px((0.62, 0.0))
    dog = replace(obj, x_px=x, y_px=person.ground_px, facing=-person.facing, depth=person.depth + acts.IN_HAND)
    hand = person.point_body(dog.anchor_px("head"))
    return Performance(replace(person, pose=person.pose.with_arms(near=hand)), dog)


def _fly(person: Person, obj: SceneObject, rng: Rng) -> Performance:
    at = (float(rng.uniform(0.4, 0.9)), -float(rng.uniform(1.05, 1.3)))
    return Performance(*acts.fly(replace(person, pose=replace(stances.STAND, nod=-0.35)), obj, at=at))


_CHEST: Point = (0.19, -0.56)
_FORWARD: Point = (0.26, -0.64)
_LOW: Point = (0.1, -0.485)

WALKING = ("carry", "drag")
"""Verbs of an object in the hand of a walking person."""

GRIPS = MappingProxyType[tuple[str, str], Grip](
    {
        ("carry", "skateboard"): Grip(_CHEST, angle=0.5),
        ("hold", "skateboard"): Grip(_CHEST, angle=1.3),
        ("carry", "surfboard"): Grip((0.04, -0.55), angle=-0.1),
        ("hold", "surfboard"): Grip((0.2, -0.55), angle=-1.45),
        ("hold", "sports_ball"): Grip(_FORWARD, both=True),
        ("carry", "sports_ball"): Grip(_CHEST),
        ("hold", "frisbee"): Grip(_FORWARD),
        ("hold", "umbrella"): Grip((0.16, -0.66)),
        ("carry", "umbrella"): Grip((0.14, -0.64), angle=0.1),
        ("carry", "suitcase"): Grip(_LOW),
        ("hold", "suitcase"): Grip(_LOW),
        ("drag", "suitcase"): Grip((-0.14, -0.49), angle=0.5),
        ("hold", "backpack"): Grip((0.24, -0.62)),
        ("carry", "backpack"): Grip((0.1, -0.5)),
        ("hold", "cup"): Grip(_FORWARD),
        ("carry", "cup"): Grip(_FORWARD),
        ("hold", "bottle"): Grip(_FORWARD),
        ("carry", "bottle"): Grip(_FORWARD),
        ("hold", "laptop"): Grip((0.22, -0.6), both=True),
        ("carry", "chair"): Grip((0.16, -0.56), both=True),
        ("hold", "kite"): Grip((0.24, -0.66), angle=0.2),
        ("carry", "kite"): Grip((0.18, -0.55), angle=0.4),
        ("read", "book"): Grip((0.23, -0.64), both=True, angle=-0.15),
        ("hold", "book"): Grip((0.24, -0.55)),
        ("carry", "book"): Grip((0.12, -0.48), angle=0.6),
        ("hold", "cell_phone"): Grip(_FORWARD),
        ("text_on", "cell_phone"): Grip((0.18, -0.66), both=True, angle=0.2),
    }
)

ACTS = MappingProxyType[tuple[str, str], Act](
    {
        **{triplet: _in_hand(*triplet, grip) for triplet, grip in GRIPS.items()},
        ("ride", "bicycle"): _mount(0.5),
        ("walk", "bicycle"): _push,
        ("hold", "bicycle"): _hold_bicycle,
        ("inspect", "bicycle"): _point_at,
        ("ride", "horse"): _mount(0.12),
        ("walk", "horse"): _lead(1.0),
        ("pet", "horse"): _pet_horse,
        ("ride", "skateboard"): _ride_skateboard,
        ("stand_on", "skateboard"): _stand_on("deck"),
        ("ride", "surfboard"): _ride_surfboard,
        ("sit_on", "surfboard"): _sit_on("deck"),
        ("inspect", "surfboard"): _point_at,
        ("kick", "sports_ball"): _kick,
        ("throw", "sports_ball"): _throw,
        ("pick_up", "sports_ball"): _pick_up,
        ("inspect", "sports_ball"): _point_at,
        ("throw", "frisbee"): _throw,
        ("pick_up", "suitcase"): _pick_up_by_the_handle,
        ("wear", "backpack"): _wear,
        ("inspect", "backpack"): _point_at,
        ("drink_with", "cup"): _at_head((0.09, 0.035), anchor="mouth", angle=-0.5),
        ("drink_with", "bottle"): _at_head((0.075, 0.04), anchor="mouth", angle=-1.2),
        ("type_on", "laptop"): _type_on,
        ("sit_on", "chair"): _sit_on("seat"),
        ("stand_on", "chair"): _stand_on("seat"),
        ("sit_on", "bench"): _sit_on("seat"),
        ("sit_on", "skateboard"): _sit_on("deck"),
        ("walk", "dog"): _lead(0.75),
        ("pet", "dog"): _pet,
        ("inspect", "dog"): _point_at,
        ("fly", "kite"): _fly,
        ("talk_on", "cell_phone"): _at_head((0.0, 0.03), anchor="grip", angle=-0.25),
    }
)
"""Every (verb, object) that can be drawn, beside ("no_interaction", object) for every object."""

NO_INTERACTION = "no_interaction"
