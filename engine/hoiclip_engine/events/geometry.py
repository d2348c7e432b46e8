"""Points of pairs, zones and lines: whether a point lies in a zone, and when it crosses a line.

Everything is in pixels of a stream's first frame, so that it outlasts a change of the frames' size. What the rules are
that zones and lines belong to is no matter here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

import cv2
import numpy as np

from hoiclip.core.array_types import F32, F64, Bool
from hoiclip_engine.types.tracked_pairs import TrackedPairs

Point: TypeAlias = tuple[float, float]
"""x, y."""
Direction: TypeAlias = Literal["any", "left", "right", "up", "down"]
"""Edge of the image towards which a line is crossed."""
CountedPoint: TypeAlias = Literal["human", "object", "contact"]

_WAYS: Mapping[str, Point] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_BEYOND_LINE = 0.02
"""Distance from a line at which it has been crossed, as a fraction of the human's height: boxes tremble by less."""
_FORGET_S = 60.0
"""Seconds after which the side of a line on which a pair was seen is forgotten; no identity returns so late."""
_FORGET_EVERY_S = 1.0


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
        self._humans: F32 | F64 = pairs.human_boxes_xyxy
        self._objects: F32 | F64 = pairs.object_boxes_xyxy
        if scale != (1, 1):
            factors = np.array([*scale, *scale])
            self._humans, self._objects = self._humans * factors, self._objects * factors
        self._size_px = size_px
        self._points: dict[CountedPoint, list[Point | None]] = {}

    def of_kind(self, kind: CountedPoint) -> Sequence[Point | None]:
        """A point of each pair, at the frame's edge if it lies beyond; None where there is no object or finite box."""
        if kind not in self._points:
            self._points[kind] = self._all(kind)
        return self._points[kind]

    def is_inside(self, row: int, kind: CountedPoint, zone: F32 | None) -> bool:
        """Whether the point lies in the zone, (K, 2) corners, or on its border; None is the whole frame."""
        if zone is None:
            return True
        point = self.of_kind(kind)[row]
        return point is not None and cv2.pointPolygonTest(zone, point, False) >= 0

    def has_human(self, zone: F32 | None) -> bool:
        """Whether there is a human in the zone."""
        return any(self.is_inside(row, "human", zone) for row in range(len(self._humans)))

    def human_heights_px(self) -> list[float]:
        heights: list[float] = (self._humans[:, 3] - self._humans[:, 1]).tolist()
        return heights

    def _all(self, kind: CountedPoint) -> list[Point | None]:
        humans, objects = self._humans, self._objects
        if kind == "human":
            x, y = (humans[:, 0] + humans[:, 2]) / 2, humans[:, 3]
        elif kind == "object":
            x, y = (objects[:, 0] + objects[:, 2]) / 2, (objects[:, 1] + objects[:, 3]) / 2
        else:
            # Of two intervals, the greater start and the smaller end are the ends of the overlap, or else of the gap.
            starts, ends = np.maximum(humans, objects)[:, :2], np.minimum(humans, objects)[:, 2:]
            x, y = ((starts + ends) / 2).T
        exists: Bool = np.isfinite(x) & np.isfinite(y)
        if kind != "human":
            exists &= self.pairs.object >= 0
        width, height = self._size_px
        return [
            (min(max(across, 0), width), min(max(down, 0), height)) if here else None
            for across, down, here in zip(x.tolist(), y.tolist(), exists.tolist(), strict=True)
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
        self._forgot_s = -math.inf

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

    def forget_all(self) -> None:
        self._sides.clear()

    def forget(self, pts_s: float) -> None:
        """Drops pairs that are long gone; once a second."""
        if pts_s - self._forgot_s < _FORGET_EVERY_S:
            return
        self._forgot_s = pts_s
        for pair in [pair for pair, seen in self._sides.items() if pts_s - seen.seen_s > _FORGET_S]:
            del self._sides[pair]
