"""An image of a video's events over time: of each pair and verb what is true, and below it what was found."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw, ImageFont

from hoiclip.evaluation.video.event_fates import FALSE_EVENTS, VideoEvents
from hoiclip.evaluation.video.segments import Segment
from hoiclip.vocabulary import Vocabulary

MOST_LANES = 40
"""More than these are left out, and the image says how many."""
WIDTH_PX = 1100
_LABEL_PX, _RIGHT_PX, _LANE_PX, _BAR_PX, _TOP_PX, _FOOT_PX = 230, 24, 30, 10, 8, 26
_GREEN, _INK, _FAINT, _GRID = (60, 157, 90), (40, 40, 40), (120, 120, 116), (228, 228, 224)
_FOUND_COLOURS = {
    "right": (230, 150, 40),
    "wrong times": (244, 196, 120),
    "wrong verb": (200, 85, 61),
    "nothing there": (140, 140, 134),
}
_Bar = tuple[float, float, tuple[int, int, int]]
"""Start and end in seconds, colour."""


def timeline_png(events: VideoEvents, vocabulary: Vocabulary) -> bytes:
    """A PNG as wide as WIDTH_PX; colours as `timeline_key` says."""
    lanes = _lanes(events, vocabulary)
    left_out, lanes = max(0, len(lanes) - MOST_LANES), lanes[:MOST_LANES]
    height_px = _TOP_PX + max(1, len(lanes) + bool(left_out)) * _LANE_PX + _FOOT_PX
    image = Image.new("RGB", (WIDTH_PX, height_px), (255, 255, 255))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    span_s = max(events.end_s - events.start_s, 1e-6)

    def x_px(at_s: float) -> float:
        return _LABEL_PX + (WIDTH_PX - _LABEL_PX - _RIGHT_PX) * (at_s - events.start_s) / span_s

    bottom_px = height_px - _FOOT_PX
    for tick_s in _ticks_s(events.start_s, events.end_s):
        draw.line((x_px(tick_s), _TOP_PX, x_px(tick_s), bottom_px), fill=_GRID)
        draw.text((x_px(tick_s), bottom_px + 4), f"{tick_s:g} s", fill=_FAINT, font=font, anchor="ma")
    for number, (name, true, found) in enumerate(lanes):
        top_px = _TOP_PX + number * _LANE_PX
        draw.text((_LABEL_PX - 10, top_px + _LANE_PX // 2), _fitted(name, font), fill=_INK, font=font, anchor="rm")
        for row, bars in enumerate((true, found)):
            y_px = top_px + 4 + row * (_BAR_PX + 2)
            for start_s, end_s, colour in bars:
                right_px = max(x_px(end_s) - 1, x_px(start_s) + 1)
                draw.rectangle((x_px(start_s), y_px, right_px, y_px + _BAR_PX - 1), fill=colour)
    if left_out or not lanes:
        said = f"{left_out} more" if left_out else "no events"
        draw.text((_LABEL_PX - 10, bottom_px - _LANE_PX // 2), said, fill=_FAINT, font=font, anchor="rm")
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _lanes(events: VideoEvents, vocabulary: Vocabulary) -> list[tuple[str, list[_Bar], list[_Bar]]]:
    """Name, true bars and found bars of each pair and verb, true pairs first and in the order in which they begin."""
    true: dict[tuple[int, str], list[_Bar]] = {}
    found: dict[tuple[int, str], list[_Bar]] = {}
    order: dict[int, float] = {}
    for one in events.true:
        order.setdefault(one.pair, one.start_s)
        true.setdefault((one.pair, _name(one, vocabulary)), []).append((one.start_s, one.end_s, _GREEN))
    nowhere = max(order, default=0) + 1
    for one, kind, pair in zip(events.found, events.found_kind.tolist(), events.found_pair, strict=True):
        colour = _FOUND_COLOURS[FALSE_EVENTS[kind]]
        key = nowhere if pair is None else pair
        order.setdefault(key, math.inf if pair is None else one.start_s)
        found.setdefault((key, _name(one, vocabulary)), []).append((one.start_s, one.end_s, colour))
    keys = sorted({*true, *found}, key=lambda key: (order[key[0]], key not in true, key))
    return [
        (f"{name}  (no true pair)" if pair == nowhere else f"{name}  #{pair}", true.get((pair, name), []), bars)
        for pair, name in keys
        for bars in [found.get((pair, name), [])]
    ]


def _name(event: Segment, vocabulary: Vocabulary) -> str:
    return f"{vocabulary.verb_name(event.verb)} {vocabulary.object_name(event.label)}".strip()


def _fitted(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Short enough for its column."""
    shown = name
    while len(shown) > 1 and font.getlength(shown) > _LABEL_PX - 20:
        shown = f"{shown.rstrip('…')[:-1]}…"
    return shown


def _ticks_s(start_s: float, end_s: float) -> Iterable[float]:
    """Round times, about ten of them."""
    rough_s = max((end_s - start_s) / 10, 1e-3)
    scale = 10.0 ** math.floor(math.log10(rough_s))
    step_s = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= rough_s * 0.999)
    first = math.ceil(start_s / step_s - 1e-9)
    return [round(number * step_s, 6) for number in range(first, math.floor(end_s / step_s + 1e-9) + 1)]


def timeline_key() -> str:
    """HTML that says what the colours mean."""
    keys: Sequence[tuple[str, tuple[int, int, int]]] = [("true", _GREEN), *_FOUND_COLOURS.items()]
    return "".join(
        f'<span class=key><i class=dot style="background:rgb{colour}"></i>{name}</span>' for name, colour in keys
    )
