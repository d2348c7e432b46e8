"""Filled outlines: the one primitive of the synthetic world.

A figure and an icon are both `Outlines`: polygons in drawing order, each with an ink. An ink names a role ("shirt",
"main"); the palette that turns roles into colours comes at painting time, so one outline serves every colour. Points
are (x, y) with y down, in any unit; `moved` brings them to pixels, where (0, 0) is the corner of
the first pixel and not its centre. Which shapes are drawn, and their placement, is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from hoiclip.core.array_types import F64, RGB, U8

Point = tuple[float, float]
Colour = tuple[int, int, int]
Palette = Mapping[str, Colour]
Box = tuple[float, float, float, float]

_SHIFT = 4
_ARC = np.linspace(-math.pi / 2, math.pi / 2, 7)
_ARC_COS, _ARC_SIN = np.cos(_ARC), np.sin(_ARC)
_EDGE_PX = 0.5
"""OpenCV's anti-aliased outline reaches this far beyond the ideal edge."""


class Ink(NamedTuple):
    """A role of the palette, darker (shade < 1) or lighter."""

    role: str
    shade: float = 1.0

    def colour(self, palette: Palette) -> Colour:
        red, green, blue = palette[self.role]
        shade = self.shade
        if shade == 1.0:
            return red, green, blue
        return min(255, int(red * shade)), min(255, int(green * shade)), min(255, int(blue * shade))


@dataclass(frozen=True, slots=True)
class Outlines:
    """Polygons in drawing order; polygon i is `points_xy[ends[i - 1] : ends[i]]`."""

    points_xy: F64
    ends: tuple[int, ...]
    convex: tuple[bool, ...]
    inks: tuple[Ink, ...]

    def moved(self, x: float, y: float, *, scale: float = 1.0, angle: float = 0.0, facing: int = 1) -> Outlines:
        """Turned clockwise by `angle` radians, then mirrored (facing -1), scaled and shifted by (x, y)."""
        turn_cos, turn_sin = scale * math.cos(angle), scale * math.sin(angle)
        matrix = np.array(((facing * turn_cos, turn_sin), (-facing * turn_sin, turn_cos)))
        return Outlines(self.points_xy @ matrix + (x, y), self.ends, self.convex, self.inks)

    def polygons(self, first: int, last: int) -> Outlines:
        """Polygons first, first + 1 ... last - 1, at least one."""
        begin = self.ends[first - 1] if first else 0
        ends = tuple(end - begin for end in self.ends[first:last])
        points = self.points_xy[begin : begin + ends[-1]]
        return Outlines(points, ends, self.convex[first:last], self.inks[first:last])

    def followed_by(self, other: Outlines) -> Outlines:
        """These polygons, and the others in front of them."""
        ends = self.ends + tuple(end + self.ends[-1] for end in other.ends)
        points = np.concatenate((self.points_xy, other.points_xy))
        return Outlines(points, ends, self.convex + other.convex, self.inks + other.inks)


def moved_point(point: Point, x: float, y: float, *, scale: float = 1.0, angle: float = 0.0, facing: int = 1) -> Point:
    """One point as `Outlines.moved` moves it."""
    turn_cos, turn_sin = scale * math.cos(angle), scale * math.sin(angle)
    along, down = point[0] * turn_cos - point[1] * turn_sin, point[0] * turn_sin + point[1] * turn_cos
    return x + facing * along, y + down


def capsules(rows: Sequence[Sequence[float]], inks: Sequence[Ink]) -> Outlines:
    """Round-ended limbs, all at once.

    Args:
        rows: (x0, y0, x1, y1, r0, r1) of each limb: two ends and their radii. Equal ends make a disc.
        inks: one per row.
    """
    table = np.asarray(rows, dtype=np.float64)
    start, end = table[:, None, 0:2], table[:, None, 2:4]
    along = end - start
    length = np.sqrt((along * along).sum(-1, keepdims=True))
    along = np.where(length > 1e-9, along / np.maximum(length, 1e-9), (1.0, 0.0))
    across = along[..., ::-1] * (-1.0, 1.0)
    cap = _ARC_COS[:, None] * along + _ARC_SIN[:, None] * across
    points = np.concatenate((end + table[:, 5, None, None] * cap, start - table[:, 4, None, None] * cap), axis=1)
    count, corners = points.shape[:2]
    ends = tuple(range(corners, corners * count + 1, corners))
    return Outlines(points.reshape(-1, 2), ends, (True,) * count, tuple(inks))


