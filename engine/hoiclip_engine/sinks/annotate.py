"""Draws interactions into a frame: corners round each person, a thin box round each object, an arrow, one label.

Only active verbs are drawn; which pairs and verbs are active was decided by the tracker. A colour belongs to a person.
All sizes follow the frame's short side. labels.py draws labels and places them.
FramePainter also fits frames of other sizes into that of a video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F32, I64, RGB, Bool
from hoiclip.core.vocabulary import NO_INTERACTION, Vocabulary
from hoiclip_engine.sinks.labels import Chip, Color, LabelLayout, Labelled, Rect, fitting_chip
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult, RunHeader
from hoiclip_engine.types.rule_hits import RuleShape
from hoiclip_engine.types.tracked_pairs import TrackedPairs

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
SHAPE_COLOR, HOLDING_COLOR = (230, 230, 234), (255, 92, 92)
"""Zones and lines of rules, and of those that hold: also thicker, for those who see no red."""
_WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_RIM = 0.4
"""Brightness of a rim, as a fraction of the colour's."""
_CHEST = 0.35
"""Start of an arrow, from the top of a human box as a fraction of its height."""
_HEAD = 5.0
"""Length of an arrow's head in widths of its line."""
_SHIFT = 4
"""Binary digits after the point of drawn coordinates: boxes that move slowly do not jump from pixel to pixel."""
_TURN = np.linspace(0, math.pi / 2, 5)
_ARCS_XY = np.stack([np.stack([np.cos(_TURN + q), np.sin(_TURN + q)], axis=1) for q in np.arange(4) * math.pi / 2])
"""(4, 5, 2) quarter circles: bottom right, bottom left, top left, top right."""


@dataclass(frozen=True, slots=True)
class _Actor:
    """A person with an active verb, as far as the frame shows them."""

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
        self._is_interaction = np.array([verb != NO_INTERACTION for verb in vocabulary.verbs], np.bool_)
        self._layout = LabelLayout(0, 0)

    def draw(self, frame: Frame, pairs: TrackedPairs, shapes: Sequence[RuleShape] = ()) -> RGB:
        """Copy of a frame's image with its interactions, and zones and lines of rules, drawn in.

        Pairs of which no verb is active, or "no interaction" alone, are not drawn.
        """
        if (self._layout.width_px, self._layout.height_px) != (frame.width_px, frame.height_px):
            self._layout = LabelLayout(frame.width_px, frame.height_px)
        rgb = frame.new_rgb()
        actors = self._actors(frame, pairs)
        short_px = min(frame.width_px, frame.height_px)
        thin_px = max(1, round(short_px / 300))
        for shape in shapes:
            _draw_shape(rgb, shape, thin_px)
        for actor in actors:
            _draw_objects(rgb, actor, thin_px)
        for actor in actors:
            if actor.box is not None:
                _draw_lines(rgb, _brackets(actor.box, 3 * thin_px), actor.color, thin_px + 1, closed=False)
        frame_chips = [*self._frame_chips(frame), *_shape_chips(shapes, frame)]
        for chip, place in frame_chips:
            chip.paint(rgb, place)
        self._draw_labels(rgb, actors, frame, [place for _, place in frame_chips])
        return rgb

    def text(self, pairs: TrackedPairs, rows: I64) -> str:
        """Active verbs and objects of these pairs, as in "hold cup, sit on chair"; in the same order in every frame."""
        words, left_out, room = [], 0, MAX_VERBS
        for row in rows[np.argsort(pairs.pair[rows], kind="stable")].tolist():
            verbs = np.flatnonzero(pairs.verb_active[row] & self._is_interaction).tolist()
            names = [self._vocabulary.verb_name(verb) for verb in verbs[:room]]
            room, left_out = room - len(names), left_out + len(verbs) - len(names)
            if names:
                name = self._vocabulary.object_name(int(pairs.label[row]))
                words.append(f"{', '.join(names)} {name}".strip())
        words = list(dict.fromkeys(words))  # two objects of a kind, or one that was detected twice
        return ", ".join(words) + (f" +{left_out}" if left_out else "")

    def _actors(self, frame: Frame, pairs: TrackedPairs) -> list[_Actor]:
        """Actors by identity, if they or their objects are at least partly in the frame."""
        active: Bool = np.any(pairs.verb_active & self._is_interaction, axis=1, keepdims=True)
        pairs = pairs.rows(active[:, 0])
        people = _visible(pairs.human_boxes_xyxy, frame)
        objects = _visible(pairs.object_boxes_xyxy, frame)
        actors = []
        for human in np.unique(pairs.human).tolist():
            rows = np.flatnonzero(pairs.human == human)
            box = people[rows[pairs.score[rows].argmax()]]
            used_objects = tuple(rect for row in rows if pairs.object[row] >= 0 and (rect := objects[row]) is not None)
            if box is not None or used_objects:
                actors.append(_Actor(human, box, used_objects, f"{human}: {self.text(pairs, rows)}"))
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


