"""People: a skeleton of angles, the clothes on it, and the outlines that come of both.

Lengths are in body heights: the ground under a person is y = 0, up is negative, forward is +x. Limb angles are absolute:
0 hangs straight down, positive swings forward, in radians. "Near" is the side towards the viewer. Which pose belongs to
which action is the business of stances.py and acts.py; where the person stands in a picture is scene.py's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from hoiclip.data.drawn.shapes import Colour, Ink, Outlines, Palette, Pen, Point, arc_xy, capsules

THIGH = SHIN = 0.235
SOLE = 0.04
UPPER_ARM, FOREARM = 0.165, 0.155
ARM_REACH = UPPER_ARM + FOREARM
STANDING_HIP = THIGH + SHIN + SOLE
_SHOULDER_UP, _HEAD_UP = 0.26, 0.4
_HEAD_RADIUS = 0.072
_FAR = 0.74
"""Limbs on the far side are darker."""

HairStyle = Literal["short", "long", "bun", "curly", "bald", "cap", "beanie"]
LegWear = Literal["trousers", "shorts", "skirt"]
HAIR_STYLES: tuple[HairStyle, ...] = ("short", "long", "bun", "curly", "bald", "cap", "beanie")
LEG_WEAR: tuple[LegWear, ...] = ("trousers", "trousers", "shorts", "skirt")
Limb = tuple[float, float]
"""Angles of the upper and the lower half of an arm or leg."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What makes a person recognisable from frame to frame."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    hat: Colour
    hair_style: HairStyle = "short"
    leg_wear: LegWear = "trousers"
    long_sleeves: bool = True
    striped: bool = False
    build: float = 1.0
    """Thickness of body and limbs; 1 is average."""

    def __post_init__(self) -> None:
        if not 0.7 <= self.build <= 1.4:
            raise ValueError(f"build must be in [0.7, 1.4], got {self.build}")

    @property
    def palette(self) -> Palette:
        return {
            "skin": self.skin,
            "hair": self.hair,
            "shirt": self.shirt,
            "trousers": self.trousers,
            "shoes": self.shoes,
            "hat": self.hat,
            "dark": (35, 28, 30),
            "white": (245, 245, 245),
        }


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


def mix(start: Pose, end: Pose, share: float) -> Pose:
    """From one pose (share 0) to another (share 1), limb by limb."""

    def between(a: float, b: float) -> float:
        return a + (b - a) * share

    def limb(a: Limb, b: Limb) -> Limb:
        return between(a[0], b[0]), between(a[1], b[1])

    return Pose(
        hip_height=between(start.hip_height, end.hip_height),
        lean=between(start.lean, end.lean),
        nod=between(start.nod, end.nod),
        near_arm=limb(start.near_arm, end.near_arm),
        far_arm=limb(start.far_arm, end.far_arm),
        near_leg=limb(start.near_leg, end.near_leg),
        far_leg=limb(start.far_leg, end.far_leg),
    )


class FigureParts(NamedTuple):
    """Outlines from back to front, so that a held thing can lie between two of them."""

    far: Outlines
    body: Outlines
    near_arm: Outlines


def figure_parts(look: Look, pose: Pose) -> FigureParts:
    """The figure in body units, facing right."""
    found = joints(pose)
    far = _leg(look, found.hip, found.far_knee, found.far_ankle, pose.far_leg[1], _FAR)
    far += _arm(look, found.shoulder, found.far_elbow, found.far_hand, _FAR)
    body = _leg(look, found.hip, found.near_knee, found.near_ankle, pose.near_leg[1], 1.0)
    body += _torso(look, found)
    near = _arm(look, found.shoulder, found.near_elbow, found.near_hand, 0.9)
    rows = capsules([row for row, _ in far + body + near], [ink for _, ink in far + body + near])
    head = _head(look.hair_style).moved(*found.head, angle=0.7 * pose.lean + pose.nod)
    back, front = len(far), len(far) + len(body)
    torso = _slice(rows, back, front)
    if look.leg_wear == "skirt":
        torso = _join(torso, _skirt(found))
    return FigureParts(_slice(rows, 0, back), _join(torso, head), _slice(rows, front, front + len(near)))


