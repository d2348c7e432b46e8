"""One self-contained HTML page about an evaluation: numbers, curves, classes, and the worst mistakes as images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from hoiclip.evaluation.drawing import RGB, draw_pairs
from hoiclip.evaluation.mistakes import Mistake
from hoiclip.evaluation.page import facts_table, figure, html_page, html_table, percent, text
from hoiclip.evaluation.plots import curves_svg, mean_curve, spark_svg
from hoiclip.evaluation.results import Evaluation

COLOUR_KEY = "<p><span class=p>Orange: predicted.</span> <span class=t>Green: true.</span> Humans are thick.</p>"


def html_report(
    title: str,
    evaluation: Evaluation,
    facts: Sequence[tuple[str, str]],
    mistakes: Sequence[Mistake],
    picture: Callable[[int], RGB],
    file_names: Sequence[str],
    sections: Sequence[str] = (),
) -> str:
    """The page.

    Args:
        facts: name and value of what was evaluated: model, data, pictures.
        picture: RGB of a picture by number; called once per mistake.
        sections: HTML between the numbers and the worst mistakes.
    """
    parts = [facts_table(facts), *(f"<p>{text(note)}</p>" for note in evaluation.notes), "<div class=tops><div>"]
    for split, summary in evaluation.summaries.items():
        rows = [(text(name), percent(value)) for name, value in summary.items()]
        parts.append(f"<h2>{text(split)}</h2>{html_table(('', '%'), rows)}")
    parts.append(f"</div><div><h2>Precision and recall</h2>{precision_recall_svg(evaluation)}</div></div>")
    parts += [*sections, "<h2>Worst mistakes</h2>"]
    figures = [_figure(one, picture(one.image), file_names[one.image]) for one in mistakes]
    parts.append(
        f"{COLOUR_KEY}<div class=sheet>{''.join(figures)}</div>" if figures else "<p class=no>None to show.</p>"
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
            name: mean_curve([one for one in evaluation.classes if one.name.split()[-1] == kind])
            for name, kind in kinds.items()
        }
    )


def _class_table(evaluation: Evaluation) -> str:
    rows = [
        (
            text(one.name),
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
    return html_table(("class", "AP %", "recall %", "true", "predicted", "hits", "curve"), rows)


def _figure(one: Mistake, rgb: RGB, file_name: str) -> str:
    score = "" if one.score is None else f" {one.score:.2f}"
    said = f"<b>{escape(one.kind)}</b>: {text(one.name)}{score}"
    if one.true_name and one.true_name != one.name:
        said += f"; true: {text(one.true_name)}"
    drawn = draw_pairs(rgb, [one.predicted] if one.predicted else [], [one.true] if one.true else [])
    return figure(drawn, "jpeg", one.name, f"{said}<br><span class=no>{text(file_name)}</span>")
