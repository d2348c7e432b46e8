"""Draws tracked pairs into a picture: both boxes (the human's is thicker), an arrow between them, and the verbs.

Only drawing; which pairs and verbs count was decided by the tracker. All sizes follow the picture's short side.
"""

from __future__ import annotations

import colorsys
import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import Bool, TrackedPairs
from hoiclip_engine.sinks.label_layout import LabelLayout, Rect

RGB = NDArray[np.uint8]
Color = tuple[int, int, int]

MAX_VERBS = 3
"""More verbs than this are told as "+2"; a label is read at a glance or not at all."""
MIN_FONT_PX = 12
MIN_SHOWN = 0.3
"""Of its best verb, for a pair that does nothing. A model proposes dozens of pairs of the same few things."""
NOTICE_COLOR = (255, 220, 60)
_GOLDEN_RATIO = 0.6180339887498949


class Annotator:
    """Draws the pairs of one vocabulary.

    A notice, such as that the model is untrained, stands at the foot of every picture.
    """

    def __init__(self, vocabulary: Vocabulary, notice: str = "") -> None:
        self._vocabulary = vocabulary
        self._notice = notice

    def draw(self, frame: Frame, pairs: TrackedPairs) -> RGB:
        """A picture of the frame's size with the pairs drawn in; the frame stays as it is.

        Pairs without an active verb keep thin boxes, so that a viewer sees whom the tracker follows; those of which
        hardly any verb is believed, "no interaction" included, are left out.
        """
        pairs = pairs.rows(pairs.verb_active.any(axis=1) | (pairs.verb_scores.max(axis=1, initial=0) >= MIN_SHOWN))
        rgb = np.array(frame.rgb, order="C")
        short_px = min(frame.width_px, frame.height_px)
        thick_px = max(2, round(short_px / 270))
        thin_px = max(1, thick_px // 3)
        humans = _visible(pairs.human_boxes_xyxy, frame)
        objects = [
            box if has_object else None
            for box, has_object in zip(_visible(pairs.object_boxes_xyxy, frame), pairs.object >= 0, strict=True)
        ]
        colors = [pair_color(int(pair)) for pair in pairs.pair]
        active: list[bool] = np.any(pairs.verb_active, axis=1, keepdims=True)[:, 0].tolist()
        for row in np.argsort(active, kind="stable"):  # what is going on lies over what is not
            _draw_pair(
                rgb, [humans[row], objects[row]], colors[row], thick_px if active[row] else thin_px, joined=active[row]
            )
        layout = LabelLayout(frame.width_px, frame.height_px)
        font_px = max(MIN_FONT_PX, round(short_px / 30))
        for row in np.argsort(-pairs.score, kind="stable"):
            if active[row]:
                anchors = [box for box in (humans[row], objects[row]) if box is not None]
                _draw_label(rgb, self.text(pairs, int(row)), anchors, layout, font_px, colors[row])
        if self._notice:
            foot = Rect(0, frame.height_px - 1, 0, frame.height_px - 1)
            _draw_label(rgb, self._notice, [foot], LabelLayout(frame.width_px, frame.height_px), font_px, NOTICE_COLOR)
        return rgb

    def text(self, pairs: TrackedPairs, row: int) -> str:
        """What a pair is doing, as in "ride, sit on bicycle 0.88"; the score is that of the first verb."""
        verbs = np.flatnonzero(pairs.verb_active[row])
        verbs = verbs[np.argsort(-pairs.verb_scores[row, verbs], kind="stable")]
        names = [self._vocabulary.verb_name(int(verb)) for verb in verbs[:MAX_VERBS]]
        words = [", ".join(names)]
        if len(verbs) > MAX_VERBS:
            words.append(f"+{len(verbs) - MAX_VERBS}")
        words.append(self._vocabulary.object_name(int(pairs.label[row])))
        words.append(f"{pairs.verb_scores[row, verbs[0]]:.2f}" if len(verbs) else "")
        return " ".join(word for word in words if word)


@lru_cache(maxsize=4096)
def pair_color(pair: int) -> Color:
    """The same bright colour for the same pair, far from those of the pairs before and after."""
    hue = pair * _GOLDEN_RATIO % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _visible(boxes_xyxy: NDArray[np.float32], frame: Frame) -> list[Rect | None]:
    """Boxes clipped to the picture; None where nothing of a box lies in it or where it is not a box."""
    limits = np.array([frame.width_px - 1, frame.height_px - 1] * 2, np.float64)
    finite: Bool = np.all(np.isfinite(boxes_xyxy), axis=1, keepdims=True)
    boxes = np.where(finite, boxes_xyxy, 0).astype(np.float64)
    clipped = np.clip(boxes, 0, limits).round().astype(int)
    x1, y1, x2, y2 = boxes.T
    inside = finite[:, 0] & (x1 <= limits[0]) & (y1 <= limits[1]) & (x2 >= 0) & (y2 >= 0) & (x2 >= x1) & (y2 >= y1)
    return [Rect(*map(int, box)) if seen else None for box, seen in zip(clipped, inside.tolist(), strict=True)]


def _draw_pair(rgb: RGB, boxes: list[Rect | None], color: Color, thick_px: int, *, joined: bool) -> None:
    human, thing = boxes
    for box, width_px in ((human, thick_px), (thing, max(1, thick_px // 2))):
        if box is not None:
            cv2.rectangle(rgb, (box.x1, box.y1), (box.x2, box.y2), color, width_px)
    if joined and human is not None and thing is not None:
        start, end = (((box.x1 + box.x2) // 2, (box.y1 + box.y2) // 2) for box in (human, thing))
        length_px = max(1.0, math.dist(start, end))
        cv2.arrowedLine(rgb, start, end, color, thick_px, cv2.LINE_AA, tipLength=min(0.5, 8 * thick_px / length_px))
        cv2.circle(rgb, start, 2 * thick_px, color, cv2.FILLED, cv2.LINE_AA)


def _draw_label(rgb: RGB, text: str, anchors: list[Rect], layout: LabelLayout, font_px: int, color: Color) -> None:
    if not anchors:
        return
    ink = label_ink(text, font_px)
    if ink.shape[1] > layout.width_px and font_px > MIN_FONT_PX // 2:
        smaller_px = max(MIN_FONT_PX // 2, int(font_px * layout.width_px / ink.shape[1]))
        ink = label_ink(text, smaller_px)
    ink = ink[: layout.height_px, : layout.width_px]
    place = layout.place(ink.shape[1], ink.shape[0], anchors)
    dark_text = np.dot(color, (0.299, 0.587, 0.114)) > 110
    ends = np.array((color, (0, 0, 0) if dark_text else (255, 255, 255)), np.float32)
    mixed = ends[0] + ink[..., None] * (ends[1] - ends[0])
    rgb[place.y1 : place.y2, place.x1 : place.x2] = mixed.round().astype(np.uint8)


@lru_cache(maxsize=512)
def label_ink(text: str, font_px: int) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: how much text covers each pixel of a label with its margin. Shared and read-only."""
    font = _font(font_px)
    left, top, right, _ = font.getbbox(text)
    # The height is that of a line, not of this text, so that labels beside each other stand level.
    ascent, descent = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (font_px, 0)
    margin_px = max(2, font_px // 5)
    size = int(right - left) + 2 * margin_px, ascent + descent + margin_px
    image = Image.new("L", size, 0)
    ImageDraw.Draw(image).text((margin_px - left, margin_px // 2 - min(0, top)), text, fill=255, font=font)
    ink: NDArray[np.float32] = np.asarray(image, np.float32) / np.float32(255)
    ink.flags.writeable = False
    return ink


@lru_cache(maxsize=32)
def _font(font_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(font_px)
