"""Things: recognisable icons under their HICO names, in body heights of the people who use them.

Things that stand on the ground have it at y = 0; things that are held have (0, 0) where a hand takes them or in their
middle. They face right. An icon is drawn by a function of the phase of what moves in it (wheels, pedals, legs), which
returns its anchors: the points a person touches. Colours, place, size and turn are given by scene.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np

from hoiclip.data.drawn import icons_ground, icons_hand
from hoiclip.data.drawn.inks import Anchors
from hoiclip.data.drawn.shapes import Outlines, Pen, Point

PHASE_STEPS = 24
"""Pictures per turn of whatever moves in an icon: wheels, pedals, legs."""


@dataclass(frozen=True, slots=True)
class Icon:
    outlines: Outlines
    anchors: MappingProxyType[str, Point]


@cache
def icon(name: str, phase_step: int = 0) -> Icon:
    """One icon at one step of its movement.

    Raises:
        ValueError: there is no such icon.
    """
    if name not in _ICONS:
        raise ValueError(f"no icon for {name!r}; there are {', '.join(_ICONS)}")
    pen = Pen()
    anchors = _ICONS[name](pen, 2 * math.pi * phase_step / PHASE_STEPS)
    return Icon(pen.done(), MappingProxyType(anchors))


@cache
def natural_size(name: str) -> float:
    """The longer side of an icon, in body heights."""
    return float(np.ptp(icon(name).outlines.points_xy, axis=0).max())


_ICONS: dict[str, Callable[[Pen, float], Anchors]] = {
    "bicycle": icons_ground.bicycle,
    "horse": icons_ground.horse,
    "dog": icons_ground.dog,
    "skateboard": icons_ground.skateboard,
    "surfboard": icons_ground.surfboard,
    "sports_ball": icons_hand.ball,
    "frisbee": icons_hand.frisbee,
    "umbrella": icons_hand.umbrella,
    "suitcase": icons_hand.suitcase,
    "backpack": icons_hand.backpack,
    "cup": icons_hand.cup,
    "bottle": icons_hand.bottle,
    "laptop": icons_hand.laptop,
    "chair": icons_ground.chair,
    "bench": icons_ground.bench,
    "kite": icons_hand.kite,
    "book": icons_hand.book,
    "cell_phone": icons_hand.cell_phone,
}
ICON_NAMES = tuple(_ICONS)