def random_look(rng: np.random.Generator) -> Look:
    """Skin, hair and clothes of one person."""
    skins = ((255, 219, 190), (240, 194, 155), (214, 158, 112), (168, 112, 74), (120, 78, 52), (84, 54, 38))
    hairs = ((30, 24, 22), (72, 46, 30), (130, 82, 44), (212, 172, 92), (178, 74, 36), (150, 150, 156), (60, 90, 170))
    return Look(
        skin=skins[rng.integers(len(skins))],
        hair=hairs[rng.integers(len(hairs))],
        shirt=random_colour(rng),
        trousers=random_colour(rng, brightest=190),
        shoes=random_colour(rng, brightest=120),
        hat=random_colour(rng),
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        leg_wear=LEG_WEAR[rng.integers(len(LEG_WEAR))],
        long_sleeves=bool(rng.random() < 0.5),
        striped=bool(rng.random() < 0.3),
        build=float(rng.uniform(0.85, 1.2)),
    )


def random_colour(rng: np.random.Generator, *, brightest: int = 250) -> Colour:
    """A clear colour: one channel high, one anywhere, one low, in any order."""
    high, middle, low = brightest * rng.uniform((0.7, 0.15, 0.05), (1.0, 0.9, 0.5))
    channels = [int(high), int(middle), int(low)]
    first, second = int(rng.integers(3)), int(rng.integers(2))
    red = channels.pop(first)
    green = channels.pop(second)
    return red, green, channels[0]


_Row = tuple[tuple[float, ...], Ink]


def _leg(look: Look, hip: Point, knee: Point, ankle: Point, shin_angle: float, shade: float) -> list[_Row]:
    cloth, b = Ink("trousers", shade), look.build
    shin = cloth if look.leg_wear == "trousers" else Ink("skin", shade)
    pitch = 0.6 * shin_angle  # the sole follows the shin only partly, as an ankle would
    heel = (ankle[0] - 0.012, ankle[1] + 0.012)
    toe = (heel[0] + 0.075 * math.cos(pitch), heel[1] - 0.075 * math.sin(pitch))
    return [
        ((*knee, *ankle, 0.04 * b, 0.028 * b), shin),
        ((*hip, *knee, 0.062 * b, 0.044 * b), cloth if look.leg_wear != "skirt" else Ink("skin", shade)),
        ((*heel, *toe, 0.028, 0.021), Ink("shoes", shade)),
    ]


def _arm(look: Look, shoulder: Point, elbow: Point, hand: Point, shade: float) -> list[_Row]:
    cloth, b = Ink("shirt", shade), look.build
    fore = cloth if look.long_sleeves else Ink("skin", shade)
    wrist = _between(elbow, hand, 0.86)
    return [
        ((*elbow, *wrist, 0.03 * b, 0.023 * b), fore),
        ((*shoulder, *elbow, 0.042 * b, 0.033 * b), cloth),
        ((*hand, *_between(hand, elbow, 0.1), 0.027, 0.024), Ink("skin", shade)),
    ]


def _torso(look: Look, found: Joints) -> list[_Row]:
    hip, shoulder, b = found.hip, found.shoulder, look.build
    waist, chest = _between(hip, shoulder, 0.22), _between(hip, shoulder, 0.88)
    rows: list[_Row] = [
        ((*hip, *waist, 0.066 * b, 0.066 * b), Ink("trousers", 0.92)),
        ((*shoulder, *_between(shoulder, found.head, 0.6), 0.036, 0.03), Ink("skin", 0.88)),
        ((*waist, *chest, 0.068 * b, 0.08 * b), Ink("shirt")),
    ]
    if look.striped:
        up = math.hypot(shoulder[0] - hip[0], shoulder[1] - hip[1])
        across = ((hip[1] - shoulder[1]) / up, (shoulder[0] - hip[0]) / up)
        for share in (0.3, 0.6):
            x, y = _between(hip, shoulder, share)
            half = (0.066 + 0.014 * share) * b - 0.016
            left, right = (x - half * across[0], y - half * across[1]), (x + half * across[0], y + half * across[1])
            rows.append(((*left, *right, 0.017, 0.017), Ink("hat")))
    return rows


