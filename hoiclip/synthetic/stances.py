"""Poses by name (standing, walking, running, bending, kicking, throwing), and walking along a path.

Legs follow the distance walked, not the clock. Hands and seats are in acts.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hoiclip.synthetic.scene import Person
from hoiclip.synthetic.skeleton import SOLE, Pose, mix

Path = Sequence[tuple[float, float]]
"""(second, x in pixels) in order of time; before the first and after the last the person stands still."""
_START_S = 0.25

STRIDE = 0.62
"""Body heights that one full walking cycle (two steps) covers."""
RUN_STRIDE = 0.85

STAND = Pose().planted()
BEND = Pose(hip_height=0.36, lean=1.1, nod=-0.1, near_arm=(0.3, 0.5), far_arm=(0.2, 0.4)).with_feet(
    near=(0.1, -SOLE), far=(-0.06, -SOLE)
)
"""Bent down so far that the hands come close to the ground."""
STOOP = Pose(hip_height=0.46, lean=0.7, near_arm=(0.3, 0.6), far_arm=(-0.2, 0.3)).with_feet(
    near=(0.12, -SOLE), far=(-0.1, -SOLE)
)
SURF = Pose(hip_height=0.41, lean=0.22, nod=-0.1, near_arm=(-1.2, -0.9), far_arm=(1.1, 1.4)).with_feet(
    near=(0.14, -SOLE), far=(-0.14, -SOLE)
)
"""Knees bent, arms out for balance, on a board."""
WIND_UP = Pose(
    lean=0.1, near_arm=(0.7, 1.1), far_arm=(-0.8, -0.5), near_leg=(-0.6, -1.5), far_leg=(0.15, 0.05)
).planted()
KICK = Pose(
    lean=-0.12, near_arm=(-0.8, -0.4), far_arm=(0.8, 1.2), near_leg=(0.95, 0.85), far_leg=(-0.1, -0.25)
).planted()
THROW_BACK = Pose(
    lean=-0.18, near_arm=(3.0, 4.1), far_arm=(1.1, 1.3), near_leg=(-0.3, -0.45), far_leg=(0.3, 0.1)
).planted()
THROW_OUT = Pose(
    lean=0.22, near_arm=(1.6, 1.9), far_arm=(-0.5, -0.1), near_leg=(0.35, 0.05), far_leg=(-0.35, -0.55)
).planted()


def walk(phase: float, *, run: bool = False) -> Pose:
    """The pose at one moment of the walking or running cycle; `phase` in radians, one turn per two steps."""
    swing, lift, lean = (0.75, 1.15, 0.2) if run else (0.42, 0.65, 0.04)
    near, far = _stepping(phase, swing, lift), _stepping(phase + math.pi, swing, lift)
    arm, bent = (0.8, 1.3) if run else (0.4, 0.25)
    return Pose(
        lean=lean,
        near_leg=near,
        far_leg=far,
        near_arm=(-arm * math.sin(phase), -arm * math.sin(phase) + bent),
        far_arm=(arm * math.sin(phase), arm * math.sin(phase) + bent),
    ).planted()


def kick(progress: float) -> Pose:
    """The pose of a kick from the wind-up (0) through the ball (0.5) and back to standing (1)."""
    if progress < 0.5:
        return mix(WIND_UP, KICK, eased(2 * progress)).planted()
    return mix(KICK, STAND, eased(2 * progress - 1)).planted()


def throw(progress: float) -> Pose:
    """The pose of a throw from the wind-up (0) to the release (1)."""
    return mix(THROW_BACK, THROW_OUT, eased(progress)).planted()


def along(person: Person, path: Path, at_s: float, *, run: bool = False, moving_in: bool = False) -> tuple[float, Pose]:
    """Position and pose of a person who walks a path, the way they face.

    Args:
        moving_in: the path begins in mid-step instead of from standing.
    """
    times, places = zip(*path, strict=True)
    x_px = float(np.interp(at_s, times, places))
    stride = (RUN_STRIDE if run else STRIDE) * person.height_px
    moving = 0.0
    for (start, from_px), (end, to_px) in pairwise(path):
        if start <= at_s <= end and from_px != to_px:
            moving = min(eased((at_s - start) / _START_S), eased((end - at_s) / _START_S))
    if moving_in and at_s < path[0][0] + _START_S:
        moving = 1.0
    stepping = walk(2 * math.pi * person.facing * x_px / stride, run=run)
    return x_px, mix(STAND, stepping, moving).planted()


def eased(fraction: float) -> float:
    """0 to 1 with a soft start and end; anything outside is held."""
    fraction = min(1.0, max(0.0, fraction))
    return fraction * fraction * (3 - 2 * fraction)


def _stepping(phase: float, swing: float, lift: float) -> tuple[float, float]:
    thigh = swing * math.sin(phase)
    # The knee bends while the leg comes forward, and hardly while it carries the body.
    return thigh, thigh - 0.06 - lift * max(0.0, math.cos(phase)) ** 2
