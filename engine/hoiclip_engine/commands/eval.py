"""hoiclip eval: a model on annotated pictures; numbers on standard output, reports and exports as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.hoia import read_hoia
from hoiclip.errors import UsageError
from hoiclip.evaluation import Evaluation, PredictedPairs, Split, bundled_splits, choose_metric
from hoiclip.evaluation.export import export_hico, export_vcoco
from hoiclip.evaluation.page import percent
from hoiclip.evaluation.splits import RARE, read_splits
from hoiclip.evaluation.video import measure_films
from hoiclip.evaluation.video.measure import frame_annotations, frame_predictions
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.backends import BackendName
from hoiclip_engine.commands.console import messages, progress, results, say, table, working
from hoiclip_engine.commands.distinct_files import STDIO, existing, model_inputs, require_distinct
from hoiclip_engine.commands.eval_report import ImageReport, write_image_report
from hoiclip_engine.commands.report_folder import report_files, write_file
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluate import EvaluateConfig, FolderPictures, evaluate_pictures
from hoiclip_engine.evaluate_films import MatchedVideo, films_in, run_videos

VCOCO_DETECTIONS = "vcoco_detections.json"
MOST_CLASSES = 20
"""More classes than this are left to JSON and report; standard output shows the numbers that matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """What was asked for on the command line."""

    data: Path | None = None
    images: Path | None = None
    films: Path | None = None
    """Folder of films with their truth beside them."""
    metric: str = "auto"
    official: bool = False
    enhance: int | None = None
    splits: tuple[str, ...] = ()
    prior: Path | None = None
    max_images: int | None = None
    json: str | None = None
    report: Path | None = None
    export: Path | None = None

    def __post_init__(self) -> None:
        if (self.data is None) != (self.images is None) or (self.data is None and self.films is None):
            raise UsageError(
                "pictures need --data FILE.json and --images DIR, films need --films DIR; name either or both"
            )
        if self.data is None and (unused := self._for_pictures()):
            raise UsageError(
                f"{', '.join(unused)} would change nothing on films; leave out, or name pictures by --data and --images"
            )
        for name in ("enhance", "max_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")

    def _for_pictures(self) -> list[str]:
        """Options that change nothing on films."""
        given = {
            "--metric": self.metric != "auto",
            "--official": self.official,
            "--enhance": self.enhance is not None,
            "--prior": self.prior is not None,
            "--max-images": self.max_images is not None,
            "--export": self.export is not None,
        }
        return [option for option, is_given in given.items() if is_given]


def evaluate_model(model: ModelFile, engine_config: EngineConfig, request: EvalRequest) -> int:
    """The command.

    Raises:
        HoiclipError: model, annotations, pictures or outputs are not as expected.
    """
    _require_distinct(model, request)
    vocabulary = model.vocabulary
    config = _config(request, vocabulary)
    facts: dict[str, Any] = {
        "model": model.name,
        "model_sha256": model.sha256(),
        "vocabulary": vocabulary.name,
        "notice": model.notice,
    }
    measured = None
    if request.data is not None and request.images is not None:
        measured = _pictures(model, engine_config, request, config, request.data, request.images)
        facts |= measured.facts
    if request.films is not None:
        videos, backend = _films(model, engine_config, request.films)
        aligned = [one.aligned for one in videos]
        films = measure_films(aligned, vocabulary, config.splits)
        facts |= {**films.counts, "backend": backend}
        if measured is None:
            frames = replace(films.frames, summaries={"films": films.at_a_glance, **films.frames.summaries})
            predictions, annotations = frame_predictions(aligned, vocabulary), frame_annotations(aligned, vocabulary)
            measured = _Measured(frames, predictions, annotations, None, {})
        else:
            summaries = {**measured.found.summaries, "films": films.at_a_glance}
            measured = replace(measured, found=replace(measured.found, summaries=summaries))
    assert measured is not None  # EvalRequest asks for one of them
    _write(request, measured, vocabulary, facts)
    _show(request, measured.found, facts)
    return 0


