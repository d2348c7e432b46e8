"""hoiclip eval video: identities, verbs over time and trajectories of films; numbers on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hoiclip.checkpoint.model_file import ModelFile, load_model_file
from hoiclip.errors import UsageError
from hoiclip.evaluation.page import percent
from hoiclip.evaluation.results import number
from hoiclip.evaluation.video import measure_films, measure_identities, mot_moments
from hoiclip_engine.commands.console import messages, progress, results, say, table, working
from hoiclip_engine.commands.distinct_files import STDIO, model_inputs, require_distinct
from hoiclip_engine.commands.eval_report import write_video_report
from hoiclip_engine.commands.report_folder import report_files, write_file
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluate_films import MatchedVideo, films_in, finished_videos, run_videos, truths_in
from hoiclip_engine.models import find_model
from hoiclip_engine.pipeline import StreamConfig

MOT_SCHEMA = "hoiclip-eval-mot/1"
_PER_PAIR_MINUTE = ("changes", "true changes", "flicker", "true flicker")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRequest:
    """What was asked for on the command line."""

    films: Path | None = None
    """Folder of films with their truth beside them; with results, the truth is enough, and may be one file."""
    mot: Path | None = None
    """Truth in MOTChallenge text instead."""
    results: Path | None = None
    """What was found already; None: run the model."""
    model: str = "drawn"
    backend: str = "auto"
    precision: str = "auto"
    detect_every: int | Literal["auto"] = 1
    json: str | None = None
    report: Path | None = None
    """Folder for a page about what is missed and what is false."""

    def __post_init__(self) -> None:
        if (self.films is None) == (self.mot is None):
            raise UsageError("expected a folder of films, or --mot GT.txt; name one of them")
        if self.mot is not None and self.results is None:
            raise UsageError("--mot needs what a tracker found: --results TEST.txt")
        if self.mot is not None and self.report is not None:
            raise UsageError("--report is about interactions, which MOT text has none of; leave it out")
        if self.results is not None and (unused := self._for_runs()):
            raise UsageError(f"{', '.join(unused)} would change nothing on finished results; leave out")
        self.stream()

    def stream(self) -> StreamConfig:
        """How films are run: every frame of them.

        Raises:
            UsageError: a cadence that makes no sense.
        """
        try:
            return StreamConfig(policy="lossless", detect_every=self.detect_every)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _for_runs(self) -> list[str]:
        """Options that matter only where the model is run."""
        given = {
            "--backend": self.backend != "auto",
            "--precision": self.precision != "auto",
            "--detect-every": self.detect_every != 1,
        }
        return [option for option, is_given in given.items() if is_given]


def evaluate_video(request: VideoRequest) -> int:
    """The command.

    Raises:
        HoiclipError: model, films, truth, results or the output are not as expected.
    """
    model_file = find_model(request.model)
    inputs = [request.films, request.mot, request.results, *model_inputs(model_file)]
    require_distinct(inputs, [*{request.json, STDIO}, *report_files(request.report)], [request.report])
    if request.mot is not None and request.results is not None:
        identities = measure_identities([mot_moments(request.mot, request.results)]).summary
        _tell(request, {"MOT": identities}, {"schema": MOT_SCHEMA, **identities}, f"{request.results}")
        return 0
    model = load_model_file(model_file)
    videos, facts = _videos(model, request)
    report = measure_films([one.aligned for one in videos], model.vocabulary)
    facts = {"model": model.name, "model_sha256": model.sha256(), **facts}
    if report.missing_frames:
        messages.print(f"Note: {report.missing_frames} true frames have no result and count as empty", style="yellow")
    if report.foreign_frames:
        messages.print(f"Note: {report.foreign_frames} results are of no true frame and were left out", style="yellow")
    title = f"{report.films} films, {report.counts['film_frames']} frames"
    if request.report is not None and request.films is not None:
        with working("Drawing the report"):
            numbers = {
                subject: {name: shown(name, value) for name, value in values.items()}
                for subject, values in report.summary.items()
            }
            about = {**facts, "films": report.films, "frames": report.counts["film_frames"]}
            heading = f"{model.name} on {request.films.name}: {title}"
            write_video_report(request.report, heading, about, numbers, videos, model.vocabulary)
    _tell(request, report.summary, {**report.to_json(), **facts}, title)
    return 0


def _videos(model: ModelFile, request: VideoRequest) -> tuple[list[MatchedVideo], dict[str, Any]]:
    """What was found in each, and how."""
    assert request.films is not None  # VideoRequest asks for it
    if request.results is not None:
        truths = truths_in(request.films)
        return finished_videos(model.vocabulary, truths, request.results), {"results": str(request.results)}
    films = films_in(request.films)
    config = EngineConfig(backend=request.backend, precision=request.precision)
    with Engine(model, config) as engine, progress() as bar:
        task = bar.add_task("films", total=len(films), rate="")
        videos = run_videos(engine, films, lambda: bar.advance(task), request.stream())
    ran = {"backend": engine.backend_name, "precision": engine.build.precision, "detect_every": request.detect_every}
    return videos, ran


def _tell(
    request: VideoRequest, summary: Mapping[str, Mapping[str, float]], values: Mapping[str, Any], title: str
) -> None:
    text = json.dumps(values, indent=1, allow_nan=False)
    if request.json == "-":
        say(text)
        return
    if request.json:
        write_file(Path(request.json), text)
    for subject, numbers in summary.items():
        rows = [(name, shown(name, value)) for name, value in numbers.items()]
        results.print(table(f"{subject}, {title}", ("number", "value"), rows))


def shown(name: str, value: float) -> str:
    """With its unit; "-" where there is nothing to count."""
    if isinstance(value, int):
        return str(value)
    if number(value) is None:
        return "-"
    if name in _PER_PAIR_MINUTE:
        return f"{value:.1f} per pair-minute"
    if name.endswith(" s"):
        return f"{value * 1000:.0f} ms"
    return f"{percent(value)} %"
