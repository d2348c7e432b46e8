"""Walking along a path: where somebody is, and the moment of the step. Legs move with the way, not with the clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hoiclip.data.drawn import stances
from hoiclip.data.drawn.scene import Person
from hoiclip.data.drawn.skeleton import Pose, mix
from hoiclip.data.drawn.stances import eased

Path = Sequence[tuple[float, float]]
"""(second, x in pixels) in order of time; before the first and after the last one stands still."""
_START_S = 0.25


def along(person: Person, path: Path, at_s: float, *, run: bool = False, moving_in: bool = False) -> tuple[float, Pose]:
    """Where the person is, and in which pose; they walk the way they face.

    Args:
        moving_in: the path begins in mid-step instead of from standing.
    """
    times, places = zip(*path, strict=True)
    x_px = float(np.interp(at_s, times, places))
    stride = (stances.RUN_STRIDE if run else stances.STRIDE) * person.height_px
    moving = 0.0
    for (start, from_px), (end, to_px) in pairwise(path):
        if start <= at_s <= end and from_px != to_px:
            moving = min(eased((at_s - start) / _START_S), eased((end - at_s) / _START_S))
    if moving_in and at_s < path[0][0] + _START_S:
        moving = 1.0
    stepping = stances.walk(2 * math.pi * person.facing * x_px / stride, run=run)
    return x_px, mix(stances.STAND, stepping, moving).planted()