def _require_distinct(model: ModelFile, request: EvalRequest) -> None:
    inputs = [request.data, request.images, request.films, request.prior, *model_inputs(model.path)]
    written: list[str | Path | None] = [*{request.json, STDIO}, *report_files(request.report)]
    written += existing(request.export, VCOCO_DETECTIONS, "detections_*.mat")
    splits = [name for name in request.splits if name.endswith(".json")]
    require_distinct([*inputs, *splits], written, [request.report, request.export])


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was found, on what."""

    found: Evaluation
    predictions: list[PredictedPairs]
    annotations: list[ImageAnnotation]
    pictures: FolderPictures | None
    facts: dict[str, Any]


def _pictures(
    model: ModelFile,
    engine_config: EngineConfig,
    request: EvalRequest,
    config: EvaluateConfig,
    data: Path,
    images: Path,
) -> _Measured:
    annotations = read_hoia(data, model.vocabulary)[: request.max_images]
    if not annotations:
        raise UsageError(f"{data} has no annotated picture to evaluate on")
    pictures = FolderPictures(images, annotations)
    with Engine(model, replace(engine_config, postprocess=config.postprocess)) as engine, progress() as bar:
        task = bar.add_task("pictures", total=len(annotations), rate="")
        found, predictions = evaluate_pictures(
            engine.detect, model.vocabulary, annotations, pictures, config, lambda: bar.advance(task)
        )
    facts = {
        "data": str(data),
        "pictures": len(annotations),
        "backend": engine.backend_name,
        "enhance_top_k": request.enhance,
    }
    return _Measured(found, predictions, annotations, pictures, facts)


def _films(model: ModelFile, engine_config: EngineConfig, folder: Path) -> tuple[list[MatchedVideo], BackendName]:
    """What was found, and what ran."""
    films = films_in(folder)
    with Engine(model, engine_config) as engine, progress() as bar:
        task = bar.add_task("films", total=len(films), rate="")
        return run_videos(engine, films, lambda: bar.advance(task)), engine.backend_name


def _config(request: EvalRequest, vocabulary: Vocabulary) -> EvaluateConfig:
    config = EvaluateConfig(
        metric=choose_metric(request.metric, vocabulary),
        splits=_splits(request.splits, vocabulary),
        official=request.official,
        enhance_top_k=request.enhance,
        prior_vo=_prior(request.prior),
    )
    if config.prior_vo is not None and not config.metric.startswith("vcoco"):
        raise UsageError(f"--prior is for the V-COCO metrics, the metric is {config.metric}; leave it out")
    return config


def _splits(names: Sequence[str], vocabulary: Vocabulary) -> tuple[Split, ...]:
    known = bundled_splits(vocabulary)
    if not names:
        return tuple(known[name] for name in known if name == RARE)
    chosen: list[Split] = []
    for name in names:
        if name in known:
            chosen.append(known[name])
        elif name.endswith(".json"):
            chosen += read_splits(Path(name), vocabulary).values()
        else:
            have = ", ".join(known) or f"none for vocabulary {vocabulary.name!r}"
            raise UsageError(f"unknown split {name!r}; there are {have}; or name a JSON file")
    return tuple(chosen)


def _prior(path: Path | None) -> NDArray[np.floating[Any]] | None:
    if path is None:
        return None
    try:
        if not path.is_file():
            raise ValueError("no regular file")
        prior = np.load(path, mmap_mode="r", allow_pickle=False)  # takes no memory for a size that is only declared
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"expected a .npy file of verbs by objects, cannot read {path} ({error})") from error
    if not isinstance(prior, np.ndarray) or prior.ndim != 2 or prior.dtype.kind not in "fiub":
        raise UsageError(f"expected a .npy table of numbers, verbs by objects; {path} is something else")
    return prior.astype(np.float64)


def _write(request: EvalRequest, measured: _Measured, vocabulary: Vocabulary, facts: dict[str, Any]) -> None:
    found = measured.found
    if request.json and request.json != "-":
        write_file(Path(request.json), json.dumps({**found.to_json(), **facts}, indent=1, allow_nan=False))
    if request.report:
        with working("Drawing the report"):
            names = [str(path.name) for path in (request.data, request.films) if path is not None]
            title = f"{facts['model']} on {' and '.join(names)}: {_title(found)}"
            about = ImageReport(title, found, measured.predictions, measured.annotations, measured.pictures, facts)
            write_image_report(request.report, about, vocabulary)
    if request.export:
        with working("Exporting detections"):
            if found.metric.startswith("vcoco"):
                path = request.export / VCOCO_DETECTIONS
                export_vcoco(path, measured.predictions, measured.annotations, vocabulary)
            else:
                export_hico(request.export, measured.predictions, measured.annotations, vocabulary)


def _title(found: Evaluation) -> str:
    return f"{found.metric}, as the official code counts" if found.official else found.metric


def _show(request: EvalRequest, found: Evaluation, facts: dict[str, Any]) -> None:
    for note in filter(None, (facts["notice"], *found.notes)):
        messages.print(f"Note: {note}", style="yellow")
    if request.json == "-":
        say(json.dumps({**found.to_json(), **facts}, allow_nan=False))
        return
    for split, summary in found.summaries.items():
        rows = [(name, percent(value)) for name, value in summary.items()]
        results.print(table(_on(split, found, facts), ("number", "%"), rows))
    counted = [one for one in found.classes if one.num_gt]
    shown = sorted(counted, key=lambda one: -one.num_gt)[:MOST_CLASSES]
    rows_of_classes = [
        (one.name, percent(one.ap), percent(one.max_recall), one.num_gt, one.num_predictions) for one in shown
    ]
    title = f"The {len(shown)} most frequent of {len(counted)} classes"
    results.print(table(title, ("class", "AP %", "recall %", "true", "predicted"), rows_of_classes))


def _on(split: str, found: Evaluation, facts: dict[str, Any]) -> str:
    """What the numbers of a summary are about. Frames are counted by the usual metric whatever pictures are."""
    if split == "films":
        return f"films, {facts['film_frames']} frames"
    looked_at = f"{facts['pictures']} pictures" if "pictures" in facts else f"{facts['film_frames']} frames of films"
    return f"{_title(found)}, {looked_at}, {split}"
