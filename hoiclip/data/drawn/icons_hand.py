"""Icons of what is held, carried, thrown or worn. Conventions: objects.py."""

from __future__ import annotations

import math

import numpy as np

from hoiclip.data.drawn.inks import ACCENT, DARK, GLOW, GREY, LIGHT, MAIN, SHADED, Anchors
from hoiclip.data.drawn.shapes import Ink, Pen, arc_xy


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
