"""People: clothes on a skeleton, and the outlines that come of both.

Lengths are in body heights, facing right (skeleton.py). Positions in the image belong to scene.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from hoiclip.synthetic.shapes import Colour, Ink, Outlines, Palette, Pen, Point, arc_xy, capsules
from hoiclip.synthetic.skeleton import Joints, Pose, between, joints

_HEAD_RADIUS = 0.072
_FAR = 0.74
"""Limbs on the far side are darker."""

HairStyle = Literal["short", "long", "bun", "curly", "bald", "cap", "beanie"]
LegWear = Literal["trousers", "shorts", "skirt"]
HAIR_STYLES: tuple[HairStyle, ...] = ("short", "long", "bun", "curly", "bald", "cap", "beanie")
LEG_WEAR: tuple[LegWear, ...] = ("trousers", "trousers", "shorts", "skirt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """Clothes, hair and build, by which a person is recognisable from frame to frame."""

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


class FigureParts(NamedTuple):
    """Outlines from back to front, so that a held object can lie between two of them."""

    far: Outlines
    body: Outlines
    near_arm: Outlines


def figure_parts(appearance: Appearance, pose: Pose) -> FigureParts:
    """The figure in body units, facing right."""
    found = joints(pose)
    far = _leg(appearance, found.hip, found.far_knee, found.far_ankle, pose.far_leg[1], _FAR)
    far += _arm(appearance, found.shoulder, found.far_elbow, found.far_hand, _FAR)
    body = _leg(appearance, found.hip, found.near_knee, found.near_ankle, pose.near_leg[1], 1.0)
    body += _torso(appearance, found)
    near = _arm(appearance, found.shoulder, found.near_elbow, found.near_hand, 0.9)
    rows = capsules([row for row, _ in far + body + near], [ink for _, ink in far + body + near])
    head = _head(appearance.hair_style).moved(*found.head, angle=0.7 * pose.lean + pose.nod)
    back, front = len(far), len(far) + len(body)
    torso = rows.polygons(back, front)
    if appearance.leg_wear == "skirt":
        torso = torso.followed_by(_skirt(found))
    return FigureParts(rows.polygons(0, back), torso.followed_by(head), rows.polygons(front, front + len(near)))


def random_appearance(rng: np.random.Generator) -> Appearance:
    """Skin, hair and clothes of one person."""
    skins = ((255, 219, 190), (240, 194, 155), (214, 158, 112), (168, 112, 74), (120, 78, 52), (84, 54, 38))
    hairs = ((30, 24, 22), (72, 46, 30), (130, 82, 44), (212, 172, 92), (178, 74, 36), (150, 150, 156), (60, 90, 170))
    return Appearance(
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


def _leg(appearance: Appearance, hip: Point, knee: Point, ankle: Point, shin_angle: float, shade: float) -> list[_Row]:
    cloth, b = Ink("trousers", shade), appearance.build
    shin = cloth if appearance.leg_wear == "trousers" else Ink("skin", shade)
    pitch = 0.6 * shin_angle  # the sole follows the shin only partly, as an ankle would
    heel = (ankle[0] - 0.012, ankle[1] + 0.012)
    toe = (heel[0] + 0.075 * math.cos(pitch), heel[1] - 0.075 * math.sin(pitch))
    return [
        ((*knee, *ankle, 0.04 * b, 0.028 * b), shin),
        ((*hip, *knee, 0.062 * b, 0.044 * b), cloth if appearance.leg_wear != "skirt" else Ink("skin", shade)),
        ((*heel, *toe, 0.028, 0.021), Ink("shoes", shade)),
    ]


def _arm(appearance: Appearance, shoulder: Point, elbow: Point, hand: Point, shade: float) -> list[_Row]:
    cloth, b = Ink("shirt", shade), appearance.build
    fore = cloth if appearance.long_sleeves else Ink("skin", shade)
    wrist = between(elbow, hand, 0.86)
    return [
        ((*elbow, *wrist, 0.03 * b, 0.023 * b), fore),
        ((*shoulder, *elbow, 0.042 * b, 0.033 * b), cloth),
        ((*hand, *between(hand, elbow, 0.1), 0.027, 0.024), Ink("skin", shade)),
    ]


def _torso(appearance: Appearance, found: Joints) -> list[_Row]:
    hip, shoulder, b = found.hip, found.shoulder, appearance.build
    waist, chest = between(hip, shoulder, 0.22), between(hip, shoulder, 0.88)
    rows: list[_Row] = [
        ((*hip, *waist, 0.066 * b, 0.066 * b), Ink("trousers", 0.92)),
        ((*shoulder, *between(shoulder, found.head, 0.6), 0.036, 0.03), Ink("skin", 0.88)),
        ((*waist, *chest, 0.068 * b, 0.08 * b), Ink("shirt")),
    ]
    if appearance.striped:
        up = math.hypot(shoulder[0] - hip[0], shoulder[1] - hip[1])
        across = ((hip[1] - shoulder[1]) / up, (shoulder[0] - hip[0]) / up)
        for fraction in (0.3, 0.6):
            x, y = between(hip, shoulder, fraction)
            half = (0.066 + 0.014 * fraction) * b - 0.016
            left, right = (x - half * across[0], y - half * across[1]), (x + half * across[0], y + half * across[1])
            rows.append(((*left, *right, 0.017, 0.017), Ink("hat")))
    return rows


def _skirt(found: Joints) -> Outlines:
    pen = Pen()
    knees = sorted((between(found.hip, found.near_knee, 0.8), between(found.hip, found.far_knee, 0.8)))
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
    pen.line(Ink("skin", 0.5), [(0.036, 0.04), (0.048, 0.045), (0.06, 0.04)], 0.004)
    if style == "bald":
        pen.line(Ink("hair"), [(-0.068, 0.0), (-0.06, 0.03)], 0.01)
    elif style == "curly":
        for x, y in (
            (-0.07, 0.02),
            (-0.075, -0.025),
            (-0.055, -0.065),
            (-0.015, -0.085),
            (0.025, -0.08),
            (0.05, -0.055),
        ):
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