def _shape_chips(shapes: Sequence[RuleShape], frame: Frame) -> list[tuple[Chip, Rect]]:
    """Names of rules, each at the highest corner of its zone or line, inside the frame."""
    size_px = frame.width_px, frame.height_px
    font_px = max(MIN_LEGEND_FONT_PX, round(min(size_px) / 42))
    chips = []
    for shape in shapes:
        chip = fitting_chip(shape.rule, font_px, HOLDING_COLOR if shape.holds else None, size_px)
        x, y = min(shape.points_xy, key=lambda point: (point[1], point[0]))
        left, top = (
            int(min(max(at, 0), whole - own)) for at, whole, own in zip((x, y), size_px, chip.size_px, strict=True)
        )
        chips.append((chip, _at(left, top, chip)))
    return chips


def _draw_shape(rgb: RGB, shape: RuleShape, thin_px: int) -> None:
    """A zone or line of a rule, with an arrow in the direction that counts; thicker while the rule holds."""
    color, width_px = (HOLDING_COLOR, thin_px + 1) if shape.holds else (SHAPE_COLOR, thin_px)
    points = np.array([shape.points_xy], np.float64)
    _draw_lines(rgb, points, color, width_px, closed=not shape.direction)
    if shape.direction in _WAYS:
        x, y = points[0].mean(axis=0).tolist()
        across, down = _WAYS[shape.direction]
        length_px = 4 * _HEAD * thin_px
        _draw_arrow(rgb, (x, y), (x + length_px * across, y + length_px * down), color, width_px)


def person_color(human: int) -> Color:
    """Colour of a person, the same in every output; the next person has another."""
    return PALETTE[human % len(PALETTE)]


def _visible(boxes_xyxy: F32, frame: Frame) -> list[Rect | None]:
    """Boxes clipped to the frame; None where nothing of a box lies in it or where it is not a box."""
    limits = np.array([frame.width_px - 1, frame.height_px - 1] * 2, np.float64)
    finite: Bool = np.all(np.isfinite(boxes_xyxy), axis=1, keepdims=True)
    boxes = np.where(finite, boxes_xyxy, 0).astype(np.float64)
    clipped = np.clip(boxes, 0, limits)
    x1, y1, x2, y2 = boxes.T
    inside = finite[:, 0] & (x1 <= limits[0]) & (y1 <= limits[1]) & (x2 >= 0) & (y2 >= 0) & (x2 >= x1) & (y2 >= y1)
    return [Rect(*box) if visible else None for box, visible in zip(clipped.tolist(), inside.tolist(), strict=True)]


def _draw_objects(rgb: RGB, actor: _Actor, thin_px: int) -> None:
    """Thin boxes, and an arrow from the chest to each."""
    for box in actor.objects:
        _draw_lines(rgb, _rounded(box, 3 * thin_px).reshape(1, -1, 2), actor.color, thin_px, closed=True)
        if actor.box is not None:
            start = _chest(actor.box)
            _draw_arrow(rgb, start, _target(start, box, 3 * _HEAD * thin_px), actor.color, thin_px)


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


def _target(start: tuple[float, float], box: Rect, shortest_px: float) -> tuple[float, float]:
    """Point where the line to the middle of an object meets its box; the middle itself if the line is too short."""
    middle = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    way = start[0] - middle[0], start[1] - middle[1]
    outside = max(2 * abs(way[0]) / max(box.x2 - box.x1, 1.0), 2 * abs(way[1]) / max(box.y2 - box.y1, 1.0))
    if math.hypot(*way) * (1 - 1 / max(outside, 1.0)) < shortest_px:
        return middle
    return middle[0] + way[0] / outside, middle[1] + way[1] / outside


