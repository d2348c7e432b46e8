"""HTML sections of a report about an error analysis: fates, false positives, oracle gains, tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hoiclip.core.array_types import I64
from hoiclip.evaluation.error_analysis.analysis import ErrorAnalysis
from hoiclip.evaluation.error_analysis.attributes import CountTable, percentages
from hoiclip.evaluation.error_analysis.classify import FALSE_KINDS, FALSE_MEANINGS, FATE_MEANINGS, FATES, AnalysisConfig
from hoiclip.evaluation.error_analysis.oracles import MISSED_LEFT_OUT
from hoiclip.evaluation.page import html_table, percent

COLOURS = {
    "found": "#4f9d69",
    "merged": "#a8cdb2",
    "duplicate": "#a8cdb2",
    "loose human": "#1b6ca8",
    "loose object": "#5b9bcb",
    "loose both": "#a5c8e2",
    "wrong verb": "#c86a00",
    "wrong label": "#e39a3f",
    "wrong label and verb": "#f0c68a",
    "wrong pairing": "#8a5fb0",
    "missed human": "#9c3d3d",
    "missed object": "#bf7272",
    "missed both": "#dcb0b0",
    "background": "#8c8c86",
}
_OPEN_ROWS = 24
"""Tables with more rows than this are folded up."""


def error_sections(analysis: ErrorAnalysis) -> list[str]:
    """HTML of the whole analysis."""
    top, everything = analysis.top_counts, analysis.false_counts
    top_percent, all_percent = percentages(top), percentages(everything)
    false_rows = [
        (_named(kind), escape(FALSE_MEANINGS[kind]), str(top[i]), f"{top_percent[i]:.1f}", str(everything[i]),
         f"{all_percent[i]:.1f}")
        for i, kind in enumerate(FALSE_KINDS)
    ]  # fmt: skip
    fate_percent = percentages(analysis.fate_counts)
    fate_rows = [
        (_named(kind), escape(FATE_MEANINGS[kind]), str(analysis.fate_counts[i]), f"{fate_percent[i]:.1f}")
        for i, kind in enumerate(FATES)
    ]
    return [
        "<h2 id=fates>Fates of the ground truth</h2>",
        f"<p>{len(analysis.fates)} interactions; each has the first of these fates that holds. "
        f"{_rule(analysis.config)}</p>",
        bar(FATES, analysis.fate_counts, "wide"),
        html_table(("fate", "", "count", "%"), fate_rows, texts=2),
        "<h2 id=false>Kinds of false positives</h2>",
        f"<p>{len(analysis.false)} of {analysis.num_predictions} predictions are no hits. <b>Top</b>: of each class "
        "only the best-scored predictions, as many as the class has ground truth; those below hardly cost any AP.</p>",
        bar(FALSE_KINDS, top, "wide"),
        html_table(("kind", "", "top", "%", "all", "%"), false_rows, texts=2),
        "<h2 id=oracles>Gains of mending each kind</h2>",
        f"<p>mAP is {percent(analysis.mean_ap)} %. Each line mends one kind, leaves all others, and evaluates again; "
        "gains do not add up. Missed pairs have no score to be ranked by, so they are taken out of the ground truth "
        "instead.</p>",
        _oracle_table(analysis),
        "<h2 id=tables>Ground truth by its attributes</h2>",
        *(_attribute_table(table) for table in analysis.fate_tables),
        "<h2 id=false-tables>Top false positives by their attributes</h2>",
        *(_attribute_table(table) for table in analysis.false_tables),
    ]


def bar(kinds: Sequence[str], counts: I64, style: str = "") -> str:
    """A stacked bar of kinds."""
    parts = [
        f'<i style="width:{value:.1f}%;background:{COLOURS[kind]}" title="{escape(kind)}: {count} ({value:.1f} %)"></i>'
        for kind, count, value in zip(kinds, counts.tolist(), percentages(counts), strict=True)
        if count
    ]
    return f'<span class="bar {style}">{"".join(parts)}</span>'


def _named(kind: str) -> str:
    return f'<i class=dot style="background:{COLOURS[kind]}"></i>{escape(kind)}'


def _rule(config: AnalysisConfig) -> str:
    return (
        f"A box is right from an IoU of {config.min_overlap:g}, loose from {config.loose_overlap:g}. "
        f"Two people who overlap by {config.same_person_overlap:g} are one; a box within {config.border_px:g} px of "
        "the image border is cut off by it."
    )


def _oracle_table(analysis: ErrorAnalysis) -> str:
    largest = max([oracle.gain for oracle in analysis.oracles if oracle.gain > 0], default=1.0)
    rows = []
    for oracle in analysis.oracles:
        width = 100 * oracle.gain / largest if oracle.gain > 0 else 0.0
        colour = COLOURS["missed both"] if oracle.mended == MISSED_LEFT_OUT else COLOURS["found"]
        bar_html = (
            f'<span class=bar style="background:none"><i style="width:{width:.1f}%;background:{colour}"></i></span>'
        )
        gain = percent(oracle.gain)
        rows.append(
            (escape(oracle.mended), percent(oracle.mean_ap), f"+{gain}" if gain[0].isdigit() else gain, bar_html)
        )
    return html_table(("mended", "mAP %", "gain", ""), rows)


def _attribute_table(table: CountTable) -> str:
    if not table.bins:
        return ""
    rows = []
    for name, counts in zip(table.bins, table.counts, strict=True):
        cells = [
            f"{count}<small>{value:.1f}</small>" if count else ""
            for count, value in zip(counts.tolist(), percentages(counts), strict=True)
        ]
        rows.append((escape(name), str(counts.sum()), bar(table.kinds, counts), *cells))
    body = html_table(("", "total", "", *map(escape, table.kinds)), rows, style="kinds")
    opened = " open" if len(table.bins) <= _OPEN_ROWS else ""
    return f"<details{opened}><summary>{escape(table.name[0].upper() + table.name[1:])}</summary>{body}</details>"
