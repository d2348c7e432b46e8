"""The HTML report of an evaluation: numbers, precision-recall curves, classes, and the worst errors as images.

Curves are SVG written by hand: a plotting library would be the report's largest dependency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

from hoiclip.core.array_types import F64, RGB
from hoiclip.evaluation.average_precision import precision_recall
from hoiclip.evaluation.error_analysis.worst_errors import DetectionError
from hoiclip.evaluation.page import draw_triplets, facts_table, figure, html_page, html_table, percent, text
from hoiclip.evaluation.results import ClassResult, Evaluation

COLOUR_KEY = (
    "<p><span class=p>Orange: predicted.</span> <span class=t>Green: ground truth.</span> Humans are thick.</p>"
)


def html_report(
    title: str,
    evaluation: Evaluation,
    facts: Sequence[tuple[str, str]],
    errors: Sequence[DetectionError],
    image: Callable[[int], RGB],
    file_names: Sequence[str],
    sections: Sequence[str] = (),
) -> str:
    """Renders the page.

    Args:
        facts: name and value of what was evaluated: model, data, images.
        image: RGB of an image by number; called once per error.
        sections: HTML between the numbers and the worst errors.
    """
    parts = [facts_table(facts), *(f"<p>{text(note)}</p>" for note in evaluation.notes), "<div class=tops><div>"]
    for split, summary in evaluation.summaries.items():
        rows = [(text(name), percent(value)) for name, value in summary.items()]
        parts.append(f"<h2>{text(split)}</h2>{html_table(('', '%'), rows)}")
    parts.append(f"</div><div><h2>Precision and recall</h2>{precision_recall_svg(evaluation)}</div></div>")
    parts += [*sections, "<h2>Worst errors</h2>"]
    figures = [_figure(error, image(error.image), file_names[error.image]) for error in errors]
    parts.append(
        f"{COLOUR_KEY}<div class=images>{''.join(figures)}</div>" if figures else "<p class=no>None to show.</p>"
    )
    parts.append(f"<h2>Classes with ground truth</h2>{_class_table(evaluation)}")
    return html_page(title, parts)


def precision_recall_svg(evaluation: Evaluation) -> str:
    """Mean curve over all classes with ground truth; for V-COCO's own metric agents and both scenarios apart."""
    if evaluation.metric != "vcoco-official":
        return curves_svg({"mean over classes": mean_curve(evaluation.classes)})
    kinds = {"agent": "agent", "role, scenario 1": "1", "role, scenario 2": "2"}
    return curves_svg(
        {
            name: mean_curve([result for result in evaluation.classes if result.name.split()[-1] == kind])
            for name, kind in kinds.items()
        }
    )


def _class_table(evaluation: Evaluation) -> str:
    rows = [
        (
            text(result.name),
            percent(result.ap),
            percent(result.max_recall),
            str(result.num_gt),
            str(result.num_predictions),
            str(result.num_hits),
            spark_svg(result),
        )
        for result in evaluation.classes
        if result.num_gt
    ]
    return html_table(("class", "AP %", "recall %", "ground truth", "predicted", "hits", "curve"), rows)


def _figure(error: DetectionError, rgb: RGB, file_name: str) -> str:
    score = "" if error.score is None else f" {error.score:.2f}"
    caption = f"<b>{escape(error.kind)}</b>: {text(error.name)}{score}"
    if error.gt_name and error.gt_name != error.name:
        caption += f"; ground truth: {text(error.gt_name)}"
    jpeg = draw_triplets(rgb, [error.predicted] if error.predicted else [], [error.gt] if error.gt else [])
    return figure(jpeg, "jpeg", error.name, f"{caption}<br><span class=no>{text(file_name)}</span>")


COLOURS = ("#1b6ca8", "#c8553d", "#3c8d53", "#8a5fb0", "#b8860b", "#444444")
_MARGIN_PX = 44
_SPARK_STEPS = 48


def mean_curve(classes: Sequence[ClassResult], levels: int = 101) -> tuple[F64, F64]:
    """(levels,) recall from 0 to 1 and the best precision at or beyond it, averaged over classes with ground truth."""
    recalls = np.linspace(0, 1, levels)
    curves = [_interpolated_precision(result, recalls) for result in classes if result.num_gt]
    return recalls, np.mean(curves, axis=0) if curves else np.zeros(levels)


def curves_svg(curves: Mapping[str, tuple[F64, F64]], width_px: int = 460, height_px: int = 340) -> str:
    """Draws axes from 0 to 1, one line per name of (recall, precision), and a legend."""
    wide, high = width_px - 1.5 * _MARGIN_PX, height_px - 1.5 * _MARGIN_PX
    left, bottom = _MARGIN_PX, height_px - _MARGIN_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width_px} {height_px}" width="{width_px}" '
        f'height="{height_px}" font-family="sans-serif" font-size="11" fill="#333">'
    ]
    for tenth in range(0, 11, 2):
        x, y = left + wide * tenth / 10, bottom - high * tenth / 10
        parts.append(f'<path d="M{left} {y:.1f}h{wide:.1f}M{x:.1f} {bottom}v{-high:.1f}" stroke="#ddd" fill="none"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tenth / 10:.1f}</text>')
    parts.append(f'<text x="{left + wide / 2:.1f}" y="{height_px - 10}" text-anchor="middle">recall</text>')
    parts.append(f'<text x="12" y="{bottom - high / 2:.1f}" text-anchor="middle" writing-mode="tb">precision</text>')
    for number, (name, (recall, precision)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{left + wide * r:.1f},{bottom - high * p:.1f}" for r, p in zip(recall, precision, strict=True)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = bottom - high + 14 * (number + 1)
        parts.append(
            f'<text x="{left + wide - 4:.1f}" y="{y:.1f}" text-anchor="end" fill="{colour}">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def spark_svg(result: ClassResult, width_px: int = 96, height_px: int = 28) -> str:
    """The curve of one class, small enough for a row of a table."""
    if not result.num_gt or not result.num_predictions:
        return ""
    recalls = np.linspace(0, 1, _SPARK_STEPS + 1)
    points = " ".join(
        f"{width_px * r:.0f},{1 + (height_px - 2) * (1 - p):.1f}"
        for r, p in zip(recalls, _interpolated_precision(result, recalls), strict=True)
    )
    return (
        f'<svg viewBox="0 0 {width_px} {height_px}" width="{width_px}" height="{height_px}">'
        f'<rect width="{width_px}" height="{height_px}" fill="#f2f2ef"/>'
        f'<polyline points="{points}" fill="none" stroke="{COLOURS[0]}"/></svg>'
    )


def _interpolated_precision(result: ClassResult, recalls: F64) -> F64:
    if not result.num_predictions:
        return np.zeros(len(recalls))
    precision, recall = precision_recall(result.hits, result.num_gt)
    best_from_here = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return best_from_here[np.searchsorted(recall, recalls, side="left")]
