"""The skeleton under a figure: joint angles, the points they lead to, and angles that lead to a point.

Lengths are in body heights: the ground under a person is y = 0, up is negative, forward is +x. Limb angles are
absolute: 0 hangs straight down, positive swings forward, in radians. "Near" is the side towards the viewer. Poses of
actions are in stances.py and acts.py; clothes and outlines in figure.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from hoiclip.synthetic.shapes import Point

THIGH = SHIN = 0.235
SOLE = 0.04
UPPER_ARM, FOREARM = 0.165, 0.155
STANDING_HIP = THIGH + SHIN + SOLE
_SHOULDER_UP, _HEAD_UP = 0.26, 0.4

Limb = tuple[float, float]
"""Angles of the upper and the lower half of an arm or leg."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Joint angles. The defaults stand at ease."""

    hip_height: float = STANDING_HIP
    lean: float = 0.0
    """Of the back; positive leans forward."""
    nod: float = 0.0
    near_arm: Limb = (-0.1, 0.12)
    far_arm: Limb = (0.05, 0.25)
    near_leg: Limb = (0.06, 0.0)
    far_leg: Limb = (-0.08, -0.1)

    def with_arms(self, *, near: Point | None = None, far: Point | None = None) -> Pose:
        """The same pose with hands at points, as near as the arms reach."""
        shoulder = joints(self).shoulder
        pose = self
        if near is not None:
            pose = replace(pose, near_arm=reach(shoulder, near, UPPER_ARM, FOREARM))
        if far is not None:
            pose = replace(pose, far_arm=reach(shoulder, far, UPPER_ARM, FOREARM))
        return pose

    def with_feet(self, *, near: Point, far: Point) -> Pose:
        """The same pose with ankles at points, as near as the legs reach; knees point forward."""
        hip = (0.0, -self.hip_height)
        legs = [reach(hip, ankle, THIGH, SHIN, bend=-1) for ankle in (near, far)]
        return replace(self, near_leg=legs[0], far_leg=legs[1])

    def planted(self) -> Pose:
        """The same pose lifted or lowered so that the lower foot stands on the ground."""
        found = joints(self)
        return replace(self, hip_height=self.hip_height + max(found.near_ankle[1], found.far_ankle[1]) + SOLE)


class Joints(NamedTuple):
    """Points of a skeleton in body heights."""

    hip: Point
    shoulder: Point
    head: Point
    near_elbow: Point
    near_hand: Point
    far_elbow: Point
    far_hand: Point
    near_knee: Point
    near_ankle: Point
    far_knee: Point
    far_ankle: Point


def joints(pose: Pose) -> Joints:
    """Forward kinematics."""
    hip = (0.0, -pose.hip_height)
    shoulder = _step(hip, math.pi - pose.lean, _SHOULDER_UP)
    head = _step(shoulder, math.pi - 0.7 * pose.lean - pose.nod, _HEAD_UP - _SHOULDER_UP)
    points = [hip, shoulder, head]
    for root, limb, upper, lower in (
        (shoulder, pose.near_arm, UPPER_ARM, FOREARM),
        (shoulder, pose.far_arm, UPPER_ARM, FOREARM),
        (hip, pose.near_leg, THIGH, SHIN),
        (hip, pose.far_leg, THIGH, SHIN),
    ):
        middle = _step(root, limb[0], upper)
        points += [middle, _step(middle, limb[1], lower)]
    return Joints(*points)


def reach(root: Point, target: Point, upper: float, lower: float, *, bend: int = 1) -> Limb:
    """Inverse kinematics of two bones: angles that put the end at the target, stretched towards it where it is too far.

    Args:
        bend: 1 bends like an elbow (lower half forward of the upper), -1 like a knee.

    Source: law of cosines.
    """
    dx, dy = target[0] - root[0], target[1] - root[1]
    distance = min(max(math.hypot(dx, dy), abs(upper - lower) + 1e-4), upper + lower - 1e-6)
    towards = math.atan2(dx, dy)
    at_root = math.acos(_clamp((upper**2 + distance**2 - lower**2) / (2 * upper * distance)))
    at_joint = math.acos(_clamp((upper**2 + lower**2 - distance**2) / (2 * upper * lower)))
    first = towards - bend * at_root
    return first, first + bend * (math.pi - at_joint)


def mix(start: Pose, end: Pose, fraction: float) -> Pose:
    """Blends two poses (fraction 0 and 1), limb by limb."""

    def number(a: float, b: float) -> float:
        return a + (b - a) * fraction

    return Pose(
        hip_height=number(start.hip_height, end.hip_height),
        lean=number(start.lean, end.lean),
        nod=number(start.nod, end.nod),
        near_arm=between(start.near_arm, end.near_arm, fraction),
        far_arm=between(start.far_arm, end.far_arm, fraction),
        near_leg=between(start.near_leg, end.near_leg, fraction),
        far_leg=between(start.far_leg, end.far_leg, fraction),
    )


def between(a: Point, b: Point, fraction: float) -> Point:
    """The point that is `fraction` of the way from a to b."""
    return a[0] + (b[0] - a[0]) * fraction, a[1] + (b[1] - a[1]) * fraction


def _step(start: Point, angle: float, length: float) -> Point:
    return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)


def _clamp(cosine: float) -> float:
    return min(1.0, max(-1.0, cosine))
