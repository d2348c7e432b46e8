"""Parts of report pages: one HTML file that needs no other, with escaped names, and images with boxes drawn in."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

import cv2
import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.core.jpeg import encode_jpeg
from hoiclip.evaluation.triplets import BoxPair

_STYLE = """body{font:14px/1.45 system-ui,"DejaVu Sans",sans-serif;margin:2rem auto;max-width:1180px;color:#222;
background:#fff;padding:0 1rem}h2{margin:2.2rem 0 .6rem}p{max-width:75ch}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #e4e4e0;vertical-align:top}th{font-weight:600}
td:first-child,th:first-child,.texts2 td:nth-child(2){text-align:left}.texts2 td:nth-child(2){color:#555}
.kinds{font-size:12px}.kinds td,.kinds th{padding:.15rem .4rem}.kinds th{width:3.6rem;vertical-align:bottom}
.kinds td:first-child{white-space:nowrap}.kinds small{display:block;color:#888;font-size:10px}
.facts td:nth-child(2){text-align:left}
.tops{display:flex;gap:1rem 2.2rem;flex-wrap:wrap}details{margin:.8rem 0;overflow-x:auto}
summary{cursor:pointer;font-weight:600;margin-bottom:.3rem}
.bar{display:flex;width:180px;height:12px;background:#eee;margin-top:.25rem}.bar i{display:block;height:100%}
.kinds .bar{width:120px}.wide{width:100%;height:20px;margin:.6rem 0}
.dot{display:inline-block;width:.7em;height:.7em;margin-right:.5em;border-radius:2px}
.key{white-space:nowrap;margin-right:1.2em}.images{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:1.2rem}
figure{margin:0}figure img{max-width:100%}.images img{width:100%}figcaption{font-size:13px}.no{color:#888}
.p{color:#c86a00}.t{color:#1c8a3c}"""


def html_page(title: str, parts: Iterable[str]) -> str:
    """Joins HTML parts to a page.

    Args:
        parts: HTML, one after the other.
    """
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{text(title)}</title>"
        '<meta name=viewport content="width=device-width">'
        f"<style>{_STYLE}</style><h1>{text(title)}</h1>{''.join(parts)}</html>"
    )


def text(value: str) -> str:
    """Escapes for HTML. Characters that are not printable (control characters, bidi marks) appear by their number."""
    return escape("".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in value))


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1, style: str = "") -> str:
    """A table of cells that are HTML already.

    Args:
        texts: number of columns that are words rather than numbers.
    """
    head = f"<tr>{''.join(f'<th>{column}</th>' for column in columns)}</tr>" if any(columns) else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="texts{texts} {style}">{head}{body}</table>'


def facts_table(facts: Iterable[tuple[str, str]]) -> str:
    """A table of names and values: model, data, backend."""
    return html_table(("", ""), [(text(name), text(value)) for name, value in facts], style="facts")


def figure(data: bytes, kind: str, about: str, caption: str) -> str:
    """An image embedded in the page.

    Args:
        kind: "jpeg" or "png".
        about: its content, as plain text.
        caption: HTML.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<figure><img src="{source}" alt="{text(about)}"><figcaption>{caption}</figcaption></figure>'


def percent(value: float) -> str:
    """A fraction in percent with two decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


WIDTH_PX = 420
_PREDICTED_COLOUR, _GT_COLOUR = (255, 140, 0), (40, 200, 80)


def draw_triplets(rgb: RGB, predicted: Sequence[BoxPair], gt: Sequence[BoxPair], width_px: int = WIDTH_PX) -> bytes:
    """Draws boxes into a JPEG of that width: ground truth green, predictions orange over it, humans thick."""
    scale = width_px / rgb.shape[1]
    size = width_px, max(1, round(rgb.shape[0] * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for pairs, colour in ((gt, _GT_COLOUR), (predicted, _PREDICTED_COLOUR)):
        for boxes in pairs:
            _draw_boxes(small, boxes, scale, colour)
    return encode_jpeg(small, 82)


def _draw_boxes(rgb: RGB, boxes: BoxPair, scale: float, colour: tuple[int, int, int]) -> None:
    limit = 4 * max(rgb.shape)
    for box, thick_px in zip(boxes, (4, 2), strict=True):
        if box is not None and np.isfinite(box).all():
            x1, y1, x2, y2 = np.clip(np.round(box * scale), -limit, limit).astype(int).tolist()
            cv2.rectangle(rgb, (x1, y1), (x2, y2), colour, thick_px)
