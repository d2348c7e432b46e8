"""Labels: words on dark, half transparent chips, and their places in a frame.

Chips are readable on any background; they have a stripe in a colour, or are all grey. A label lies near its person,
inside the frame and over no face. Positions are remembered from frame to frame: a label keeps its side of the person
while that is good enough, stays while boxes tremble, and glides where it has to move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hoiclip.core.array_types import F64, RGB

Color = tuple[int, int, int]

SMALLEST_FONT_PX = 6
_GROUND, _OPACITY = (20, 20, 24), 0.72
_GREY = (210, 210, 214)


@dataclass(frozen=True, slots=True)
class Chip:
    """An image with its own transparency: pixel = keep · pixel + add. Shared and read-only."""

    keep: NDArray[np.float32]
    add: NDArray[np.float32]
    """(H, W, 3) both, although all channels keep as much: numpy is three times as fast without broadcasting."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.keep.shape[1], self.keep.shape[0]

    def paint(self, rgb: RGB, place: Rect) -> None:
        """Paints over the frame, at a place of its own size."""
        rows, columns = slice(int(place.y1), int(place.y2)), slice(int(place.x1), int(place.x2))
        rgb[rows, columns] = rgb[rows, columns] * self.keep + self.add


# Enough for one moment of all sources. Every person and every tenth of a second makes new ones, of a 1080p frame up to
# 0.6 MB each.
@lru_cache(maxsize=128)
def fitting_chip(text: str, font_px: int, stripe: Color | None, frame_px: tuple[int, int]) -> Chip:
    """A chip that is no bigger than the frame (width, height): in a smaller font, and cut off where that is not enough.

    Args:
        stripe: colour at its left edge; None: none, and grey words.
    """
    width, height = frame_px
    chip = _chip(text, font_px, stripe)
    if chip.size_px[0] > width and font_px > SMALLEST_FONT_PX:
        chip = _chip(text, max(SMALLEST_FONT_PX, int(font_px * width / chip.size_px[0])), stripe)
    return Chip(chip.keep[:height, :width], chip.add[:height, :width])


