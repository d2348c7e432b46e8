"""Draws what people do into a frame: corners round each person, a thin box round each object, an arrow, one label.

Only what is going on is drawn; which pairs and verbs count was decided by the tracker. A colour belongs to a person.
All sizes follow the frame's short side. Words on dark chips are labels.py's business, their places label_layout.py's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hoiclip.vocabulary import NO_INTERACTION, Vocabulary
from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import F32, I64, Bool, TrackedPairs
from hoiclip_engine.sinks.label_layout import LabelLayout, Labelled, Rect
from hoiclip_engine.sinks.labels import RGB, Chip, Color, fitting_chip

MAX_VERBS = 3
"""More verbs of a person than this are counted, as in "+2"; a label is read at a glance or not at all."""
MIN_FONT_PX, MIN_LEGEND_FONT_PX = 12, 10
MIN_LEGEND_WIDTH_PX = 320
"""A narrower frame has no room for a legend."""
LEGEND = "a colour for each person, arrows to objects in use"
NOTICE_COLOR = (240, 228, 66)
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
    (204, 121, 167),
    (0, 158, 115),
    (213, 94, 0),
)
"""For all kinds of colour vision. Source: Okabe and Ito, without their black and their blue, dark on dark."""
_RIM = 0.4
"""Of a colour's brightness."""
_CHEST = 0.35
"""Where an arrow begins: from the top of a human box."""
_HEAD = 5.0
"""Length of an arrow's head in widths of its line."""
_SHIFT = 4
"""Binary digits after the point of drawn coordinates: boxes that move slowly do not jump from pixel to pixel."""
_TURN = np.linspace(0, math.pi / 2, 5)
_ARCS_XY = np.stack([np.stack([np.cos(_TURN + q), np.sin(_TURN + q)], axis=1) for q in np.arange(4) * math.pi / 2])
"""(4, 5, 2) quarter circles: bottom right, bottom left, top left, top right."""


@dataclass(frozen=True, slots=True)
class _Actor:
    """A person who does something, as far as the frame shows it."""

    human: int
    box: Rect | None
    objects: tuple[Rect, ...]
    text: str

    @property
    def color(self) -> Color:
        return person_color(self.human)


