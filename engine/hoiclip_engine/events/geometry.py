"""Points of pairs, zones and lines: whether a point lies in a zone, and when it crosses a line.

Everything is in pixels of a stream's first frame, so that it outlasts a change of the frames' size. What the rules are
that zones and lines belong to is no matter here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

import cv2
import numpy as np

from hoiclip.core.array_types import F32, Bool
from hoiclip_engine.types.tracked_pairs import TrackedPairs

Point: TypeAlias = tuple[float, float]
"""x, y."""
Direction: TypeAlias = Literal["any", "left", "right", "up", "down"]
"""Edge of the image towards which a line is crossed."""
CountedPoint: TypeAlias = Literal["human", "object", "contact"]

_KINDS: tuple[CountedPoint, ...] = get_args(CountedPoint)
_WAYS: Mapping[str, Point] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_BEYOND_LINE = 0.02
"""Distance from a line at which it has been crossed, as a fraction of the human's height: boxes tremble by less."""
_FORGET_S = 60.0
"""Seconds after which the side of a line on which a pair was seen is forgotten; no identity returns so late."""


def side(a: Point, b: Point, p: Point) -> float:
    """Twice the area of a triangle: its sign is the side of p by the line from a to b; 0 on the line."""
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])


def segments_meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments from a to b and from c to d have a point in common."""
    sides = side(c, d, a), side(c, d, b), side(a, b, c), side(a, b, d)
    if 0 not in sides:
        return (sides[0] > 0) != (sides[1] > 0) and (sides[2] > 0) != (sides[3] > 0)
    touching = ((a, c, d), (b, c, d), (c, a, b), (d, a, b))
    return any(not turn and _between(*points) for turn, points in zip(sides, touching, strict=True))


def _between(p: Point, a: Point, b: Point) -> bool:
    """Whether a point of the line lies between two others."""
    return min(a[0], b[0]) <= p[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])


class PairPoints:
    """The points of a frame's pairs that count for zones and lines."""

    def __init__(self, pairs: TrackedPairs, scale: Point, size_px: tuple[int, int]) -> None:
        """
        Args:
            scale: factors from pixels of the frame to those of the first one, across and down.
            size_px: width and height of the first frame.
        """
        self.pairs = pairs
        factors = np.array([*scale, *scale])
        self._humans, self._objects = pairs.human_boxes_xyxy * factors, pairs.object_boxes_xyxy * factors
        self._has_object = pairs.object >= 0
        self._size_px = np.array(size_px, np.float64)
        self._points: list[list[Point | None]] | None = None

    def point(self, row: int, kind: CountedPoint) -> Point | None:
        """A pair's point, at the frame's edge if it lies beyond; None where there is no object, or no finite box."""
        if self._points is None:
            self._points = self._all()
        return self._points[_KINDS.index(kind)][row]

    def is_inside(self, row: int, kind: CountedPoint, zone: F32 | None) -> bool:
        """Whether the point lies in the zone, (K, 2) corners, or on its border; None is the whole frame."""
        if zone is None:
            return True
        point = self.point(row, kind)
        return point is not None and cv2.pointPolygonTest(zone, point, False) >= 0

    def has_human(self, zone: F32 | None) -> bool:
        """Whether there is a human in the zone."""
        return any(self.is_inside(row, "human", zone) for row in range(len(self._humans)))

    def human_height_px(self, row: int) -> float:
        return float(self._humans[row, 3] - self._humans[row, 1])

    def _all(self) -> list[list[Point | None]]:
        """Points of all kinds at once, which takes no longer than one: (3, P)."""
        humans, objects = self._humans, self._objects
        points = np.empty((len(_KINDS), len(humans), 2))
        points[0, :, 0], points[0, :, 1] = (humans[:, 0] + humans[:, 2]) / 2, humans[:, 3]
        points[1] = (objects[:, :2] + objects[:, 2:]) / 2
        # Of two intervals, the greater start and the smaller end are the ends of the overlap, or else of the gap.
        points[2] = (np.maximum(humans, objects)[:, :2] + np.minimum(humans, objects)[:, 2:]) / 2
        exists: Bool = np.logical_and.reduce(np.isfinite(points), axis=2)
        exists[1:] &= self._has_object
        clipped = np.minimum(np.maximum(points, 0), self._size_px).tolist()
        return [
            [(x, y) if here else None for (x, y), here in zip(*of_kind, strict=True)]
            for of_kind in zip(clipped, exists.tolist(), strict=True)
        ]


T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class _Side(Generic[T]):
    """Side of a line on which a pair was last clearly seen."""

    sign: int
    point: Point
    """Its last point there."""
    seen_s: float
    beyond: tuple[Point, T] | None = None
    """Its first point beyond the line, and its state there; not far enough yet."""


class LineCrossings(Generic[T]):
    """Sides of one line on which pairs are, and the moments at which they change."""

    def __init__(self, start: Point, end: Point, direction: Direction) -> None:
        self._start, self._end = start, end
        across, down = _WAYS.get(direction, (0, 0))
        self._wanted = side(start, end, (start[0] + across, start[1] + down))
        """Sign of the side to which crossings count; 0: of both."""
        self._sides: dict[int, _Side[T]] = {}

    def observe(self, pair: int, point: Point, human_height_px: float, pts_s: float, state: T) -> T | None:
        """Takes the next point of a pair, with its state of that moment.

        Returns:
            Its state at its first point beyond the line, once it is clearly beyond; None where it has not crossed.
        """
        area = side(self._start, self._end, point)
        sign, seen = (area > 0) - (area < 0), self._sides.get(pair)
        if seen is None:
            if sign:
                self._sides[pair] = _Side(sign=sign, point=point, seen_s=pts_s)
            return None
        seen.seen_s = pts_s
        if sign == seen.sign:
            seen.point, seen.beyond = point, None
            return None
        if not sign:
            return None
        first, crossing = seen.beyond = seen.beyond or (point, state)
        if abs(area) < _BEYOND_LINE * human_height_px * math.dist(self._start, self._end):
            return None
        self._sides[pair] = _Side(sign=sign, point=point, seen_s=pts_s)
        counts = self._wanted * sign >= 0 and segments_meet(seen.point, first, self._start, self._end)
        return crossing if counts else None

    def forget(self, pts_s: float) -> None:
        """Drops pairs that are long gone."""
        for pair in [pair for pair, seen in self._sides.items() if pts_s - seen.seen_s > _FORGET_S]:
            del self._sides[pair]