def _chip(text: str, font_px: int, stripe: Color | None) -> Chip:
    stripe_px = 0 if stripe is None else max(2, font_px // 4)
    ink = _ink(text, font_px, stripe_px)
    shape = _rounded_mask(ink.shape[1], ink.shape[0], max(2, font_px // 4))
    opacity = _OPACITY * shape
    add = opacity[..., None] * np.array(_GROUND, np.float32)
    words = np.array(_GREY if stripe is None else (255, 255, 255), np.float32)
    add += ink[..., None] * (words - add)
    keep = ((1 - opacity) * (1 - ink))[..., None]
    if stripe is not None:
        add[:, :stripe_px] = shape[:, :stripe_px, None] * np.array(stripe, np.float32)
        keep[:, :stripe_px] = 1 - shape[:, :stripe_px, None]
    add += 0.5  # so that cutting the fraction off rounds
    return Chip(np.repeat(keep, 3, axis=2), np.minimum(add, 255))


def _ink(text: str, font_px: int, stripe_px: int) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: how much text covers each pixel of a chip with its margins."""
    font = _font(font_px)
    left, top, right, _ = font.getbbox(text)
    # The height is that of a line, not of this text, so that labels beside each other stand level.
    ascent, descent = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (font_px, 0)
    margin_px = max(2, font_px // 3)
    size = int(right - left) + 2 * margin_px + stripe_px, ascent + descent + margin_px
    image = Image.new("L", size, 0)
    at = (margin_px + stripe_px - left, margin_px // 2 - min(0, top))
    ImageDraw.Draw(image).text(at, text, fill=255, font=font)
    covered: NDArray[np.float32] = np.asarray(image, np.float32) / np.float32(255)
    return covered


def _rounded_mask(width: int, height: int, radius: int) -> NDArray[np.float32]:
    """(H, W) 1 inside of rounded corners, 0 outside."""
    image = Image.new("L", (4 * width, 4 * height), 0)
    ImageDraw.Draw(image).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), 4 * radius, fill=255)
    image = image.resize((width, height), Image.Resampling.BOX)
    covered: NDArray[np.float32] = np.asarray(image, np.float32) / np.float32(255)
    return covered


@lru_cache(maxsize=32)
def _font(font_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(font_px)


FORGET_AFTER_S = 1.0
"""A label that was absent for so long may return anywhere; so may all after a jump in time."""
_FACE = 0.25
"""Height of a face, as a fraction of the human box from its top."""
_OVER_LABEL, _OVER_FACE, _OVER_OTHERS, _OVER_OWN_OBJECT, _OVER_OWN_BODY = 20.0, 6.0, 2.0, 1.5, 0.5
"""Costs of covering something with the whole label."""
_LATER_SLOT, _FAR = 0.03, 0.1
"""Costs of a less usual place, and of being a label's height away from the person."""
_STAY = 0.6
"""Advantage in cost that another place must have before a label leaves its own."""
_SLACK = 0.2
"""Distance in label heights that a label may have from its place before it moves."""
_GLIDE_HALF_S = 0.05
"""Seconds in which a label covers half of its remaining distance."""


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
    """Identity; remembered places belong to it."""
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
        """Place of each label, in whole pixels. Labels overlap only where there is no other place.

        Args:
            people: in order of precedence.
            pts_s: time of the frame; a step back or a long one forward forgets all places.
            taken: areas that no label should cover.
        """
        step_s = pts_s - self._pts_s
        if not 0 <= step_s <= FORGET_AFTER_S:
            self._places.clear()
            step_s = 0.0
        self._pts_s = pts_s
        glide = 1 - 2 ** (-step_s / _GLIDE_HALF_S)
        self._places = {human: place for human, place in self._places.items() if pts_s - place.pts_s <= FORGET_AFTER_S}
        placed = list(taken)
        for person in people:
            placed.append(self._place(person, people, placed, glide))
        return placed[len(taken) :]

    def _place(self, person: Labelled, people: Sequence[Labelled], taken: Sequence[Rect], glide: float) -> Rect:
        width, height = person.size_px
        candidates = np.array(self._candidates(person.box, width, height), np.float64)
        inside = np.clip(candidates, 0, (max(0, self.width_px - width), max(0, self.height_px - height)))
        cost = _obstructed(inside, person, people, taken)
        cost += _LATER_SLOT * np.arange(len(candidates)) + _FAR * np.abs(inside - candidates).sum(axis=1) / height
        before = self._places.get(person.human)
        if before is not None:
            cost[before.slot] -= _STAY
        slot = int(cost.argmin())
        goal_x, goal_y = inside[slot].tolist()
        x, y = goal_x, goal_y
        if before is not None:
            x = _glide_towards(before.x, goal_x, _SLACK * height, glide)
            y = _glide_towards(before.y, goal_y, _SLACK * height, glide)
            x, y = max(0.0, min(x, self.width_px - width)), max(0.0, min(y, self.height_px - height))
            if any(_rect(x, y, width, height).overlaps(other) for other in taken):
                x, y = goal_x, goal_y
        self._places[person.human] = _Place(slot, x, y, self._pts_s)
        return _rect(x, y, width, height)

    def _candidates(self, box: Rect, width: int, height: int) -> list[tuple[float, float]]:
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
    """(K,) cost of covering labels, faces and boxes at these places."""
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
    # A small label may be covered entirely by a small corner of this one.
    labels = covered[:, : len(taken)]
    labels[labels > 0] = 0.5 + 0.5 * labels[labels > 0]
    cost: F64 = covered @ weights
    return cost


def _face(box: Rect) -> Rect:
    return box._replace(y2=box.y1 + _FACE * (box.y2 - box.y1))


def _glide_towards(at: float, goal: float, slack_px: float, glide: float) -> float:
    """New position: unmoved within the slack, outside of it moved by this fraction of the way."""
    beyond = abs(goal - at) - slack_px
    return at if beyond <= 0 else at + glide * (beyond if goal > at else -beyond)


def _rect(x: float, y: float, width: int, height: int) -> Rect:
    left, top = round(x), round(y)
    return Rect(left, top, left + width, top + height)
