"""Actions: poses and positions of a person and of the object they act on.

Each function takes a person and an object that already have a size, and returns both placed. The verbs are not
named here: several verbs share one arrangement (repertoire.py).
"""

from __future__ import annotations

from dataclasses import replace

from hoiclip.synthetic import stances
from hoiclip.synthetic.icons import icon
from hoiclip.synthetic.scene import Cord, Person, SceneObject
from hoiclip.synthetic.shapes import Point
from hoiclip.synthetic.skeleton import SOLE, Joints, Pose, between, joints

IN_HAND, BEHIND, ASTRIDE = 0.2, -0.4, -0.1
"""Depths relative to the person: under the near arm, behind all limbs, between the far limbs and the body."""


def hold(
    person: Person,
    obj: SceneObject,
    hand: Point,
    *,
    anchor: str = "grip",
    angle: float = 0.0,
    both: bool = False,
    depth: float = IN_HAND,
) -> tuple[Person, SceneObject]:
    """Puts the near hand, or both, at a point in body heights, with the object in it."""
    pose = person.pose.with_arms(near=hand, far=hand if both else None)
    held = replace(obj, angle=angle, facing=person.facing, depth=person.depth + depth)
    return replace(person, pose=pose), held.pinned(anchor, person.point_px(joints(pose).near_hand))


def to_the_head(
    person: Person, obj: SceneObject, offset: Point, *, anchor: str, angle: float
) -> tuple[Person, SceneObject]:
    """Puts one point of the object at the face (drinking, telephoning), and the hand at its grip."""
    head = joints(person.pose).head
    raised = replace(obj, angle=angle, facing=person.facing, depth=person.depth + IN_HAND)
    raised = raised.pinned(anchor, person.point_px((head[0] + offset[0], head[1] + offset[1])))
    hand = person.point_body(raised.anchor_px("grip"))
    return replace(person, pose=person.pose.with_arms(near=hand)), raised


def mount(person: Person, ridden: SceneObject, *, lean: float) -> tuple[Person, SceneObject]:
    """Seats the person on a bicycle or a horse on the ground: hip on the saddle, hands and feet at their anchors."""
    x, y = ridden.anchor_px("saddle")
    person = replace(person, x_px=x, ground_px=ridden.y_px, facing=ridden.facing)
    hands = person.point_body(ridden.anchor_px("bars"))
    feet = {side: person.point_body(ridden.anchor_px(f"{side}_pedal")) for side in ("near", "far")}
    pose = Pose(hip_height=(ridden.y_px - y) / person.height_px, lean=lean, nod=-0.3 * lean)
    pose = pose.with_arms(near=hands, far=hands)
    pose = pose.with_feet(near=_ankle(feet["near"]), far=_ankle(feet["far"]))
    return replace(person, pose=pose), replace(ridden, depth=person.depth + ASTRIDE)


def surf(person: Person, board: SceneObject) -> tuple[Person, SceneObject]:
    """Puts the person on a skateboard or surfboard, knees bent."""
    x, y = board.anchor_px("deck")
    person = replace(person, x_px=x, ground_px=y, facing=board.facing, pose=stances.SURF)
    return person, replace(board, depth=person.depth + BEHIND)


def stand_on(person: Person, obj: SceneObject, *, anchor: str) -> tuple[Person, SceneObject]:
    """Puts the person upright on top of the object."""
    x, y = obj.anchor_px(anchor)
    person = replace(person, x_px=x, ground_px=y, facing=obj.facing)
    return person, replace(obj, depth=person.depth + BEHIND)


