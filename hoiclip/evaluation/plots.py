"""Precision-recall curves as SVG text, drawn by hand: a plotting library would be a report's largest dependency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from hoiclip.evaluation.average_precision import precision_recall
from hoiclip.evaluation.results import ClassResult

F64 = NDArray[np.float64]

COLOURS = ("#1b6ca8", "#c8553d", "#3c8d53", "#8a5fb0", "#b8860b", "#444444")
_MARGIN_PX = 44
_MOST_STEPS = 48


def mean_curve(classes: Sequence[ClassResult], levels: int = 101) -> tuple[F64, F64]:
    """(levels,) recall from 0 to 1 and the best precision at or beyond it, averaged over classes with ground truth."""
    recalls = np.linspace(0, 1, levels)
    curves = [_interpolated(one, recalls) for one in classes if one.num_gt]
    return recalls, np.mean(curves, axis=0) if curves else np.zeros(levels)


def curves_svg(curves: Mapping[str, tuple[F64, F64]], width_px: int = 460, height_px: int = 340) -> str:
    """Axes from 0 to 1, one line per name of (recall, precision), and a legend."""
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


def spark_svg(one: ClassResult, width_px: int = 96, height_px: int = 28) -> str:
    """The curve of one class, small enough for a row of a table."""
    if not one.num_gt or not one.num_predictions:
        return ""
    recalls = np.linspace(0, 1, _MOST_STEPS + 1)
    points = " ".join(
        f"{width_px * r:.0f},{1 + (height_px - 2) * (1 - p):.1f}"
        for r, p in zip(recalls, _interpolated(one, recalls), strict=True)
    )
    return (
        f'<svg viewBox="0 0 {width_px} {height_px}" width="{width_px}" height="{height_px}">'
        f'<rect width="{width_px}" height="{height_px}" fill="#f2f2ef"/>'
        f'<polyline points="{points}" fill="none" stroke="{COLOURS[0]}"/></svg>'
    )


def _interpolated(one: ClassResult, recalls: F64) -> F64:
    if not one.num_predictions:
        return np.zeros(len(recalls))
    precision, recall = precision_recall(one.hits, one.num_gt)
    best_from_here = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return best_from_here[np.searchsorted(recall, recalls, side="left")]
