"""Icons of what stands on the ground or is ridden: vehicles, animals, boards, seats. Conventions: objects.py."""

from __future__ import annotations

import math

import numpy as np

from hoiclip.data.drawn.inks import ACCENT, DARK, GREY, LIGHT, MAIN, SHADED, Anchors
from hoiclip.data.drawn.shapes import Ink, Pen, Point, arc_xy


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