def sit(person: Person, seat: SceneObject, *, anchor: str = "seat") -> tuple[Person, SceneObject]:
    """Seats the person: hip on the seat, feet on the ground before it."""
    x, y = seat.anchor_px(anchor)
    ground = person.ground_px
    person = replace(person, x_px=x, facing=seat.facing)
    hip = max(0.12, (ground - y) / person.height_px + 0.02)
    pose = Pose(hip_height=hip, lean=-0.04, near_arm=(0.35, 0.9), far_arm=(0.3, 1.0))
    forward = 0.24 if hip > 0.25 else 0.33
    pose = pose.with_feet(near=(forward, -SOLE), far=(forward - 0.05, -SOLE))
    return replace(person, pose=pose), replace(seat, depth=person.depth + BEHIND)


def on_the_lap(person: Person, obj: SceneObject) -> tuple[Person, SceneObject]:
    """Puts the object on the knees of a sitting person, both hands on its keys."""
    found = joints(person.pose)
    lap = between(found.hip, found.near_knee, 0.95)
    return hold(person, obj, (lap[0] + 0.02, lap[1] - 0.075), anchor="keys", both=True)


def wear(person: Person, obj: SceneObject) -> tuple[Person, SceneObject]:
    """Puts the object on the back."""
    found = joints(person.pose)
    x, y = between(found.hip, found.shoulder, 0.62)
    worn = replace(obj, angle=person.pose.lean, facing=person.facing, depth=person.depth + BEHIND)
    return person, worn.pinned("back", person.point_px((x - 0.01, y)))


def at_the_foot(person: Person, obj: SceneObject, *, gap: float) -> tuple[Person, SceneObject]:
    """Puts the object just beyond the toes of the swinging leg; `gap` in body heights."""
    ankle = joints(person.pose).near_ankle
    reach = icon(obj.name).outlines.points_xy[:, 0].max() * obj.scale_px / person.height_px
    kicked = replace(obj, facing=person.facing, depth=person.depth + IN_HAND)
    x, y = person.point_px((ankle[0] + 0.07 + float(reach) + gap, ankle[1]))
    return person, replace(kicked, x_px=x, y_px=y)


def lead(person: Person, animal: SceneObject, *, ahead: float) -> tuple[Person, SceneObject, Cord]:
    """Puts an animal on a leash, `ahead` body heights in front."""
    person = replace(person, pose=person.pose.with_arms(near=(0.2, -0.56)))
    x, _ = person.point_px((ahead, 0.0))
    led = replace(animal, x_px=x, y_px=person.ground_px, facing=person.facing, depth=person.depth + IN_HAND)
    hand = person.point_px(joints(person.pose).near_hand)
    return person, led, Cord(start_px=hand, end_px=led.anchor_px("collar"), depth=person.depth + IN_HAND)


def push(person: Person, bicycle: SceneObject) -> tuple[Person, SceneObject]:
    """Puts a bicycle beside a walking person, hands on its bars."""
    x, _ = person.point_px((0.1, 0.0))
    pushed = replace(bicycle, x_px=x, y_px=person.ground_px, facing=person.facing, depth=person.depth + ASTRIDE)
    bars = person.point_body(pushed.anchor_px("bars"))
    return replace(person, pose=person.pose.with_arms(near=bars, far=bars)), pushed


def fly(person: Person, kite: SceneObject, *, at: Point) -> tuple[Person, SceneObject, Cord]:
    """Puts a kite in the air, at a point in body heights, on a string."""
    person = replace(person, pose=person.pose.with_arms(near=(0.22, -0.85), far=(0.2, -0.72)))
    flown = replace(kite, facing=person.facing, angle=0.5, depth=person.depth + IN_HAND)
    flown = flown.pinned("string", person.point_px(at))
    hand = person.point_px(joints(person.pose).near_hand)
    return person, flown, Cord(start_px=hand, end_px=flown.anchor_px("string"), depth=person.depth + IN_HAND)


def found_joints(person: Person) -> Joints:
    """Joints of a person in the image, in pixels."""
    return Joints(*(person.point_px(point) for point in joints(person.pose)))


def _ankle(sole: Point) -> Point:
    return sole[0] - 0.04, sole[1] - SOLE
