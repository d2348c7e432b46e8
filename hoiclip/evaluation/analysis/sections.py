"""Sections of a report page about an error analysis: fates, false positives, oracle gains, tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hoiclip.evaluation.analysis.analyse import ErrorAnalysis
from hoiclip.evaluation.analysis.classify import I64
from hoiclip.evaluation.analysis.kinds import FALSE_KINDS, FALSE_MEANINGS, FATE_MEANINGS, FATES, AnalysisConfig
from hoiclip.evaluation.analysis.oracles import MISSED_LEFT_OUT
from hoiclip.evaluation.analysis.tables import Table, percentages
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
        "<h2 id=fates>What became of the ground truth</h2>",
        f"<p>{len(analysis.fates)} interactions; each has the first of these fates that holds. "
        f"{_rule(analysis.config)}</p>",
        bar(FATES, analysis.fate_counts, "wide"),
        html_table(("fate", "", "count", "%"), fate_rows, texts=2),
        "<h2 id=false>What the false positives are</h2>",
        f"<p>{len(analysis.false)} of {analysis.num_predictions} predictions are no hits. <b>Top</b>: of each class "
        "only the best-scored predictions, as many as the class has ground truth; what lies below hardly costs "
        "anything.</p>",
        bar(FALSE_KINDS, top, "wide"),
        html_table(("kind", "", "top", "%", "all", "%"), false_rows, texts=2),
        "<h2 id=oracles>What mending each kind would bring</h2>",
        f"<p>mAP is {percent(analysis.mean_ap)} %. Each line mends one kind and leaves all others, and measures again; "
        "gains do not add up. What is missed has no score that it could be ranked by, so it is taken out of the ground "
        "truth instead.</p>",
        _oracle_table(analysis),
        "<h2 id=tables>Ground truth by its attributes</h2>",
        *(_attribute_table(one) for one in analysis.fate_tables),
        "<h2 id=false-tables>Top false positives by their attributes</h2>",
        *(_attribute_table(one) for one in analysis.false_tables),
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
    largest = max([one.gain for one in analysis.oracles if one.gain > 0], default=1.0)
    rows = []
    for one in analysis.oracles:
        width = 100 * one.gain / largest if one.gain > 0 else 0.0
        colour = COLOURS["missed both"] if one.mended == MISSED_LEFT_OUT else COLOURS["found"]
        drawn = f'<span class=bar style="background:none"><i style="width:{width:.1f}%;background:{colour}"></i></span>'
        gain = percent(one.gain)
        rows.append((escape(one.mended), percent(one.mean_ap), f"+{gain}" if gain[0].isdigit() else gain, drawn))
    return html_table(("mended", "mAP %", "gain", ""), rows)


def _attribute_table(one: Table) -> str:
    if not one.bins:
        return ""
    rows = []
    for name, counts in zip(one.bins, one.counts, strict=True):
        cells = [
            f"{count}<small>{value:.1f}</small>" if count else ""
            for count, value in zip(counts.tolist(), percentages(counts), strict=True)
        ]
        rows.append((escape(name), str(counts.sum()), bar(one.kinds, counts), *cells))
    body = html_table(("", "total", "", *map(escape, one.kinds)), rows, style="kinds")
    opened = " open" if len(one.bins) <= _OPEN_ROWS else ""
    return f"<details{opened}><summary>{escape(one.name[0].upper() + one.name[1:])}</summary>{body}</details>"
