"""The report folders of hoiclip eval and hoiclip eval video."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.errors import SourceError
from hoiclip.evaluation import Evaluation, PredictedPairs
from hoiclip.evaluation.analysis import ErrorAnalysis, analyse
from hoiclip.evaluation.analysis.sections import error_sections
from hoiclip.evaluation.drawing import RGB, draw_pairs
from hoiclip.evaluation.metrics import MetricName
from hoiclip.evaluation.mistakes import WorstImage, worst_images, worst_mistakes
from hoiclip.evaluation.page import figure, text
from hoiclip.evaluation.report import COLOUR_KEY, html_report, precision_recall_svg
from hoiclip.evaluation.video import VideoErrors, analyse_videos
from hoiclip.evaluation.video.report import video_page
from hoiclip.evaluation.video.timeline import timeline_png
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.commands.console import messages
from hoiclip_engine.commands.report_folder import MOST_IMAGES, MOST_TIMELINES, write_file
from hoiclip_engine.evaluate import FolderPictures
from hoiclip_engine.evaluate_films import MatchedVideo

_MOST_TRIPLETS = 100
"""Of an image that are analysed, the best first: what the metrics of pairs count."""
_BLANK: RGB = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class ImageReport:
    """What a report of images, or of the frames of videos, is about."""

    title: str
    evaluation: Evaluation
    predictions: Sequence[PredictedPairs]
    annotations: Sequence[ImageAnnotation]
    images: FolderPictures | None
    """None where there are only frames of videos, which are not at hand."""
    facts: Mapping[str, Any]


def write_image_report(folder: Path, report: ImageReport, vocabulary: Vocabulary) -> None:
    """index.html, evaluation.json, analysis.json, precision_recall.svg and the worst images.

    Raises:
        SinkError: a file cannot be written.
    """
    images = report.images
    analysis, predictions = _analysis(report, vocabulary)
    worst, mistakes = [], []
    if images is not None:
        worst = worst_images(analysis, predictions, range(len(predictions)), MOST_IMAGES)
        mistakes = worst_mistakes(analysis, predictions)
    names = [one.file_name for one in report.annotations]
    figures = [
        _worst_figure(folder, number, one, images.rgb(one.image), names[one.image])
        for number, one in enumerate(worst, 1)
        if images is not None
    ]
    sections = error_sections(analysis)
    if figures:
        sections += ["<h2 id=worst>Worst images</h2>", COLOUR_KEY, f"<div class=sheet>{''.join(figures)}</div>"]
    page = html_report(
        report.title,
        report.evaluation,
        shown_facts(report.facts),
        mistakes,
        (lambda _: _BLANK) if images is None else images.rgb,
        names,
        sections,
    )
    write_file(folder / "index.html", page)
    write_file(folder / "evaluation.json", _json({**report.evaluation.to_json(), **report.facts}))
    write_file(folder / "analysis.json", _json({**analysis.to_json(), **report.facts}))
    write_file(folder / "precision_recall.svg", precision_recall_svg(report.evaluation))


def write_video_report(
    folder: Path,
    title: str,
    facts: Mapping[str, Any],
    summary: Mapping[str, Mapping[str, str]],
    videos: Sequence[MatchedVideo],
    vocabulary: Vocabulary,
) -> None:
    """index.html, analysis.json, timelines and the worst frames, as far as the videos themselves are there.

    Raises:
        SinkError: a file cannot be written.
    """
    errors = analyse_videos([one.aligned for one in videos], vocabulary, [one.size_wh for one in videos])
    timelines = {video: timeline_png(errors.events[video], vocabulary) for video in errors.worst_first[:MOST_TIMELINES]}
    for number, png in enumerate(timelines.values(), 1):
        write_file(folder / f"timeline_{number:02}.png", png)
    page = video_page(title, shown_facts(facts), summary, errors, timelines, _worst_frames(folder, errors, videos))
    write_file(folder / "index.html", page)
    write_file(folder / "analysis.json", _json({**errors.to_json(), **facts}))


def shown_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Without what there is nothing to say of."""
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _analysis(report: ImageReport, vocabulary: Vocabulary) -> tuple[ErrorAnalysis, list[PredictedPairs]]:
    """People are matched by vcoco-official, not pairs; its errors are those that the pair metric sees."""
    metrics: dict[str, MetricName] = {"hico": "hico", "hico-ko": "hico-ko"}
    predictions = [one.rows(np.argsort(-one.score, kind="stable")[:_MOST_TRIPLETS]) for one in report.predictions]
    annotations = list(report.annotations)
    for index, one in enumerate(annotations):
        if report.images is not None and not (one.width_px and one.height_px):
            height_px, width_px = report.images.hw(index)
            annotations[index] = replace(one, width_px=width_px, height_px=height_px)
    metric = metrics.get(report.evaluation.metric, "vcoco")
    return analyse(predictions, annotations, vocabulary, metric=metric), predictions


def _worst_frames(folder: Path, errors: VideoErrors, videos: Sequence[MatchedVideo]) -> list[str]:
    """HTML of each, at most one of a second; reads each video once more."""
    first_of = np.searchsorted(errors.video_of_frame, np.arange(len(videos)))
    times_s = np.array([frame.pts_s for one in videos for frame in one.aligned.truth])
    seconds = list(zip(errors.video_of_frame.tolist(), np.floor(times_s).tolist(), strict=True))
    groups = {second: number for number, second in enumerate(seconds)}
    worst = worst_images(errors.frames, errors.predictions, [groups[second] for second in seconds], MOST_IMAGES)
    wanted: dict[int, set[int]] = {}
    for one in worst:
        video = int(errors.video_of_frame[one.image])
        wanted.setdefault(video, set()).add(one.image - int(first_of[video]))
    rgb = {video: _frames(videos[video], rows) for video, rows in wanted.items()}
    figures: list[str] = []
    for one in worst:
        video = int(errors.video_of_frame[one.image])
        row = one.image - int(first_of[video])
        if row in rgb[video]:
            name = f"{errors.events[video].name}, {times_s[one.image]:.2f} s"
            figures.append(_worst_figure(folder, len(figures) + 1, one, rgb[video][row], name))
    return figures


def _frames(video: MatchedVideo, rows: set[int]) -> dict[int, RGB]:
    """Without those of a video that cannot be read, which the numbers do not need."""
    try:
        return video.rgb(rows)
    except SourceError as error:
        messages.print(f"Note: the report shows no frames of {video.video}: {error}", style="yellow")
        return {}


def _worst_figure(folder: Path, number: int, one: WorstImage, rgb: RGB, name: str) -> str:
    drawn = draw_pairs(rgb, one.predicted, one.true)
    write_file(folder / f"worst_{number:02}.jpg", drawn)
    said = [text(error) for error in one.errors] + ([f"{one.more} more"] if one.more else [])
    return figure(drawn, "jpeg", name, f"<b>{text(name)}</b><br>{'<br>'.join(said)}")


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, allow_nan=False)
