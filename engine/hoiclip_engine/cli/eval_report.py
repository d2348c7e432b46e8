"""Report folders of hoiclip eval and hoiclip eval video: a self-contained page, numbers as JSON, and image files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.core.atomic_write import write_file
from hoiclip.core.errors import SourceError, UsageError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.images import FolderImages
from hoiclip.evaluation import Evaluation, PredictedTriplets
from hoiclip.evaluation.error_analysis import ErrorAnalysis, analyse_errors
from hoiclip.evaluation.error_analysis.sections import error_sections
from hoiclip.evaluation.error_analysis.worst_errors import WorstImage, worst_errors, worst_images
from hoiclip.evaluation.metrics import MetricName
from hoiclip.evaluation.page import draw_triplets, figure, text
from hoiclip.evaluation.report import COLOUR_KEY, html_report, precision_recall_svg
from hoiclip.evaluation.video import VideoErrors, analyse_videos
from hoiclip.evaluation.video.report import timeline_png, video_page
from hoiclip_engine.cli.console import messages
from hoiclip_engine.evaluation.videos import MatchedVideo

MAX_IMAGES = 12
MAX_TIMELINES = 8
_FILE_NAMES = (
    *("index.html", "analysis.json", "evaluation.json", "precision_recall.svg"),
    *(f"worst_{number:02}.jpg" for number in range(1, MAX_IMAGES + 1)),
    *(f"timeline_{number:02}.png" for number in range(1, MAX_TIMELINES + 1)),
)
MAX_TRIPLETS = 100
"""Triplets of an image that are analysed, the best first: as many as the metrics of pairs count."""
_BLANK: RGB = np.zeros((1, 1, 3), np.uint8)


def report_files(folder: Path | None) -> list[Path]:
    """All files that a report may consist of; an empty list without a report.

    Raises:
        UsageError: the folder is a file.
    """
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"expected a folder for --report, found the file {folder}; choose another name")
    return [] if folder is None else [folder / name for name in _FILE_NAMES]


@dataclass(frozen=True, slots=True)
class ImageReport:
    """Content of a report about images, or about the frames of videos."""

    title: str
    evaluation: Evaluation
    predictions: Sequence[PredictedTriplets]
    annotations: Sequence[ImageAnnotation]
    images: FolderImages | None
    """None where there are only frames of videos, which are not kept."""
    facts: Mapping[str, Any]


def write_image_report(folder: Path, report: ImageReport, vocabulary: Vocabulary) -> None:
    """Writes index.html, evaluation.json, analysis.json, precision_recall.svg and the worst images.

    Raises:
        SinkError: a file cannot be written.
    """
    images = report.images
    analysis, predictions = _analysis(report, vocabulary)
    worst, detection_errors = [], []
    if images is not None:
        worst = worst_images(analysis, predictions, range(len(predictions)), MAX_IMAGES)
        detection_errors = worst_errors(analysis, predictions)
    names = [annotation.file_name for annotation in report.annotations]
    figures = [
        _worst_figure(folder, number, worst_image, images.rgb(worst_image.image), names[worst_image.image])
        for number, worst_image in enumerate(worst, 1)
        if images is not None
    ]
    sections = error_sections(analysis)
    if figures:
        sections += ["<h2 id=worst>Worst images</h2>", COLOUR_KEY, f"<div class=images>{''.join(figures)}</div>"]
    page = html_report(
        report.title,
        report.evaluation,
        given_facts(report.facts),
        detection_errors,
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
    """Writes index.html, analysis.json, timelines, and the worst frames of videos that exist.

    Raises:
        SinkError: a file cannot be written.
    """
    errors = analyse_videos([video.aligned for video in videos], vocabulary, [video.size_wh for video in videos])
    timelines = {video: timeline_png(errors.events[video], vocabulary) for video in errors.worst_first[:MAX_TIMELINES]}
    for number, png in enumerate(timelines.values(), 1):
        write_file(folder / f"timeline_{number:02}.png", png)
    page = video_page(title, given_facts(facts), summary, errors, timelines, _worst_frames(folder, errors, videos))
    write_file(folder / "index.html", page)
    write_file(folder / "analysis.json", _json({**errors.to_json(), **facts}))


def given_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts that have a value, as text."""
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _analysis(report: ImageReport, vocabulary: Vocabulary) -> tuple[ErrorAnalysis, list[PredictedTriplets]]:
    """Analyses by a metric of pairs, also where vcoco-official, which matches people, was the metric."""
    metrics: dict[str, MetricName] = {"hico": "hico", "hico-ko": "hico-ko"}
    predictions = [
        predicted.rows(np.argsort(-predicted.score, kind="stable")[:MAX_TRIPLETS]) for predicted in report.predictions
    ]
    annotations = list(report.annotations)
    for index, annotation in enumerate(annotations):
        if report.images is not None and not (annotation.width_px and annotation.height_px):
            height_px, width_px = report.images.hw(index)
            annotations[index] = replace(annotation, width_px=width_px, height_px=height_px)
    metric = metrics.get(report.evaluation.metric, "vcoco")
    return analyse_errors(predictions, annotations, vocabulary, metric=metric), predictions


def _worst_frames(folder: Path, errors: VideoErrors, videos: Sequence[MatchedVideo]) -> list[str]:
    """HTML of the worst frames, at most one of a second; reads each video once more."""
    first_of = np.searchsorted(errors.video_of_frame, np.arange(len(videos)))
    times_s = np.array([frame.pts_s for video in videos for frame in video.aligned.ground_truth])
    seconds = list(zip(errors.video_of_frame.tolist(), np.floor(times_s).tolist(), strict=True))
    groups = {second: number for number, second in enumerate(seconds)}
    worst = worst_images(errors.frames, errors.predictions, [groups[second] for second in seconds], MAX_IMAGES)
    wanted: dict[int, set[int]] = {}
    for worst_image in worst:
        video = int(errors.video_of_frame[worst_image.image])
        wanted.setdefault(video, set()).add(worst_image.image - int(first_of[video]))
    rgb = {video: _frames(videos[video], rows) for video, rows in wanted.items()}
    figures: list[str] = []
    for worst_image in worst:
        video = int(errors.video_of_frame[worst_image.image])
        row = worst_image.image - int(first_of[video])
        if row in rgb[video]:
            name = f"{errors.events[video].name}, {times_s[worst_image.image]:.2f} s"
            figures.append(_worst_figure(folder, len(figures) + 1, worst_image, rgb[video][row], name))
    return figures


def _frames(video: MatchedVideo, rows: set[int]) -> dict[int, RGB]:
    """Frames of a video; none, with a note, where it cannot be read: the numbers do not need them."""
    try:
        return video.rgb(rows)
    except SourceError as error:
        messages.print(f"Note: the report shows no frames of {video.video}: {error}", style="yellow")
        return {}


def _worst_figure(folder: Path, number: int, worst: WorstImage, rgb: RGB, name: str) -> str:
    jpeg = draw_triplets(rgb, worst.predicted, worst.gt)
    write_file(folder / f"worst_{number:02}.jpg", jpeg)
    lines = [text(error) for error in worst.errors] + ([f"{worst.more} more"] if worst.more else [])
    return figure(jpeg, "jpeg", name, f"<b>{text(name)}</b><br>{'<br>'.join(lines)}")


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, allow_nan=False)
