"""The HTML report of videos: numbers, fates of pairs and events, timelines as images, worst frames."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from hoiclip.core.array_types import I64
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.error_analysis.attributes import percentages
from hoiclip.evaluation.error_analysis.classify import FALSE_KINDS, FATES, FOUND
from hoiclip.evaluation.error_analysis.sections import bar, error_sections
from hoiclip.evaluation.page import facts_table, figure, html_page, html_table, text
from hoiclip.evaluation.report import COLOUR_KEY
from hoiclip.evaluation.video.errors import (
    EVENT_FATE_MEANINGS,
    EVENT_FATES,
    FOUND_EVENT_KINDS,
    FOUND_EVENT_MEANINGS,
    EventErrors,
    VideoErrors,
)
from hoiclip.evaluation.video.frames import VerbSegment


def video_page(
    title: str,
    facts: Sequence[tuple[str, str]],
    summary: Mapping[str, Mapping[str, str]],
    errors: VideoErrors,
    timelines: Mapping[int, bytes],
    frames: Sequence[str],
) -> str:
    """Renders the page.

    Args:
        summary: subject to numbers, with their units.
        timelines: PNG by video, the worst first.
        frames: HTML of the worst frames.
    """
    numbers = (
        f"<div><h2>{text(subject)}</h2>{html_table(('', ''), [(text(a), text(b)) for a, b in values.items()])}</div>"
        for subject, values in summary.items()
    )
    figures = [figure(png, "png", f"events of {errors.events[i].name}", text(errors.events[i].name))
             for i, png in timelines.items()]  # fmt: skip
    shown = f"{COLOUR_KEY}<div class=images>{''.join(frames)}</div>" if frames else "<p class=no>None to show.</p>"
    return html_page(
        title,
        [
            facts_table(facts),
            f"<div class=tops>{''.join(numbers)}</div>",
            "<h2 id=events>Fates of events</h2>",
            _event_table("ground-truth event", EVENT_FATES, EVENT_FATE_MEANINGS, errors.event_counts),
            "<p></p>",
            _event_table("found event", FOUND_EVENT_KINDS, FOUND_EVENT_MEANINGS, errors.found_event_counts),
            "<h2 id=videos>Videos, the worst first</h2>",
            _video_table(errors),
            "<h2 id=timelines>Timelines of the worst videos</h2>",
            f"<p>Upper bars: the ground truth. Lower bars: found events of that pair. {timeline_key()}</p>",
            *figures,
            *error_sections(errors.frames),
            "<h2 id=frames>Worst frames</h2>",
            shown,
        ],
    )


def _event_table(name: str, kinds: Sequence[str], meanings: Mapping[str, str], counts: I64) -> str:
    total = counts.reshape(-1, len(kinds)).sum(axis=0)
    rows = zip(kinds, total.tolist(), percentages(total), strict=True)
    return html_table(
        (name, "", "count", "%"),
        [(text(kind), text(meanings[kind]), str(count), f"{value:.1f}") for kind, count, value in rows],
        texts=2,
    )


def _video_table(errors: VideoErrors) -> str:
    rows = []
    events, found_events = errors.event_counts, errors.found_event_counts
    for video in errors.worst_first:
        fates, false = errors.frame_counts(video)
        total, found = int(fates.sum()), int(fates[FATES.index(FOUND)])
        rows.append(
            (
                text(errors.events[video].name),
                str(int((errors.video_of_frame == video).sum())),
                str(total),
                f"{100 * found / total:.1f}" if total else "–",
                bar(FATES, fates),
                bar(FALSE_KINDS, false),
                f"{events[video][0]} of {events[video].sum()}",
                f"{found_events[video][0]} of {found_events[video].sum()}",
            )
        )
    head = (
        "video",
        "frames",
        "ground truth",
        "found %",
        "fates",
        "false positives",
        "events found",
        "found events right",
    )
    return html_table(head, rows)


MAX_ROWS = 40
"""Rows beyond these are left out, and the image shows their number."""
WIDTH_PX = 1100
_LABEL_PX, _RIGHT_PX, _ROW_PX, _BAR_PX, _TOP_PX, _FOOT_PX = 230, 24, 30, 10, 8, 26
_GREEN, _INK, _FAINT, _GRID = (60, 157, 90), (40, 40, 40), (120, 120, 116), (228, 228, 224)
_FOUND_COLOURS = {
    "right": (230, 150, 40),
    "wrong times": (244, 196, 120),
    "wrong verb": (200, 85, 61),
    "nothing there": (140, 140, 134),
}
_Bar = tuple[float, float, tuple[int, int, int]]
"""Start and end in seconds, colour."""


def timeline_png(events: EventErrors, vocabulary: Vocabulary) -> bytes:
    """Draws the events of a video over time as a PNG of WIDTH_PX: of each pair and verb ground truth above results.

    Colours: `timeline_key`.
    """
    rows = _timeline_rows(events, vocabulary)
    left_out, rows = max(0, len(rows) - MAX_ROWS), rows[:MAX_ROWS]
    height_px = _TOP_PX + max(1, len(rows) + bool(left_out)) * _ROW_PX + _FOOT_PX
    image = Image.new("RGB", (WIDTH_PX, height_px), (255, 255, 255))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    span_s = max(events.end_s - events.start_s, 1e-6)

    def x_px(at_s: float) -> float:
        return _LABEL_PX + (WIDTH_PX - _LABEL_PX - _RIGHT_PX) * (at_s - events.start_s) / span_s

    bottom_px = height_px - _FOOT_PX
    for tick_s in _ticks_s(events.start_s, events.end_s):
        draw.line((x_px(tick_s), _TOP_PX, x_px(tick_s), bottom_px), fill=_GRID)
        draw.text((x_px(tick_s), bottom_px + 4), f"{tick_s:g} s", fill=_FAINT, font=font, anchor="ma")
    for number, (name, gt, found) in enumerate(rows):
        top_px = _TOP_PX + number * _ROW_PX
        draw.text((_LABEL_PX - 10, top_px + _ROW_PX // 2), _shorten(name, font), fill=_INK, font=font, anchor="rm")
        for row, bars in enumerate((gt, found)):
            y_px = top_px + 4 + row * (_BAR_PX + 2)
            for start_s, end_s, colour in bars:
                right_px = max(x_px(end_s) - 1, x_px(start_s) + 1)
                draw.rectangle((x_px(start_s), y_px, right_px, y_px + _BAR_PX - 1), fill=colour)
    if left_out or not rows:
        note = f"{left_out} more" if left_out else "no events"
        draw.text((_LABEL_PX - 10, bottom_px - _ROW_PX // 2), note, fill=_FAINT, font=font, anchor="rm")
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _timeline_rows(events: EventErrors, vocabulary: Vocabulary) -> list[tuple[str, list[_Bar], list[_Bar]]]:
    """Name, ground-truth bars and found bars of each pair and verb; ground-truth pairs first, by their start."""
    gt: dict[tuple[int, str], list[_Bar]] = {}
    found: dict[tuple[int, str], list[_Bar]] = {}
    order: dict[int, float] = {}
    for event in events.gt:
        order.setdefault(event.pair, event.start_s)
        gt.setdefault((event.pair, _event_name(event, vocabulary)), []).append((event.start_s, event.end_s, _GREEN))
    nowhere = max(order, default=0) + 1
    for event, kind, pair in zip(events.found, events.found_kind.tolist(), events.found_pair, strict=True):
        colour = _FOUND_COLOURS[FOUND_EVENT_KINDS[kind]]
        key = nowhere if pair is None else pair
        order.setdefault(key, math.inf if pair is None else event.start_s)
        found.setdefault((key, _event_name(event, vocabulary)), []).append((event.start_s, event.end_s, colour))
    keys = sorted({*gt, *found}, key=lambda key: (order[key[0]], key not in gt, key))
    return [
        (f"{name}  (no ground-truth pair)" if pair == nowhere else f"{name}  #{pair}", gt.get((pair, name), []), bars)
        for pair, name in keys
        for bars in [found.get((pair, name), [])]
    ]


def _event_name(event: VerbSegment, vocabulary: Vocabulary) -> str:
    return f"{vocabulary.verb_name(event.verb)} {vocabulary.object_name(event.label)}".strip()


def _shorten(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shortens a name to its column."""
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
    """HTML legend of the colours."""
    keys: Sequence[tuple[str, tuple[int, int, int]]] = [("ground truth", _GREEN), *_FOUND_COLOURS.items()]
    return "".join(
        f'<span class=key><i class=dot style="background:rgb{colour}"></i>{name}</span>' for name, colour in keys
    )