class Annotator:
    """Draws the frames of one video, in their order: labels stay in their places from frame to frame.

    A notice, such as that the model is untrained, stands at the foot of every frame; with the name of a model, a legend
    with name and time stands at the top.
    """

    def __init__(self, vocabulary: Vocabulary, notice: str = "", model: str = "") -> None:
        self._vocabulary = vocabulary
        self._notice = notice
        self._model = model
        self._something = np.array([verb != NO_INTERACTION for verb in vocabulary.verbs], np.bool_)
        self._layout = LabelLayout(0, 0)

    def draw(self, frame: Frame, pairs: TrackedPairs) -> RGB:
        """An image of the frame's size with its interactions drawn in; the frame stays as it is.

        Pairs of which no verb is active, or "no interaction" alone, are not drawn.
        """
        if (self._layout.width_px, self._layout.height_px) != (frame.width_px, frame.height_px):
            self._layout = LabelLayout(frame.width_px, frame.height_px)
        rgb = np.array(frame.rgb, order="C")
        actors = self._actors(frame, pairs)
        short_px = min(frame.width_px, frame.height_px)
        thin_px = max(1, round(short_px / 300))
        for actor in actors:
            _draw_objects(rgb, actor, thin_px)
        for actor in actors:
            if actor.box is not None:
                _draw_lines(rgb, _brackets(actor.box, 3 * thin_px), actor.color, thin_px + 1, closed=False)
        frame_chips = self._frame_chips(frame)
        for chip, place in frame_chips:
            chip.paint(rgb, place)
        self._draw_labels(rgb, actors, frame, [place for _, place in frame_chips])
        return rgb

    def text(self, pairs: TrackedPairs, rows: I64) -> str:
        """What a person is doing in these pairs, as in "hold cup, sit on chair"; in the same order in every frame."""
        words, left_out, room = [], 0, MAX_VERBS
        for row in rows[np.argsort(pairs.pair[rows], kind="stable")].tolist():
            verbs = np.flatnonzero(pairs.verb_active[row] & self._something).tolist()
            names = [self._vocabulary.verb_name(verb) for verb in verbs[:room]]
            room, left_out = room - len(names), left_out + len(verbs) - len(names)
            if names:
                name = self._vocabulary.object_name(int(pairs.label[row]))
                words.append(f"{', '.join(names)} {name}".strip())
        words = list(dict.fromkeys(words))  # two objects of a kind, or one that was found twice
        return ", ".join(words) + (f" +{left_out}" if left_out else "")

    def _actors(self, frame: Frame, pairs: TrackedPairs) -> list[_Actor]:
        """By identity, those who are partly in the frame or whose objects are."""
        going_on: Bool = np.any(pairs.verb_active & self._something, axis=1, keepdims=True)
        pairs = pairs.rows(going_on[:, 0])
        people = _visible(pairs.human_boxes_xyxy, frame)
        objects = _visible(pairs.object_boxes_xyxy, frame)
        actors = []
        for human in np.unique(pairs.human).tolist():
            rows = np.flatnonzero(pairs.human == human)
            box = people[rows[pairs.score[rows].argmax()]]
            things = tuple(rect for row in rows if pairs.object[row] >= 0 and (rect := objects[row]) is not None)
            if box is not None or things:
                actors.append(_Actor(human, box, things, f"{human}: {self.text(pairs, rows)}"))
        return actors

    def _draw_labels(self, rgb: RGB, actors: Sequence[_Actor], frame: Frame, taken: Sequence[Rect]) -> None:
        font_px = max(MIN_FONT_PX, round(min(frame.width_px, frame.height_px) / 30))
        size_px = frame.width_px, frame.height_px
        chips = [fitting_chip(actor.text, font_px, actor.color, size_px) for actor in actors]
        labelled = [
            Labelled(human=actor.human, size_px=chip.size_px, box=actor.box or actor.objects[0], objects=actor.objects)
            for actor, chip in zip(actors, chips, strict=True)
        ]
        places = self._layout.place(labelled, frame.pts_s, taken)
        for chip, place in zip(chips, places, strict=True):
            chip.paint(rgb, place)

    def _frame_chips(self, frame: Frame) -> list[tuple[Chip, Rect]]:
        """Legend, time and notice, at the edges of the frame."""
        width, height = frame.width_px, frame.height_px
        font_px = max(MIN_LEGEND_FONT_PX, round(min(width, height) / 42))
        chips = []
        if self._model and width >= MIN_LEGEND_WIDTH_PX:
            clock = fitting_chip(_clock(frame.pts_s), font_px, None, (width, height))
            chips.append((clock, _at(width - clock.size_px[0], 0, clock)))
            for words in (f"{self._model}: {LEGEND}", self._model):
                legend = fitting_chip(words, font_px, None, (width, height))
                if legend.size_px[0] + clock.size_px[0] < width:
                    chips.append((legend, _at(0, 0, legend)))
                    break
        if self._notice:
            notice = fitting_chip(self._notice, font_px, NOTICE_COLOR, (width, height))
            chips.append((notice, _at(0, height - notice.size_px[1], notice)))
        return chips


def person_color(human: int) -> Color:
    """The same for the same person, in every output; another for the next one."""
    return PALETTE[human % len(PALETTE)]


def _visible(boxes_xyxy: F32, frame: Frame) -> list[Rect | None]:
    """Boxes clipped to the frame; None where nothing of a box lies in it or where it is not a box."""
    limits = np.array([frame.width_px - 1, frame.height_px - 1] * 2, np.float64)
    finite: Bool = np.all(np.isfinite(boxes_xyxy), axis=1, keepdims=True)
    boxes = np.where(finite, boxes_xyxy, 0).astype(np.float64)
    clipped = np.clip(boxes, 0, limits)
    x1, y1, x2, y2 = boxes.T
    inside = finite[:, 0] & (x1 <= limits[0]) & (y1 <= limits[1]) & (x2 >= 0) & (y2 >= 0) & (x2 >= x1) & (y2 >= y1)
    return [Rect(*box) if seen else None for box, seen in zip(clipped.tolist(), inside.tolist(), strict=True)]


def _draw_objects(rgb: RGB, actor: _Actor, thin_px: int) -> None:
    """Thin boxes, and an arrow from the chest to each."""
    for thing in actor.objects:
        _draw_lines(rgb, _rounded(thing, 3 * thin_px).reshape(1, -1, 2), actor.color, thin_px, closed=True)
        if actor.box is not None:
            start = _chest(actor.box)
            _draw_arrow(rgb, start, _target(start, thing, 3 * _HEAD * thin_px), actor.color, thin_px)


