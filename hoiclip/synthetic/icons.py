"""Icons: recognisable objects under their HICO names, in body heights of the people who use them.

Objects that stand on the ground have it at y = 0; objects that are held have (0, 0) where a hand takes them or in their
middle. They face right. An icon is drawn by a function of the phase of what moves in it (wheels, pedals, legs), which
returns its anchors: the points a person touches. Colours, position, size and rotation come from scene.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np

from hoiclip.synthetic.shapes import Ink, Outlines, Pen, Point, arc_xy

PHASE_STEPS = 24
"""Images per turn of the moving parts of an icon: wheels, pedals, legs."""

MAIN, ACCENT = Ink("main"), Ink("accent")
DARK, LIGHT, GREY, GLOW = Ink("dark"), Ink("light"), Ink("grey"), Ink("glow")
SHADED = Ink("main", 0.72)

Anchors = dict[str, Point]
"""Points of an icon that a person touches."""


@dataclass(frozen=True, slots=True)
class Icon:
    """Outlines of an object and the points a person touches."""

    outlines: Outlines
    anchors: MappingProxyType[str, Point]


@cache
def icon(name: str, phase_step: int = 0) -> Icon:
    """One icon at one step of its movement.

    Raises:
        ValueError: no icon has this name.
    """
    if name not in _ICONS:
        raise ValueError(f"no icon for {name!r}; known are {', '.join(_ICONS)}")
    pen = Pen()
    anchors = _ICONS[name](pen, 2 * math.pi * phase_step / PHASE_STEPS)
    return Icon(pen.done(), MappingProxyType(anchors))


@cache
def natural_size(name: str) -> float:
    """The longer side of an icon, in body heights."""
    return float(np.ptp(icon(name).outlines.points_xy, axis=0).max())


def bicycle(pen: Pen, phase: float) -> Anchors:
    rear, front, crank = (-0.29, -0.19), (0.29, -0.19), (-0.05, -0.2)
    seat, head, bars = (-0.12, -0.46), (0.19, -0.45), (0.19, -0.6)
    swing = (0.075 * math.cos(phase), 0.075 * math.sin(phase))
    pedals = {
        side: (crank[0] + sign * swing[0], crank[1] + sign * swing[1]) for side, sign in (("near", 1), ("far", -1))
    }
    for x, y in (rear, front):
        for i in range(3):
            angle = 0.5 * phase + i * math.pi / 3
            dx, dy = 0.17 * math.cos(angle), 0.17 * math.sin(angle)
            pen.line(GREY, [(x - dx, y - dy), (x + dx, y + dy)], 0.004)
        pen.ring(DARK, x, y, 0.19, 0.028)
        pen.oval(GREY, x, y, 0.022)
    pen.line(DARK, [crank, pedals["far"]], 0.01)
    pen.line(SHADED, [rear, crank, seat, rear], 0.016)
    pen.line(MAIN, [seat, head, crank], 0.019)
    pen.line(MAIN, [front, head, bars], 0.017)
    pen.line(DARK, [(0.14, -0.585), bars, (0.225, -0.6)], 0.016)
    pen.line(GREY, [seat, (-0.135, -0.52)], 0.012)
    pen.line(ACCENT, [(-0.2, -0.53), (-0.07, -0.525)], 0.021)
    pen.oval(GREY, *crank, 0.036)
    pen.line(DARK, [crank, pedals["near"]], 0.011)
    pen.line(
        DARK, [(pedals["near"][0] - 0.03, pedals["near"][1]), (pedals["near"][0] + 0.03, pedals["near"][1])], 0.011
    )
    return {"saddle": (-0.13, -0.555), "bars": bars, "near_pedal": pedals["near"], "far_pedal": pedals["far"]}


def horse(pen: Pen, phase: float) -> Anchors:
    _animal_legs(pen, phase, hips=(-0.3, 0.26), top=-0.5, upper=0.25, lower=0.23, thick=0.06, hoof=DARK)
    pen.line(ACCENT, [(-0.42, -0.62), (-0.5, -0.52), (-0.53, -0.3)], 0.035)
    pen.oval(MAIN, -0.28, -0.58, 0.17, 0.165)
    pen.oval(MAIN, 0.0, -0.57, 0.36, 0.14)
    pen.oval(MAIN, 0.26, -0.6, 0.15, 0.15)
    pen.polygon(MAIN, [(0.12, -0.68), (0.37, -0.52), (0.53, -0.93), (0.42, -1.0)], convex=False)
    pen.polygon(ACCENT, [(0.1, -0.68), (0.19, -0.7), (0.43, -0.97), (0.42, -1.05), (0.32, -0.97)], convex=False)
    pen.line(MAIN, [(0.46, -0.94), (0.64, -0.82)], 0.068)
    pen.oval(SHADED, 0.67, -0.8, 0.05, 0.055)
    pen.polygon(MAIN, [(0.4, -0.98), (0.47, -0.98), (0.45, -1.08)])
    pen.oval(DARK, 0.52, -0.93, 0.016)
    pen.line(DARK, [(0.57, -0.78), (0.3, -0.83)], 0.007)
    pen.line(ACCENT, [(-0.14, -0.7), (0.06, -0.7)], 0.028)
    return {
        "saddle": (-0.04, -0.79),
        "bars": (0.26, -0.86),
        "near_pedal": (0.08, -0.42),
        "far_pedal": (0.08, -0.42),
        "collar": (0.57, -0.78),
        "back": (-0.2, -0.73),
    }


def dog(pen: Pen, phase: float) -> Anchors:
    _animal_legs(pen, phase, hips=(-0.15, 0.12), top=-0.17, upper=0.09, lower=0.08, thick=0.026, hoof=SHADED)
    pen.line(MAIN, [(-0.17, -0.26), (-0.26, -0.36 + 0.03 * math.sin(2 * phase))], 0.02)
    pen.line(MAIN, [(-0.14, -0.21), (0.12, -0.22)], 0.075)
    pen.line(MAIN, [(0.14, -0.24), (0.2, -0.33)], 0.048)
    pen.line(ACCENT, [(0.14, -0.3), (0.21, -0.27)], 0.014)
    pen.oval(MAIN, 0.23, -0.36, 0.066, 0.06)
    pen.line(MAIN, [(0.24, -0.34), (0.31, -0.33)], 0.032)
    pen.oval(DARK, 0.342, -0.345, 0.016)
    pen.oval(DARK, 0.25, -0.38, 0.011)
    pen.line(SHADED, [(0.19, -0.39), (0.165, -0.32)], 0.024)
    return {"collar": (0.17, -0.285), "back": (0.0, -0.3), "head": (0.21, -0.43)}


def _animal_legs(
    pen: Pen, phase: float, *, hips: Point, top: float, upper: float, lower: float, thick: float, hoof: Ink
) -> None:
    """Four trotting legs: the diagonal pairs swing together."""
    for ink, shift in ((SHADED, math.pi), (MAIN, 0.0)):
        for x, offset in zip(hips, (0.0, math.pi), strict=True):
            swing = 0.35 * math.sin(phase + shift + offset)
            bend = 0.25 * max(0.0, math.cos(phase + shift + offset))
            knee = (x + upper * math.sin(swing), top + upper * math.cos(swing))
            foot = (
                knee[0] + lower * math.sin(swing - bend),
                min(knee[1] + lower * math.cos(swing - bend), -thick * 0.6),
            )
            pen.line(ink, [(x, top), knee], thick)
            pen.line(ink, [knee, foot], thick * 0.7)
            pen.oval(hoof, foot[0] + 0.2 * thick, foot[1], thick * 0.85, thick * 0.6)


def skateboard(pen: Pen, phase: float) -> Anchors:
    for x in (-0.16, 0.16):
        pen.line(GREY, [(x, -0.035), (x, -0.07)], 0.016)
        pen.oval(ACCENT, x, -0.036, 0.036)
        pen.oval(LIGHT, x, -0.036, 0.013)
    pen.line(MAIN, [(-0.28, -0.115), (-0.22, -0.083), (0.22, -0.083), (0.28, -0.115)], 0.018)
    return {"deck": (0.0, -0.1), "grip": (0.0, -0.08)}


def surfboard(pen: Pen, phase: float) -> Anchors:
    upper, lower = arc_xy(0, 0, 0.5, 0.085, 180, 360, 16), arc_xy(0, 0, 0.5, 0.06, 0, 180, 16)
    pen.polygon(MAIN, np.concatenate((upper, lower)))
    pen.line(ACCENT, [(-0.46, 0.0), (0.46, 0.0)], 0.012)
    pen.polygon(ACCENT, [(0.2, -0.076), (0.28, -0.069), (0.28, 0.048), (0.2, 0.054)])
    pen.polygon(DARK, [(-0.42, 0.03), (-0.34, 0.045), (-0.43, 0.1)])
    return {"deck": (0.0, -0.075), "grip": (0.0, -0.01)}


def chair(pen: Pen, phase: float) -> Anchors:
    pen.line(SHADED, [(-0.11, -0.27), (-0.09, -0.018)], 0.016)
    pen.line(SHADED, [(0.12, -0.27), (0.11, -0.018)], 0.016)
    pen.line(MAIN, [(-0.19, -0.6), (-0.15, -0.27), (-0.17, -0.018)], 0.018)
    pen.line(MAIN, [(0.15, -0.27), (0.17, -0.018)], 0.018)
    pen.line(ACCENT, [(-0.185, -0.57), (-0.165, -0.4)], 0.027)
    pen.line(MAIN, [(-0.15, -0.28), (0.15, -0.28)], 0.022)
    pen.line(ACCENT, [(-0.12, -0.305), (0.14, -0.305)], 0.018)
    return {"seat": (-0.04, -0.32), "grip": (-0.03, -0.29)}


def bench(pen: Pen, phase: float) -> Anchors:
    for x in (-0.34, 0.34):
        pen.line(DARK, [(x, -0.5), (x, -0.02)], 0.018)
        pen.line(DARK, [(x, -0.26), (x * 1.12, -0.02)], 0.018)
    for y in (-0.48, -0.41):
        pen.line(MAIN, [(-0.42, y), (0.42, y)], 0.024)
    pen.line(SHADED, [(-0.42, -0.27), (0.42, -0.27)], 0.026)
    pen.line(MAIN, [(-0.42, -0.29), (0.42, -0.29)], 0.02)
    return {"seat": (0.0, -0.32)}


def ball(pen: Pen, phase: float) -> Anchors:
    pen.oval(MAIN, 0, 0, 0.075)
    pen.oval(ACCENT, 0, 0, 0.027)
    for i in range(5):
        angle = 2 * math.pi * (i + 0.25) / 5
        across, along = math.sin(angle), math.cos(angle)
        pen.line(ACCENT, [(0.02 * along, 0.02 * across), (0.055 * along, 0.055 * across)], 0.006)
        pen.oval(ACCENT, 0.06 * along, 0.06 * across, 0.012, 0.02, tilt=angle)
    return {"grip": (0.0, 0.0)}


def frisbee(pen: Pen, phase: float) -> Anchors:
    pen.oval(SHADED, 0, 0.012, 0.13, 0.045)
    pen.oval(MAIN, 0, 0, 0.13, 0.04)
    pen.oval(ACCENT, 0, -0.002, 0.085, 0.024)
    pen.oval(MAIN, 0, -0.002, 0.055, 0.014)
    return {"grip": (-0.1, 0.0)}


def umbrella(pen: Pen, phase: float) -> Anchors:
    pen.line(DARK, [(0, -0.5), (0, 0.03), (0.015, 0.05), (0.04, 0.045), (0.045, 0.02)], 0.012)
    pen.line(DARK, [(0, -0.68), (0, -0.64)], 0.01)
    crown = arc_xy(0, -0.42, 0.34, 0.23, 180, 360, 25)
    for i in range(4):
        hem = [(0.17 * i - 0.17, -0.42), (0.17 * i - 0.255, -0.45), (0.17 * i - 0.34, -0.42)]
        pen.polygon(MAIN if i % 2 else ACCENT, [*map(tuple, crown[6 * i : 6 * i + 7]), *hem], convex=False)
    return {"grip": (0.0, 0.0)}


def suitcase(pen: Pen, phase: float) -> Anchors:
    for x in (-0.11, 0.11):
        pen.oval(DARK, x, -0.022, 0.022)
    pen.line(DARK, [(-0.06, -0.36), (-0.06, -0.425), (0.06, -0.425), (0.06, -0.36)], 0.012)
    pen.box(MAIN, -0.17, -0.37, 0.17, -0.035, corner=0.035)
    for x in (-0.09, 0.09):
        pen.box(ACCENT, x - 0.015, -0.37, x + 0.015, -0.035)
    pen.box(SHADED, -0.17, -0.215, 0.17, -0.2)
    pen.box(LIGHT, -0.025, -0.23, 0.025, -0.19, corner=0.008)
    return {"grip": (0.0, -0.425)}


def backpack(pen: Pen, phase: float) -> Anchors:
    pen.ring(DARK, 0, -0.165, 0.035, 0.014)
    pen.box(SHADED, -0.12, 0.0, 0.12, 0.13, corner=0.03)
    pen.polygon(MAIN, np.concatenate((arc_xy(0, -0.05, 0.105, 0.11, 180, 360, 14), [(0.105, 0.14), (-0.105, 0.14)])))
    pen.box(ACCENT, -0.075, 0.02, 0.075, 0.115, corner=0.02)
    pen.line(LIGHT, [(-0.06, 0.045), (0.06, 0.045)], 0.006)
    pen.line(DARK, [(-0.08, -0.06), (0.08, -0.06)], 0.007)
    return {"grip": (0.0, -0.17), "back": (0.09, -0.02)}


def cup(pen: Pen, phase: float) -> Anchors:
    pen.ring(SHADED, 0.055, 0.0, 0.037, 0.014)
    pen.polygon(MAIN, [(-0.056, -0.065), (0.056, -0.065), (0.044, 0.065), (-0.044, 0.065)])
    pen.polygon(ACCENT, [(-0.052, -0.018), (0.052, -0.018), (0.048, 0.022), (-0.048, 0.022)])
    pen.oval(LIGHT, 0, -0.065, 0.057, 0.014)
    pen.oval(Ink("dark", 1.6), 0, -0.063, 0.044, 0.009)
    return {"grip": (0.05, 0.0), "mouth": (-0.05, -0.065)}


def bottle(pen: Pen, phase: float) -> Anchors:
    pen.box(MAIN, -0.04, -0.04, 0.04, 0.12, corner=0.012)
    pen.polygon(MAIN, [(-0.04, -0.03), (0.04, -0.03), (0.016, -0.085), (-0.016, -0.085)])
    pen.box(MAIN, -0.016, -0.115, 0.016, -0.08)
    pen.box(DARK, -0.019, -0.135, 0.019, -0.11, corner=0.006)
    pen.box(ACCENT, -0.04, 0.0, 0.04, 0.07)
    pen.line(LIGHT, [(-0.022, -0.02), (-0.022, 0.1)], 0.005)
    return {"grip": (0.0, 0.02), "mouth": (0.0, -0.13)}


def laptop(pen: Pen, phase: float) -> Anchors:
    pen.polygon(DARK, [(0.1, 0.0), (0.19, -0.205), (0.21, -0.2), (0.135, 0.0)])
    pen.polygon(MAIN, [(-0.02, -0.005), (0.07, -0.215), (0.2, -0.205), (0.12, 0.0)])
    pen.polygon(GLOW, [(0.0, -0.022), (0.077, -0.197), (0.18, -0.19), (0.11, -0.02)])
    pen.polygon(ACCENT, [(0.04, -0.07), (0.065, -0.13), (0.115, -0.125), (0.095, -0.066)])
    pen.polygon(MAIN, [(-0.17, 0.012), (0.12, 0.012), (0.135, -0.012), (-0.02, -0.03)], convex=False)
    pen.polygon(DARK, [(-0.115, 0.0), (0.06, 0.0), (0.085, -0.012), (-0.02, -0.02)], convex=False)
    pen.polygon(SHADED, [(-0.17, 0.01), (0.12, 0.01), (0.12, 0.028), (-0.17, 0.024)])
    return {"grip": (-0.03, 0.015), "keys": (-0.05, -0.02)}


def kite(pen: Pen, phase: float) -> Anchors:
    top, right, bottom, left, middle = (0.0, -0.22), (0.15, -0.04), (0.0, 0.22), (-0.15, -0.04), (0.0, -0.04)
    tail = [(0.02 * math.sin(3 * i + phase) + 0.01 * i, 0.22 + 0.05 * i) for i in range(5)]
    pen.line(DARK, tail, 0.006)
    for x, y in tail[1::2]:
        pen.polygon(ACCENT, [(x, y), (x - 0.035, y - 0.02), (x - 0.035, y + 0.02)])
        pen.polygon(ACCENT, [(x, y), (x + 0.035, y + 0.02), (x + 0.035, y - 0.02)])
    for ink, corners in (
        (MAIN, (top, right)),
        (ACCENT, (right, bottom)),
        (SHADED, (bottom, left)),
        (Ink("accent", 0.8), (left, top)),
    ):
        pen.polygon(ink, [middle, *corners])
    pen.line(DARK, [top, bottom], 0.005)
    pen.line(DARK, [left, right], 0.005)
    return {"grip": (0.0, 0.1), "string": middle}


def book(pen: Pen, phase: float) -> Anchors:
    pen.polygon(
        MAIN,
        [(0.0, -0.075), (0.13, -0.105), (0.13, 0.085), (0.0, 0.105), (-0.13, 0.085), (-0.13, -0.105)],
        convex=False,
    )
    for side in (-1, 1):
        pen.polygon(LIGHT, [(0, -0.07), (side * 0.117, -0.095), (side * 0.117, 0.07), (0, 0.09)])
        for y in (-0.05, -0.015, 0.02):
            pen.line(GREY, [(side * 0.025, y), (side * 0.095, y - 0.014)], 0.006)
    pen.line(SHADED, [(0, -0.075), (0, 0.1)], 0.006)
    return {"grip": (0.0, 0.095)}


def cell_phone(pen: Pen, phase: float) -> Anchors:
    pen.box(MAIN, -0.046, -0.085, 0.046, 0.085, corner=0.014)
    pen.box(DARK, -0.04, -0.078, 0.04, 0.078, corner=0.01)
    pen.box(GLOW, -0.034, -0.064, 0.034, 0.058)
    pen.box(ACCENT, -0.022, -0.045, 0.022, -0.01)
    return {"grip": (-0.02, 0.04)}


_ICONS: dict[str, Callable[[Pen, float], Anchors]] = {
    "bicycle": bicycle,
    "horse": horse,
    "dog": dog,
    "skateboard": skateboard,
    "surfboard": surfboard,
    "sports_ball": ball,
    "frisbee": frisbee,
    "umbrella": umbrella,
    "suitcase": suitcase,
    "backpack": backpack,
    "cup": cup,
    "bottle": bottle,
    "laptop": laptop,
    "chair": chair,
    "bench": bench,
    "kite": kite,
    "book": book,
    "cell_phone": cell_phone,
}
ICON_NAMES = tuple(_ICONS)