def _rounded(box: Rect, radius_px: float) -> NDArray[np.float64]:
    """(4, 5, 2) corners of a box, clockwise from the bottom right."""
    radius = min(radius_px, (box.x2 - box.x1) / 2, (box.y2 - box.y1) / 2)
    left, right, top, bottom = box.x1 + radius, box.x2 - radius, box.y1 + radius, box.y2 - radius
    centers = np.array([(right, bottom), (left, bottom), (left, top), (right, top)])
    return np.asarray(centers[:, None] + radius * _ARCS_XY)


def _brackets(box: Rect, radius_px: float) -> NDArray[np.float64]:
    """(4, 7, 2) corners with an arm along each side."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """Scale and shift from pixels of a frame to pixels of the output."""

    width_px: int
    height_px: int
    left_px: int
    top_px: int
    scale_x: float
    scale_y: float

    def frame(self, frame: Frame, output_width_px: int, output_height_px: int) -> Frame:
        """The frame in the middle of a black image of the output's size."""
        smaller = self.width_px < frame.width_px
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        output: NDArray[np.uint8] = np.zeros((output_height_px, output_width_px, 3), np.uint8)
        rows = slice(self.top_px, self.top_px + self.height_px)
        columns = slice(self.left_px, self.left_px + self.width_px)
        output[rows, columns] = cv2.resize(frame.rgb, (self.width_px, self.height_px), interpolation=how)
        return Frame(output, frame.pts_s, frame.index)

    def pairs(self, pairs: TrackedPairs) -> TrackedPairs:
        """The same pairs in pixels of the output."""
        return replace(
            pairs,
            human_boxes_xyxy=self._boxes(pairs.human_boxes_xyxy),
            object_boxes_xyxy=self._boxes(pairs.object_boxes_xyxy),
        )

    def shapes(self, shapes: Sequence[RuleShape]) -> tuple[RuleShape, ...]:
        """The same zones and lines in pixels of the output."""
        return tuple(
            replace(
                shape,
                points_xy=tuple((x * self.scale_x + self.left_px, y * self.scale_y + self.top_px) for x, y in points),
            )
            for shape in shapes
            for points in (shape.points_xy,)
        )

    def _boxes(self, boxes_xyxy: F32) -> F32:
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        shift = np.array([self.left_px, self.top_px] * 2, np.float32)
        return boxes_xyxy * scale + shift


def letterbox(width_px: int, height_px: int, output_width_px: int, output_height_px: int) -> Letterbox:
    """Letterbox as big as fits, aspect kept, centred."""
    scale = min(output_width_px / width_px, output_height_px / height_px)
    inner_width_px = max(1, min(output_width_px, round(width_px * scale)))
    inner_height_px = max(1, min(output_height_px, round(height_px * scale)))
    return Letterbox(
        width_px=inner_width_px,
        height_px=inner_height_px,
        left_px=(output_width_px - inner_width_px) // 2,
        top_px=(output_height_px - inner_height_px) // 2,
        scale_x=inner_width_px / width_px,
        scale_y=inner_height_px / height_px,
    )


class FramePainter:
    """Paints the frames of one video."""

    def __init__(self, header: RunHeader, overlay: bool = True) -> None:
        """Args: overlay: whether pairs are drawn in."""
        self.size_px = header.width_px, header.height_px
        self._annotator = Annotator(header.vocabulary, header.notice, header.model) if overlay else None

    def paint(self, result: FrameResult) -> NDArray[np.uint8]:
        """(H, W, 3) image of the size the run began with."""
        frame, pairs, shapes = result.frame, result.pairs, result.rule_shapes
        if (frame.width_px, frame.height_px) != self.size_px:
            fit = letterbox(frame.width_px, frame.height_px, *self.size_px)
            frame, pairs, shapes = fit.frame(frame, *self.size_px), fit.pairs(pairs), fit.shapes(shapes)
        return frame.rgb if self._annotator is None else self._annotator.draw(frame, pairs, shapes)