def _skirt(found: Joints) -> Outlines:
    pen = Pen()
    knees = sorted((_between(found.hip, found.near_knee, 0.8), _between(found.hip, found.far_knee, 0.8)))
    x, y = found.hip
    hem = [(knees[1][0] + 0.05, knees[1][1] + 0.03), (knees[0][0] - 0.05, knees[0][1] + 0.03)]
    pen.polygon(Ink("trousers"), [(x - 0.06, y - 0.03), (x + 0.06, y - 0.03), *hem], convex=False)
    return pen.done()


@cache
def _head(style: HairStyle) -> Outlines:
    """Face, hair and hat round (0, 0)."""
    pen, r = Pen(), _HEAD_RADIUS
    if style == "long":
        pen.line(Ink("hair", 0.85), [(-0.03, -0.01), (-0.06, 0.06), (-0.065, 0.13)], 0.035)
    if style == "bun":
        pen.oval(Ink("hair"), -0.075, -0.045, 0.034)
    pen.oval(Ink("skin"), 0.002, 0.004, r * 0.97, r * 1.06)
    pen.oval(Ink("skin"), r + 0.002, 0.012, 0.014, 0.011)
    pen.oval(Ink("white"), 0.04, -0.008, 0.014, 0.012)
    pen.oval(Ink("dark"), 0.045, -0.008, 0.008)
    pen.line(Ink("dark"), [(0.038, 0.04), (0.056, 0.037)], 0.004)
    if style == "bald":
        pen.line(Ink("hair"), [(-0.068, 0.0), (-0.06, 0.03)], 0.01)
    elif style == "curly":
        for x, y in ((-0.07, 0.02), (-0.075, -0.025), (-0.055, -0.065), (-0.015, -0.085), (0.025, -0.08), (0.05, -0.055)):
            pen.oval(Ink("hair"), x, y, 0.033)
        pen.oval(Ink("hair"), -0.02, -0.045, 0.045)
    else:
        rim = arc_xy(0, 0, r * 1.1, r * 1.16, 150, 322, 12)
        pen.polygon(Ink("hair"), [*map(tuple, rim), (0.02, -0.04), (-0.03, -0.02), (-0.035, 0.03)], convex=False)
    if style in ("cap", "beanie"):
        pen.polygon(Ink("hat"), [*map(tuple, arc_xy(0, -0.028, r * 1.14, r * 1.0, 180, 360, 12))])
        if style == "cap":
            pen.line(Ink("hat", 0.75), [(0.03, -0.03), (0.125, -0.026)], 0.011)
        else:
            pen.line(Ink("hat", 0.75), [(-0.07, -0.03), (0.07, -0.03)], 0.016)
    pen.oval(Ink("skin", 0.85), -0.012, 0.008, 0.013, 0.018)
    return pen.done()


def _slice(outlines: Outlines, first: int, last: int) -> Outlines:
    begin = outlines.ends[first - 1] if first else 0
    ends = tuple(end - begin for end in outlines.ends[first:last])
    points = outlines.points_xy[begin : begin + ends[-1]]
    return Outlines(points, ends, outlines.convex[first:last], outlines.inks[first:last])


def _join(a: Outlines, b: Outlines) -> Outlines:
    ends = a.ends + tuple(end + a.ends[-1] for end in b.ends)
    return Outlines(np.concatenate((a.points_xy, b.points_xy)), ends, a.convex + b.convex, a.inks + b.inks)


def _step(start: Point, angle: float, length: float) -> Point:
    return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _clamp(cosine: float) -> float:
    return min(1.0, max(-1.0, cosine))
