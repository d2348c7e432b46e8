"""hoiclip eval video: evaluates identities, verbs over time and trajectories of videos; numbers on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hoiclip.core.atomic_write import write_file
from hoiclip.core.errors import UsageError
from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip.evaluation.page import percent
from hoiclip.evaluation.results import number
from hoiclip.evaluation.video import measure_identities, measure_videos, read_mot_frames
from hoiclip_engine.cli.console import messages, progress, results, say, table, working
from hoiclip_engine.cli.distinct_files import STDIO, model_inputs, require_distinct
from hoiclip_engine.cli.eval_report import report_files, write_video_report
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluation.videos import MatchedVideo, finished_videos, ground_truth_files, run_videos, videos_in
from hoiclip_engine.models import find_model
from hoiclip_engine.streaming.stream import StreamConfig

MOT_SCHEMA = "hoiclip-eval-mot/1"
_PER_PAIR_MINUTE = ("changes", "true changes", "flicker", "true flicker")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRequest:
    """Options of the command."""

    videos: Path | None = None
    """Folder of videos with their ground truth beside them; with results, ground truth alone, or one file of it."""
    mot: Path | None = None
    """Ground truth in MOTChallenge text instead."""
    results: Path | None = None
    """Finished results; None: run the model."""
    model: str = "drawn"
    vocabulary: str | None = None
    backend: str = "auto"
    precision: str = "auto"
    detect_every: int | Literal["auto"] = 1
    clip_every: int | Literal["auto"] = 1
    whole_every: int = 1
    json: str | None = None
    report: Path | None = None
    """Folder for a page with an error analysis."""

    def __post_init__(self) -> None:
        if (self.videos is None) == (self.mot is None):
            raise UsageError("expected a folder of videos, or --mot GT.txt; name one of them")
        if self.mot is not None and self.results is None:
            raise UsageError("--mot needs what a tracker found: --results TEST.txt")
        if self.mot is not None and self.report is not None:
            raise UsageError("--report is about interactions, which MOT text has none of; leave it out")
        if self.results is not None and (unused := self._for_runs()):
            raise UsageError(f"{', '.join(unused)} would change nothing on finished results; leave out")
        self.stream()

    def stream(self) -> StreamConfig:
        """Settings of the stream: every frame of a video.

        Raises:
            UsageError: an invalid detection interval.
        """
        try:
            return StreamConfig(
                policy="lossless",
                detect_every=self.detect_every,
                clip_every=self.clip_every,
                whole_every=self.whole_every,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _for_runs(self) -> list[str]:
        """Given options that matter only where the model is run."""
        given = {
            "--backend": self.backend != "auto",
            "--precision": self.precision != "auto",
            "--detect-every": self.detect_every != 1,
            "--clip-every": self.clip_every != 1,
            "--whole-every": self.whole_every != 1,
        }
        return [option for option, is_given in given.items() if is_given]


def evaluate_video(request: VideoRequest) -> int:
    """The command.

    Raises:
        HoiclipError: model, videos, ground truth, results or the output are not as expected.
    """
    model_file = find_model(request.model)
    inputs = [request.videos, request.mot, request.results, *model_inputs(model_file, request.vocabulary)]
    require_distinct(inputs, [*{request.json, STDIO}, *report_files(request.report)], [request.report])
    if request.mot is not None and request.results is not None:
        identities = measure_identities([read_mot_frames(request.mot, request.results)]).summary
        _report(request, {"MOT": identities}, {"schema": MOT_SCHEMA, **identities}, f"{request.results}")
        return 0
    model = load_model_file(find_model(model_file, request.vocabulary))
    videos, facts = _videos(model, request)
    report = measure_videos([video.aligned for video in videos], model.vocabulary)
    facts = {"model": model.name, "model_sha256": model.sha256(), **facts}
    if report.missing_frames:
        messages.print(
            f"Note: {report.missing_frames} ground-truth frames have no result and count as empty", style="yellow"
        )
    if report.foreign_frames:
        messages.print(
            f"Note: {report.foreign_frames} results are of no ground-truth frame and were left out", style="yellow"
        )
    title = f"{report.videos} videos, {report.counts['film_frames']} frames"
    if request.report is not None and request.videos is not None:
        with working("Drawing the report"):
            numbers = {
                subject: {name: with_unit(name, value) for name, value in values.items()}
                for subject, values in report.summary.items()
            }
            about = {**facts, "films": report.videos, "frames": report.counts["film_frames"]}
            heading = f"{model.name} on {request.videos.name}: {title}"
            write_video_report(request.report, heading, about, numbers, videos, model.vocabulary)
    _report(request, report.summary, {**report.to_json(), **facts}, title)
    return 0


def _videos(model: ModelFile, request: VideoRequest) -> tuple[list[MatchedVideo], dict[str, Any]]:
    """Results of each video, and facts about the run."""
    assert request.videos is not None  # VideoRequest asks for it
    if request.results is not None:
        ground_truth_paths = ground_truth_files(request.videos)
        return finished_videos(model.vocabulary, ground_truth_paths, request.results), {"results": str(request.results)}
    videos = videos_in(request.videos)
    config = EngineConfig(backend=request.backend, precision=request.precision)
    with Engine(model, config) as engine, progress() as bar:
        task = bar.add_task("videos", total=len(videos), rate="")
        matched = run_videos(engine, videos, lambda: bar.advance(task), request.stream())
    run_facts = {
        "backend": engine.backend_name,
        "precision": engine.build.precision,
        "detect_every": request.detect_every,
        "clip_every": request.clip_every,
        "whole_every": request.whole_every,
    }
    return matched, run_facts


def _report(
    request: VideoRequest, summary: Mapping[str, Mapping[str, float]], values: Mapping[str, Any], title: str
) -> None:
    text = json.dumps(values, indent=1, allow_nan=False)
    if request.json == "-":
        say(text)
        return
    if request.json:
        write_file(Path(request.json), text)
    for subject, numbers in summary.items():
        rows = [(name, with_unit(name, value)) for name, value in numbers.items()]
        results.print(table(f"{subject}, {title}", ("number", "value"), rows))


def with_unit(name: str, value: float) -> str:
    """A number with its unit; "-" where nothing is counted."""
    if isinstance(value, int):
        return str(value)
    if number(value) is None:
        return "-"
    if name in _PER_PAIR_MINUTE:
        return f"{value:.1f} per pair-minute"
    if name.endswith(" s"):
        return f"{value * 1000:.0f} ms"
    return f"{percent(value)} %"
