"""Finds a place for each label of a frame: near its person, inside the frame, over nobody's face, the same as before.

Positions are remembered from frame to frame: a label keeps its side of the person while that is good enough, stays
where it is while boxes tremble, and glides where it has to move. Only rectangles; nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

FORGET_AFTER_S = 1.0
"""A label that was away for so long may come back anywhere; so may all after a jump of the time."""
_FACE = 0.25
"""Of a human box, from its top."""
_OVER_LABEL, _OVER_FACE, _OVER_OTHERS, _OVER_OWN_OBJECT, _OVER_OWN_BODY = 20.0, 6.0, 2.0, 1.5, 0.5
"""Costs of covering something with the whole label."""
_LATER_SLOT, _FAR = 0.03, 0.1
"""Costs of a less usual place, and of being a label's height away from the person."""
_STAY = 0.6
"""How much better another place must be before a label leaves its own."""
_SLACK = 0.2
"""In label heights: how far a label may be from its place before it follows."""
_GLIDE_HALF_S = 0.05
"""Seconds in which a label goes half of the rest of its way."""


class Rect(NamedTuple):
    """Pixels; x2 and y2 lie outside where a rectangle is an area."""

    x1: float
    y1: float
    x2: float
    y2: float

    def overlaps(self, other: Rect) -> bool:
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < other.y2 and other.y1 < self.y2


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A person with a label, which must not be bigger than the frame."""

    human: int
    """Identity; what is remembered belongs to it."""
    size_px: tuple[int, int]
    """Width and height of the label."""
    box: Rect
    """Of the person, or of the object where nothing of the person is in the frame."""
    objects: tuple[Rect, ...] = ()


@dataclass(slots=True)
class _Place:
    slot: int
    x: float
    y: float
    pts_s: float


class LabelLayout:
    """Labels of one video, frame by frame."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px = width_px
        self.height_px = height_px
        self._places: dict[int, _Place] = {}
        self._pts_s = -np.inf

    def place(self, people: Sequence[Labelled], pts_s: float, taken: Sequence[Rect] = ()) -> list[Rect]:
        """Where each label goes, in whole pixels. Labels overlap only where nothing else is left.

        Args:
            people: in order of precedence.
            pts_s: time of the frame; a step back or a long one forward forgets all places.
            taken: what no label should cover.
        """
        step_s = pts_s - self._pts_s
        if not 0 <= step_s <= FORGET_AFTER_S:
            self._places.clear()
            step_s = 0.0
        self._pts_s = pts_s
        glide = 1 - 2 ** (-step_s / _GLIDE_HALF_S)
        self._places = {who: at for who, at in self._places.items() if pts_s - at.pts_s <= FORGET_AFTER_S}
        placed = list(taken)
        for person in people:
            placed.append(self._place(person, people, placed, glide))
        return placed[len(taken) :]

    def _place(self, person: Labelled, people: Sequence[Labelled], taken: Sequence[Rect], glide: float) -> Rect:
        width, height = person.size_px
        wishes = np.array(self._wishes(person.box, width, height), np.float64)
        inside = np.clip(wishes, 0, (max(0, self.width_px - width), max(0, self.height_px - height)))
        cost = _obstructed(inside, person, people, taken)
        cost += _LATER_SLOT * np.arange(len(wishes)) + _FAR * np.abs(inside - wishes).sum(axis=1) / height
        before = self._places.get(person.human)
        if before is not None:
            cost[before.slot] -= _STAY
        slot = int(cost.argmin())
        goal_x, goal_y = inside[slot].tolist()
        x, y = goal_x, goal_y
        if before is not None:
            x = _follow(before.x, goal_x, _SLACK * height, glide)
            y = _follow(before.y, goal_y, _SLACK * height, glide)
            x, y = max(0.0, min(x, self.width_px - width)), max(0.0, min(y, self.height_px - height))
            if any(_rect(x, y, width, height).overlaps(other) for other in taken):
                x, y = goal_x, goal_y
        self._places[person.human] = _Place(slot, x, y, self._pts_s)
        return _rect(x, y, width, height)

    def _wishes(self, box: Rect, width: int, height: int) -> list[tuple[float, float]]:
        """Corners of possible labels, the most usual first; always as many, so that a slot keeps its number."""
        gap = max(2, height // 4)
        middle = (box.x1 + box.x2 - width) / 2
        above, below = box.y1 - height - gap, box.y2 + gap
        left, right = box.x1 - width - gap, box.x2 + gap
        low, center = box.y2 - height, (box.y1 + box.y2 - height) / 2
        around = [(box.x1, above), (middle, above), (box.x2 - width, above)]
        around += [(left, box.y1), (right, box.y1), (left, center), (right, center)]
        around += [(box.x1, below), (middle, below), (box.x2 - width, below), (middle, low)]
        # Then stacked over and under the box, ever farther.
        for step in range(1, 7):
            around += [(box.x1, above - step * height), (box.x1, below + step * height)]
        return around


def _obstructed(corners_xy: F64, person: Labelled, people: Sequence[Labelled], taken: Sequence[Rect]) -> F64:
    """(K,) cost of what labels at these places would cover."""
    obstacles = [(rect, _OVER_LABEL) for rect in taken]
    for other in people:
        own = other is person
        obstacles.append((_face(other.box), _OVER_FACE))
        obstacles.append((other.box, _OVER_OWN_BODY if own else _OVER_OTHERS))
        obstacles += [(rect, _OVER_OWN_OBJECT if own else _OVER_OTHERS) for rect in other.objects]
    rects = np.array([rect for rect, _ in obstacles], np.float64)
    weights = np.array([weight for _, weight in obstacles], np.float64)
    size = np.array(person.size_px, np.float64)
    low = np.maximum(corners_xy[:, None], rects[None, :, :2])
    high = np.minimum(corners_xy[:, None] + size, rects[None, :, 2:])
    covered: F64 = np.maximum(high - low, 0).prod(axis=2) / size.prod()
    # Of a small label any part may be all of it, however little of this one lies over it.
    labels = covered[:, : len(taken)]
    labels[labels > 0] = 0.5 + 0.5 * labels[labels > 0]
    cost: F64 = covered @ weights
    return cost


def _face(box: Rect) -> Rect:
    return box._replace(y2=box.y1 + _FACE * (box.y2 - box.y1))


def _follow(at: float, goal: float, slack_px: float, glide: float) -> float:
    """Nothing within the slack; outside of it this fraction of the way."""
    beyond = abs(goal - at) - slack_px
    return at if beyond <= 0 else at + glide * (beyond if goal > at else -beyond)


def _rect(x: float, y: float, width: int, height: int) -> Rect:
    left, top = round(x), round(y)
    return Rect(left, top, left + width, top + height)
