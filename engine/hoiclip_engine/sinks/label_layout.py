"""Finds a place for each label of a picture: near its boxes, inside the picture, not over another label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Rect(NamedTuple):
    """Whole pixels; x2 and y2 lie outside where a rectangle is an area."""

    x1: int
    y1: int
    x2: int
    y2: int

    def overlaps(self, other: Rect) -> bool:
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < other.y2 and other.y1 < self.y2


class LabelLayout:
    """Labels of one picture, placed one after the other: the first comes gets the best place."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px = width_px
        self.height_px = height_px
        self._taken: list[Rect] = []

    def place(self, width_px: int, height_px: int, anchors: list[Rect]) -> Rect:
        """Where a label of this size goes; it must not be bigger than the picture. Overlaps only if all is taken."""
        wishes = [self._inside(x, y, width_px, height_px) for x, y in self._wishes(height_px, anchors)]
        free = (place for place in wishes if not any(place.overlaps(other) for other in self._taken))
        chosen = next(free, wishes[0])
        self._taken.append(chosen)
        return chosen

    def _wishes(self, height_px: int, anchors: list[Rect]) -> Iterator[tuple[int, int]]:
        for box in anchors:
            yield box.x1, box.y1 - height_px
            yield box.x1, box.y2 + 1
        for box in anchors:
            yield box.x1, box.y1
        # Then stacked over and under the first box, ever farther.
        first = anchors[0]
        for step in range(1, self.height_px // max(1, height_px) + 1):
            yield first.x1, first.y1 + step * height_px
            yield first.x1, first.y1 - (step + 1) * height_px

    def _inside(self, x: int, y: int, width_px: int, height_px: int) -> Rect:
        x = max(0, min(x, self.width_px - width_px))
        y = max(0, min(y, self.height_px - height_px))
        return Rect(x, y, x + width_px, y + height_px)
