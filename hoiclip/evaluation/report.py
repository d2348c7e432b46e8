"""One self-contained HTML page about an evaluation: numbers, curves, classes, and the worst mistakes as pictures."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from hoiclip.evaluation.mistakes import Boxes, Mistake
from hoiclip.evaluation.plots import curves_svg, mean_curve, spark_svg
from hoiclip.evaluation.results import Evaluation

RGB = NDArray[np.uint8]

PICTURE_WIDTH_PX = 420
_PREDICTED, _TRUE = (255, 140, 0), (40, 200, 80)
_STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1180px;color:#222;padding:0 1rem}
table{border-collapse:collapse}td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #e4e4e0}
td:first-child,th:first-child{text-align:left}.tops{display:flex;gap:3rem;flex-wrap:wrap}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:1.2rem}
figure{margin:0}figure img{width:100%}figcaption{font-size:13px}.no{color:#888}
.p{color:#c86a00}.t{color:#1c8a3c}"""


def html_report(
    title: str,
    evaluation: Evaluation,
    facts: Sequence[tuple[str, str]],
    mistakes: Sequence[Mistake],
    picture: Callable[[int], RGB],
    file_names: Sequence[str],
) -> str:
    """The page.

    Args:
        facts: name and value of what was evaluated: model, data, pictures.
        picture: RGB of a picture by number; called once per mistake.
    """
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        _table(("", ""), [(escape(name), escape(value)) for name, value in facts]),
        *(f"<p>{escape(note)}</p>" for note in evaluation.notes),
        "<div class=tops><div>",
    ]
    for split, summary in evaluation.summaries.items():
        rows = [(escape(name), percent(value)) for name, value in summary.items()]
        parts.append(f"<h2>{escape(split)}</h2>{_table(('', '%'), rows)}")
    parts.append(f"</div><div><h2>Precision and recall</h2>{precision_recall_svg(evaluation)}</div></div>")
    parts.append("<h2>Worst mistakes</h2>")
    if mistakes:
        parts.append(
            "<p><span class=p>Orange: predicted.</span> <span class=t>Green: true.</span> Humans are thick.</p>"
        )
    figures = [_figure(one, picture(one.image), file_names[one.image]) for one in mistakes]
    parts.append(f"<div class=sheet>{''.join(figures)}</div>" if figures else "<p class=no>None to show.</p>")
    parts.append(f"<h2>Classes with ground truth</h2>{_class_table(evaluation)}</html>")
    return "".join(parts)


def precision_recall_svg(evaluation: Evaluation) -> str:
    """Mean curve over all classes with ground truth; for V-COCO's own metric agents and both scenarios apart."""
    if evaluation.metric != "vcoco-official":
        return curves_svg({"mean over classes": mean_curve(evaluation.classes)})
    kinds = {"agent": "agent", "role, scenario 1": "1", "role, scenario 2": "2"}
    return curves_svg(
        {
            name: mean_curve([one for one in evaluation.classes if one.name.split()[-1] == kind])
            for name, kind in kinds.items()
        }
    )


def percent(value: float) -> str:
    """Two decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def _class_table(evaluation: Evaluation) -> str:
    rows = [
        (
            escape(one.name),
            percent(one.ap),
            percent(one.max_recall),
            str(one.num_gt),
            str(one.num_predictions),
            str(one.num_hits),
            spark_svg(one),
        )
        for one in evaluation.classes
        if one.num_gt
    ]
    return _table(("class", "AP %", "recall %", "true", "predicted", "hits", "curve"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{column}</th>" for column in columns) if any(columns) else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if head else f"<table>{body}</table>"


def _figure(one: Mistake, rgb: RGB, file_name: str) -> str:
    score = "" if one.score is None else f" {one.score:.2f}"
    said = f"<b>{escape(one.kind)}</b>: {escape(one.name)}{score}"
    if one.true_name and one.true_name != one.name:
        said += f"; true: {escape(one.true_name)}"
    data = base64.b64encode(draw_mistake(one, rgb)).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{escape(one.name)}">'
        f"<figcaption>{said}<br><span class=no>{escape(file_name)}</span></figcaption></figure>"
    )


def draw_mistake(one: Mistake, rgb: RGB) -> bytes:
    """The picture with both pairs of boxes as a small JPEG."""
    scale = PICTURE_WIDTH_PX / rgb.shape[1]
    size = PICTURE_WIDTH_PX, max(1, round(rgb.shape[0] * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for boxes, colour in ((one.true, _TRUE), (one.predicted, _PREDICTED)):
        if boxes is not None:
            _draw_boxes(small, boxes, scale, colour)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return bytes(data)


def _draw_boxes(rgb: NDArray[np.uint8], boxes: Boxes, scale: float, colour: tuple[int, int, int]) -> None:
    limit = 4 * max(rgb.shape)
    for box, thick_px in zip(boxes, (4, 2), strict=True):
        if box is not None and np.isfinite(box).all():
            x1, y1, x2, y2 = np.clip(np.round(box * scale), -limit, limit).astype(int).tolist()
            cv2.rectangle(rgb, (x1, y1), (x2, y2), colour, thick_px)
