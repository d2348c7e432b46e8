"""Actions: how a body and a thing fit together when somebody does something with it.

Each function takes a person and a thing that already have a size, and returns both in their places. The verbs are not
named here: several verbs share one arrangement (repertoire.py).
"""

from __future__ import annotations

from dataclasses import replace

from hoiclip.data.drawn import stances
from hoiclip.data.drawn.objects import icon
from hoiclip.data.drawn.scene import Cord, Person, Thing
from hoiclip.data.drawn.shapes import Point
from hoiclip.data.drawn.skeleton import SOLE, Joints, Pose, between, joints

IN_HAND, BEHIND, ASTRIDE = 0.2, -0.4, -0.1
"""Depths relative to the person: under the near arm, behind everything, between the far limbs and the body."""


def hold(
    person: Person,
    thing: Thing,
    hand: Point,
    *,
    anchor: str = "grip",
    angle: float = 0.0,
    both: bool = False,
    depth: float = IN_HAND,
) -> tuple[Person, Thing]:
    """The near hand, or both, at a point in body heights, with the thing in it."""
    pose = person.pose.with_arms(near=hand, far=hand if both else None)
    held = replace(thing, angle=angle, facing=person.facing, depth=person.depth + depth)
    return replace(person, pose=pose), held.pinned(anchor, person.point_px(joints(pose).near_hand))


def to_the_head(person: Person, thing: Thing, offset: Point, *, anchor: str, angle: float) -> tuple[Person, Thing]:
    """One point of the thing at the face (drinking, telephoning), the hand wherever its grip then is."""
    head = joints(person.pose).head
    raised = replace(thing, angle=angle, facing=person.facing, depth=person.depth + IN_HAND)
    raised = raised.pinned(anchor, person.point_px((head[0] + offset[0], head[1] + offset[1])))
    hand = person.point_body(raised.anchor_px("grip"))
    return replace(person, pose=person.pose.with_arms(near=hand)), raised


def mount(person: Person, ridden: Thing, *, lean: float) -> tuple[Person, Thing]:
    """Astride a bicycle or a horse that stands on the ground: hip on the saddle, hands and feet where they belong."""
    x, y = ridden.anchor_px("saddle")
    person = replace(person, x_px=x, ground_px=ridden.y_px, facing=ridden.facing)
    hands = person.point_body(ridden.anchor_px("bars"))
    feet = {side: person.point_body(ridden.anchor_px(f"{side}_pedal")) for side in ("near", "far")}
    pose = Pose(hip_height=(ridden.y_px - y) / person.height_px, lean=lean, nod=-0.3 * lean)
    pose = pose.with_arms(near=hands, far=hands)
    pose = pose.with_feet(near=_ankle(feet["near"]), far=_ankle(feet["far"]))
    return replace(person, pose=pose), replace(ridden, depth=person.depth + ASTRIDE)


def surf(person: Person, board: Thing) -> tuple[Person, Thing]:
    """On a skateboard or surfboard, knees bent."""
    x, y = board.anchor_px("deck")
    person = replace(person, x_px=x, ground_px=y, facing=board.facing, pose=stances.SURF)
    return person, replace(board, depth=person.depth + BEHIND)


def stand_on(person: Person, thing: Thing, *, anchor: str) -> tuple[Person, Thing]:
    """Upright on top of it."""
    x, y = thing.anchor_px(anchor)
    person = replace(person, x_px=x, ground_px=y, facing=thing.facing)
    return person, replace(thing, depth=person.depth + BEHIND)


def sit(person: Person, seat: Thing, *, anchor: str = "seat") -> tuple[Person, Thing]:
    """Hip on the seat, feet on the ground before it."""
    x, y = seat.anchor_px(anchor)
    ground = person.ground_px
    person = replace(person, x_px=x, facing=seat.facing)
    hip = max(0.12, (ground - y) / person.height_px + 0.02)
    pose = Pose(hip_height=hip, lean=-0.04, near_arm=(0.35, 0.9), far_arm=(0.3, 1.0))
    forward = 0.24 if hip > 0.25 else 0.33
    pose = pose.with_feet(near=(forward, -SOLE), far=(forward - 0.05, -SOLE))
    return replace(person, pose=pose), replace(seat, depth=person.depth + BEHIND)


def on_the_lap(person: Person, thing: Thing) -> tuple[Person, Thing]:
    """For somebody who sits: the thing on the knees, both hands on its keys."""
    found = joints(person.pose)
    lap = between(found.hip, found.near_knee, 0.95)
    return hold(person, thing, (lap[0] + 0.02, lap[1] - 0.075), anchor="keys", both=True)


def wear(person: Person, thing: Thing) -> tuple[Person, Thing]:
    """On the back."""
    found = joints(person.pose)
    x, y = between(found.hip, found.shoulder, 0.62)
    worn = replace(thing, angle=person.pose.lean, facing=person.facing, depth=person.depth + BEHIND)
    return person, worn.pinned("back", person.point_px((x - 0.01, y)))


def at_the_foot(person: Person, thing: Thing, *, gap: float) -> tuple[Person, Thing]:
    """Just beyond the toes of the leg that swings; `gap` in body heights."""
    ankle = joints(person.pose).near_ankle
    reach = icon(thing.name).outlines.points_xy[:, 0].max() * thing.scale_px / person.height_px
    kicked = replace(thing, facing=person.facing, depth=person.depth + IN_HAND)
    x, y = person.point_px((ankle[0] + 0.07 + float(reach) + gap, ankle[1]))
    return person, replace(kicked, x_px=x, y_px=y)


def lead(person: Person, animal: Thing, *, ahead: float) -> tuple[Person, Thing, Cord]:
    """An animal on a leash, `ahead` body heights in front."""
    person = replace(person, pose=person.pose.with_arms(near=(0.2, -0.56)))
    x, _ = person.point_px((ahead, 0.0))
    led = replace(animal, x_px=x, y_px=person.ground_px, facing=person.facing, depth=person.depth + IN_HAND)
    hand = person.point_px(joints(person.pose).near_hand)
    return person, led, Cord(start_px=hand, end_px=led.anchor_px("collar"), depth=person.depth + IN_HAND)


def push(person: Person, bicycle: Thing) -> tuple[Person, Thing]:
    """Walking beside a bicycle, hands on its bars."""
    x, _ = person.point_px((0.1, 0.0))
    pushed = replace(bicycle, x_px=x, y_px=person.ground_px, facing=person.facing, depth=person.depth + ASTRIDE)
    bars = person.point_body(pushed.anchor_px("bars"))
    return replace(person, pose=person.pose.with_arms(near=bars, far=bars)), pushed


def fly(person: Person, kite: Thing, *, at: Point) -> tuple[Person, Thing, Cord]:
    """A kite in the air, at a point in body heights, on a string."""
    person = replace(person, pose=person.pose.with_arms(near=(0.22, -0.85), far=(0.2, -0.72)))
    flown = replace(kite, facing=person.facing, angle=0.5, depth=person.depth + IN_HAND)
    flown = flown.pinned("string", person.point_px(at))
    hand = person.point_px(joints(person.pose).near_hand)
    return person, flown, Cord(start_px=hand, end_px=flown.anchor_px("string"), depth=person.depth + IN_HAND)


def found_joints(person: Person) -> Joints:
    """Joints of a person in the picture, in pixels."""
    return Joints(*(person.point_px(point) for point in joints(person.pose)))


def _ankle(sole: Point) -> Point:
    return sole[0] - 0.04, sole[1] - SOLE
