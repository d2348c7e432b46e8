"""One self-contained HTML page about videos: numbers, why pairs and events are missed, timelines, worst frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hoiclip.evaluation.analysis.kinds import FALSE_KINDS, FATES, FOUND
from hoiclip.evaluation.analysis.sections import bar, error_sections
from hoiclip.evaluation.analysis.tables import percentages
from hoiclip.evaluation.page import facts_table, figure, html_page, html_table, text
from hoiclip.evaluation.report import COLOUR_KEY
from hoiclip.evaluation.video.error_analysis import VideoErrors
from hoiclip.evaluation.video.event_fates import EVENT_FATES, EVENT_MEANINGS, FALSE_EVENT_MEANINGS, FALSE_EVENTS
from hoiclip.evaluation.video.moments import I64
from hoiclip.evaluation.video.timeline import timeline_key


def video_page(
    title: str,
    facts: Sequence[tuple[str, str]],
    summary: Mapping[str, Mapping[str, str]],
    errors: VideoErrors,
    timelines: Mapping[int, bytes],
    frames: Sequence[str],
) -> str:
    """
    Args:
        summary: subject to numbers, with their units.
        timelines: PNG by video, the worst first.
        frames: HTML of the worst frames.
    """
    numbers = (
        f"<div><h2>{text(subject)}</h2>{html_table(('', ''), [(text(a), text(b)) for a, b in values.items()])}</div>"
        for subject, values in summary.items()
    )
    drawn = [figure(png, "png", f"events of {errors.events[i].name}", text(errors.events[i].name))
             for i, png in timelines.items()]  # fmt: skip
    shown = f"{COLOUR_KEY}<div class=sheet>{''.join(frames)}</div>" if frames else "<p class=no>None to show.</p>"
    return html_page(
        title,
        [
            facts_table(facts),
            f"<div class=tops>{''.join(numbers)}</div>",
            "<h2 id=events>What became of events</h2>",
            _event_table("true event", EVENT_FATES, EVENT_MEANINGS, errors.event_counts),
            "<p></p>",
            _event_table("found event", FALSE_EVENTS, FALSE_EVENT_MEANINGS, errors.found_event_counts),
            "<h2 id=videos>Videos, the worst first</h2>",
            _video_table(errors),
            "<h2 id=timelines>Timelines of the worst videos</h2>",
            f"<p>Upper bars: the ground truth. Lower bars: what was found of that pair. {timeline_key()}</p>",
            *drawn,
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
    head = ("video", "frames", "true", "found %", "fates", "false positives", "events found", "found events right")
    return html_table(head, rows)