class Pen:
    """Collects outlines one by one. Convenient, not fast: for icons that are drawn once and kept."""

    def __init__(self) -> None:
        self._points: list[F64] = []
        self._convex: list[bool] = []
        self._inks: list[Ink] = []

    def polygon(self, ink: Ink, points_xy: Sequence[Point] | F64, *, convex: bool = True) -> None:
        self._points.append(np.asarray(points_xy, dtype=np.float64).reshape(-1, 2))
        self._convex.append(convex)
        self._inks.append(ink)

    def line(self, ink: Ink, points_xy: Sequence[Point], radius: float) -> None:
        """A rounded polyline."""
        for (x0, y0), (x1, y1) in pairwise(points_xy):
            self.polygon(ink, capsules([(x0, y0, x1, y1, radius, radius)], [ink]).points_xy)

    def box(self, ink: Ink, x0: float, y0: float, x1: float, y1: float, *, corner: float = 0.0) -> None:
        """An upright rectangle with round corners."""
        centres = ((x1 - corner, y1 - corner), (x0 + corner, y1 - corner), (x0 + corner, y0 + corner))
        corners = [(arc_xy(x, y, corner, corner, 90 * i, 90 * i + 90, 4)) for i, (x, y) in enumerate(centres)]
        corners.append(arc_xy(x1 - corner, y0 + corner, corner, corner, 270, 360, 4))
        self.polygon(ink, np.concatenate(corners))

    def oval(self, ink: Ink, x: float, y: float, rx: float, ry: float | None = None, *, tilt: float = 0.0) -> None:
        """An ellipse turned by `tilt` radians; a disc where `ry` is left out."""
        rim = arc_xy(0, 0, rx, rx if ry is None else ry, 0, 345, 24)
        turn = np.array(((math.cos(tilt), math.sin(tilt)), (-math.sin(tilt), math.cos(tilt))))
        self.polygon(ink, rim @ turn + (x, y))

    def ring(self, ink: Ink, x: float, y: float, radius: float, width: float) -> None:
        """A tyre: one outline that runs round the outside and back along the inside."""
        outer = arc_xy(x, y, radius, radius, 0, 360, 25)
        inner = arc_xy(x, y, radius - width, radius - width, 360, 0, 25)
        self.polygon(ink, np.concatenate((outer, inner)), convex=False)

    def done(self) -> Outlines:
        ends = tuple(int(end) for end in np.cumsum([len(points) for points in self._points]))
        return Outlines(np.concatenate(self._points), ends, tuple(self._convex), tuple(self._inks))


def arc_xy(x: float, y: float, rx: float, ry: float, start_deg: float, end_deg: float, count: int) -> F64:
    """(count, 2) points along an ellipse, clockwise on the screen from the right."""
    angle = np.radians(np.linspace(start_deg, end_deg, count))
    return np.stack((x + rx * np.cos(angle), y + ry * np.sin(angle)), axis=-1)


def paint(image: RGB, outlines: Outlines, palette: Palette) -> None:
    """Fills the outlines, in pixels, onto an RGB image."""
    _fill(image, outlines, [ink.colour(palette) for ink in outlines.inks])


def extent_xyxy(outlines: Sequence[Outlines], width_px: int, height_px: int) -> Box | None:
    """The box of what `paint` draws, cut at the frame; None where it is wholly outside."""
    points = np.concatenate([part.points_xy for part in outlines])
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if x0 >= _EDGE_PX and y0 >= _EDGE_PX and x1 <= width_px - _EDGE_PX and y1 <= height_px - _EDGE_PX:
        return x0 - _EDGE_PX, y0 - _EDGE_PX, x1 + _EDGE_PX, y1 + _EDGE_PX
    if x0 >= width_px or y0 >= height_px or x1 <= 0 or y1 <= 0:
        return None
    # Cut by the frame: a raised arm outside must not stretch the box of the foot inside, so the pixels are searched.
    mask = np.zeros((height_px, width_px), dtype=np.uint8)
    for part in outlines:
        _fill(mask, part, [(255, 255, 255)] * len(part.ends))
    left, top, width, height = cv2.boundingRect(cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)[1])
    return (float(left), float(top), float(left + width), float(top + height)) if width else None


def silhouette(outlines: Outlines, scale: float, width_px: int, height_px: int) -> U8:
    """(H, W) mask of 0 and 1 on a grid of another scale, without soft edges, for counting pixels."""
    mask = np.zeros((height_px, width_px), dtype=np.uint8)
    fixed = np.rint((outlines.points_xy * scale - 0.5) * (1 << _SHIFT)).astype(np.int32)
    start = 0
    for end, convex in zip(outlines.ends, outlines.convex, strict=True):
        if convex:
            cv2.fillConvexPoly(mask, fixed[start:end], 1, cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(mask, [fixed[start:end]], 1, cv2.LINE_8, _SHIFT)
        start = end
    return mask


def _fill(image: U8, outlines: Outlines, colours: Sequence[Colour]) -> None:
    # OpenCV puts integers at pixel centres.
    fixed = np.rint((outlines.points_xy - 0.5) * (1 << _SHIFT)).astype(np.int32)
    start = 0
    for end, convex, colour in zip(outlines.ends, outlines.convex, colours, strict=True):
        if convex:
            cv2.fillConvexPoly(image, fixed[start:end], colour, cv2.LINE_AA, _SHIFT)
        else:
            cv2.fillPoly(image, [fixed[start:end]], colour, cv2.LINE_AA, _SHIFT)
        start = end