def _draw_lines(rgb: RGB, lines_xy: NDArray[np.float64], color: Color, width_px: int, *, closed: bool) -> None:
    """(L, N, 2) lines with a dark rim, which keeps them visible on any background."""
    fixed = np.rint(lines_xy * (1 << _SHIFT)).astype(np.int32)
    # Smooth edges of the rim would cost as much as all the rest and can hardly be seen.
    rim = tuple(round(_RIM * channel) for channel in color)
    for ink, width, edge in ((rim, width_px + 2, cv2.LINE_8), (color, width_px, cv2.LINE_AA)):
        cv2.polylines(rgb, list(fixed), closed, ink, width, edge, _SHIFT)


def _draw_arrow(rgb: RGB, start: tuple[float, float], end: tuple[float, float], color: Color, thin_px: int) -> None:
    length_px, head_px = math.dist(start, end), 2 + _HEAD * thin_px
    if length_px < head_px:
        return
    across, down = ((b - a) / length_px for a, b in zip(start, end, strict=True))
    base = end[0] - head_px * across, end[1] - head_px * down
    side = 0.5 * head_px
    wings = [(base[0] - turn * side * down, base[1] + turn * side * across) for turn in (1, -1)]
    head = np.array([end, *wings])
    _draw_lines(rgb, np.array([[start, base]]), color, thin_px, closed=False)
    cv2.fillConvexPoly(rgb, np.rint(head * (1 << _SHIFT)).astype(np.int32), color, cv2.LINE_AA, _SHIFT)
    center = round(start[0] * (1 << _SHIFT)), round(start[1] * (1 << _SHIFT))
    cv2.circle(rgb, center, round(1.5 * thin_px * (1 << _SHIFT)), color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _chest(box: Rect) -> tuple[float, float]:
    return (box.x1 + box.x2) / 2, box.y1 + _CHEST * (box.y2 - box.y1)


def _target(start: tuple[float, float], thing: Rect, shortest_px: float) -> tuple[float, float]:
    """Where the way to the middle of the object meets its box; the middle itself, where that would be a short way."""
    middle = (thing.x1 + thing.x2) / 2, (thing.y1 + thing.y2) / 2
    way = start[0] - middle[0], start[1] - middle[1]
    outside = max(2 * abs(way[0]) / max(thing.x2 - thing.x1, 1.0), 2 * abs(way[1]) / max(thing.y2 - thing.y1, 1.0))
    if math.hypot(*way) * (1 - 1 / max(outside, 1.0)) < shortest_px:
        return middle
    return middle[0] + way[0] / outside, middle[1] + way[1] / outside


def _rounded(box: Rect, radius_px: float) -> NDArray[np.float64]:
    """(4, 5, 2) the corners of a box, clockwise from the bottom right."""
    radius = min(radius_px, (box.x2 - box.x1) / 2, (box.y2 - box.y1) / 2)
    left, right, top, bottom = box.x1 + radius, box.x2 - radius, box.y1 + radius, box.y2 - radius
    centers = np.array([(right, bottom), (left, bottom), (left, top), (right, top)])
    return np.asarray(centers[:, None] + radius * _ARCS_XY)


def _brackets(box: Rect, radius_px: float) -> NDArray[np.float64]:
    """(4, 7, 2) the corners with an arm along each side."""
    corners = _rounded(box, radius_px)
    arm_x, arm_y = min(0.25 * (box.x2 - box.x1), 8 * radius_px), min(0.25 * (box.y2 - box.y1), 8 * radius_px)
    before = np.array([(0.0, -arm_y), (arm_x, 0.0), (0.0, arm_y), (-arm_x, 0.0)])
    after = np.array([(-arm_x, 0.0), (0.0, -arm_y), (arm_x, 0.0), (0.0, arm_y)])
    return np.concatenate((corners[:, :1] + before[:, None], corners, corners[:, -1:] + after[:, None]), axis=1)


def _at(x: int, y: int, chip: Chip) -> Rect:
    return Rect(x, y, x + chip.size_px[0], y + chip.size_px[1])


def _clock(pts_s: float) -> str:
    """m:ss.t, as players show it, with hours where there are any."""
    if not math.isfinite(pts_s):
        return "-"
    tenths = round(abs(pts_s) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{'-' if pts_s < 0 and tenths else ''}{shown}:{rest // 10:02d}.{rest % 10}"
