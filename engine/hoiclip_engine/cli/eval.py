"""hoiclip eval: evaluates a model on annotated images and videos; numbers on stdout, reports and exports as files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, results, say, table, working
from hoiclip_engine.cli.distinct_files import STDIO, existing, model_inputs, require_distinct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hoiclip.core.model_file import ModelFile
    from hoiclip.core.vocabulary import Vocabulary
    from hoiclip.data.annotations import ImageAnnotation
    from hoiclip.data.images import FolderImages
    from hoiclip.evaluation import Evaluation, PredictedTriplets, Split
    from hoiclip.evaluation.image_loop import EvaluateConfig
    from hoiclip_engine.backends.base import BackendName
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.evaluation.videos import MatchedVideo


EXAMPLES = """\
  hoiclip eval --data test.json --images test --report report
  hoiclip eval --model vcoco.safetensors --data test.json --images test --metric vcoco-official
  hoiclip eval video videos                               identities, verbs over time, events
  hoiclip eval video videos --results results --report report
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="video", parser_class=options.Parser)
    video = actions.add_parser("video", help="identities, verbs over time, trajectories of videos")
    _add_video(video)
    options.add_log(video)
    options.add_model(parser)
    options.add_annotated_images(parser, "annotations")
    parser.add_argument(
        "--films",
        dest="videos",
        type=Path,
        metavar="DIR",
        help="videos with their ground truth beside them, a.mp4 and a.jsonl",
    )
    parser.add_argument(
        "--metric",
        default="auto",
        choices=("auto", "hico", "hico-ko", "vcoco", "vcoco-official"),
        help="default: by the vocabulary",
    )
    parser.add_argument("--official", action="store_true", help="count as the official code does, quirks included")
    parser.add_argument(
        "--enhance", type=options.integer, metavar="K", help="training-free enhancement with the K nearest HOIs"
    )
    parser.add_argument(
        "--split", nargs="+", default=[], metavar="NAME|FILE.json", help="e.g. rare_first (default: rare)"
    )
    parser.add_argument("--prior", type=Path, metavar="FILE.npy", help="V-COCO: factors on verbs given the object")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="HTML page: why pairs are missed, worst images, JSON"
    )
    options.add_json_to(parser, "all numbers as JSON")
    parser.add_argument("--export", type=Path, metavar="DIR", help="detections in the official format")
    options.add_backend(parser, precision=False)
    options.add_short_side(parser)
    parser.add_argument("--max-images", type=options.integer, metavar="N", help="only the first N images")


def _add_video(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "videos", type=Path, nargs="?", metavar="DIR", help="videos with their ground truth, a.mp4 and a.jsonl"
    )
    parser.add_argument(
        "--mot", type=Path, metavar="GT.txt", help="ground truth in MOTChallenge text instead of videos"
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR|FILE", help="JSON lines or MOT text of a run (default: run the model)"
    )
    options.add_model(parser)
    options.add_backend(parser)
    options.add_detect_every(parser)
    options.add_clip_every(parser)
    options.add_whole_every(parser)
    options.add_json_to(parser, "all numbers as JSON")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="HTML page: why pairs are missed, event timelines, worst frames"
    )


def run(args: argparse.Namespace) -> int:
    return _evaluate_videos(args) if args.action == "video" else _evaluate_images(args)


def _evaluate_images(args: argparse.Namespace) -> int:
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.models import find_model

    model = find_model(args.model)
    request = EvalRequest(
        model_files=tuple(model_inputs(model, args.vocabulary)),
        data=args.data,
        images=args.images,
        videos=args.videos,
        metric=args.metric,
        official=args.official,
        enhance=args.enhance,
        splits=tuple(args.split),
        prior=args.prior,
        max_images=args.max_images,
        json=args.json,
        report=args.report,
        export=args.export,
    )
    config = EngineConfig(backend=args.backend, short_side_px=args.short_side)
    return evaluate_model(load_model_file(find_model(model, args.vocabulary)), config, request)


def _evaluate_videos(args: argparse.Namespace) -> int:
    from hoiclip_engine.cli.eval_video import VideoRequest, evaluate_video

    names = (
        "videos",
        "mot",
        "results",
        "model",
        "vocabulary",
        "backend",
        "precision",
        "detect_every",
        "clip_every",
        "whole_every",
        "json",
        "report",
    )
    return evaluate_video(VideoRequest(**{name: getattr(args, name) for name in names}))


VCOCO_DETECTIONS = "vcoco_detections.json"
MAX_CLASSES = 20
"""Classes shown on standard output; all of them are in JSON and report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """Options of the command."""

    data: Path | None = None
    images: Path | None = None
    videos: Path | None = None
    """Folder of videos with their ground truth beside them."""
    metric: str = "auto"
    official: bool = False
    enhance: int | None = None
    splits: tuple[str, ...] = ()
    prior: Path | None = None
    max_images: int | None = None
    json: str | None = None
    report: Path | None = None
    export: Path | None = None
    model_files: tuple[Path, ...] = ()
    """Files that the model is made of."""

    def __post_init__(self) -> None:
        if (self.data is None) != (self.images is None) or (self.data is None and self.videos is None):
            raise UsageError(
                "images need --data FILE.json and --images DIR, videos need --films DIR; name either or both"
            )
        if self.data is None and (unused := self._for_images()):
            raise UsageError(
                f"{', '.join(unused)} would change nothing on videos; leave out, or name images by --data and --images"
            )
        for name in ("enhance", "max_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")

    def _for_images(self) -> list[str]:
        """Given options that change nothing on videos."""
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
        HoiclipError: model, annotations, images or outputs are not as expected.
    """
    from hoiclip.evaluation.video import measure_videos
    from hoiclip.evaluation.video.measure import frame_annotations, frame_predictions

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
        measured = _images(model, engine_config, request, config, request.data, request.images)
        facts |= measured.facts
    if request.videos is not None:
        matched, backend = _videos(model, engine_config, request.videos)
        aligned = [video.aligned for video in matched]
        videos = measure_videos(aligned, vocabulary, config.splits)
        facts |= {**videos.counts, "backend": backend}
        if measured is None:
            frames = replace(videos.frames, summaries={"films": videos.at_a_glance, **videos.frames.summaries})
            predictions, annotations = frame_predictions(aligned, vocabulary), frame_annotations(aligned, vocabulary)
            measured = _MeasuredImages(frames, predictions, annotations, None, {})
        else:
            summaries = {**measured.found.summaries, "films": videos.at_a_glance}
            measured = replace(measured, found=replace(measured.found, summaries=summaries))
    assert measured is not None  # EvalRequest asks for one of them
    _write(request, measured, vocabulary, facts)
    _print(request, measured.found, facts)
    return 0


def _require_distinct(model: ModelFile, request: EvalRequest) -> None:
    from hoiclip_engine.cli.eval_report import report_files

    inputs = [request.data, request.images, request.videos, request.prior, *request.model_files]
    written: list[str | Path | None] = [*{request.json, STDIO}, *report_files(request.report)]
    written += existing(request.export, VCOCO_DETECTIONS, "detections_*.mat")
    splits = [name for name in request.splits if name.endswith(".json")]
    require_distinct([*inputs, *splits], written, [request.report, request.export])


@dataclass(frozen=True, slots=True)
class _MeasuredImages:
    """An evaluation with its predictions, annotations and images."""

    found: Evaluation
    predictions: list[PredictedTriplets]
    annotations: list[ImageAnnotation]
    images: FolderImages | None
    facts: dict[str, Any]


def _images(
    model: ModelFile,
    engine_config: EngineConfig,
    request: EvalRequest,
    config: EvaluateConfig,
    data: Path,
    folder: Path,
) -> _MeasuredImages:
    from hoiclip.data.formats.hoia import read_hoia
    from hoiclip.data.images import FolderImages
    from hoiclip.evaluation.image_loop import evaluate_images
    from hoiclip_engine.engine import Engine

    annotations = read_hoia(data, model.vocabulary)[: request.max_images]
    if not annotations:
        raise UsageError(f"{data} has no annotated image to evaluate on")
    images = FolderImages(folder, annotations)
    with Engine(model, replace(engine_config, postprocess=config.postprocess)) as engine, progress() as bar:
        task = bar.add_task("images", total=len(annotations), rate="")
        found, predictions = evaluate_images(
            engine.detect, model.vocabulary, annotations, images, config, lambda: bar.advance(task)
        )
    facts = {
        "data": str(data),
        "pictures": len(annotations),
        "backend": engine.backend_name,
        "enhance_top_k": request.enhance,
    }
    return _MeasuredImages(found, predictions, annotations, images, facts)


def _videos(model: ModelFile, engine_config: EngineConfig, folder: Path) -> tuple[list[MatchedVideo], BackendName]:
    """Results of all videos, and the backend that ran."""
    from hoiclip_engine.engine import Engine
    from hoiclip_engine.evaluation.videos import run_videos, videos_in

    videos = videos_in(folder)
    with Engine(model, engine_config) as engine, progress() as bar:
        task = bar.add_task("videos", total=len(videos), rate="")
        return run_videos(engine, videos, lambda: bar.advance(task)), engine.backend_name


def _config(request: EvalRequest, vocabulary: Vocabulary) -> EvaluateConfig:
    from hoiclip.evaluation import choose_metric
    from hoiclip.evaluation.image_loop import EvaluateConfig

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
    from hoiclip.evaluation import bundled_splits
    from hoiclip.evaluation.splits import RARE, read_splits

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
    import numpy as np

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


def _write(request: EvalRequest, measured: _MeasuredImages, vocabulary: Vocabulary, facts: dict[str, Any]) -> None:
    from hoiclip.core.atomic_write import write_file
    from hoiclip.evaluation.export import export_hico, export_vcoco
    from hoiclip_engine.cli.eval_report import ImageReport, write_image_report

    found = measured.found
    if request.json and request.json != "-":
        write_file(Path(request.json), json.dumps({**found.to_json(), **facts}, indent=1, allow_nan=False))
    if request.report:
        with working("Drawing the report"):
            names = [str(path.name) for path in (request.data, request.videos) if path is not None]
            title = f"{facts['model']} on {' and '.join(names)}: {_title(found)}"
            about = ImageReport(title, found, measured.predictions, measured.annotations, measured.images, facts)
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


def _print(request: EvalRequest, found: Evaluation, facts: dict[str, Any]) -> None:
    from hoiclip.evaluation.page import percent

    for note in filter(None, (facts["notice"], *found.notes)):
        messages.print(f"Note: {note}", style="yellow")
    if request.json == "-":
        say(json.dumps({**found.to_json(), **facts}, allow_nan=False))
        return
    for split, summary in found.summaries.items():
        rows = [(name, percent(value)) for name, value in summary.items()]
        results.print(table(_summary_title(split, found, facts), ("number", "%"), rows))
    counted = [result for result in found.classes if result.num_gt]
    shown = sorted(counted, key=lambda result: -result.num_gt)[:MAX_CLASSES]
    rows_of_classes = [
        (result.name, percent(result.ap), percent(result.max_recall), result.num_gt, result.num_predictions)
        for result in shown
    ]
    title = f"The {len(shown)} most frequent of {len(counted)} classes"
    results.print(table(title, ("class", "AP %", "recall %", "ground truth", "predicted"), rows_of_classes))


def _summary_title(split: str, found: Evaluation, facts: dict[str, Any]) -> str:
    """Title of a summary. Frames are evaluated by the usual metric, whatever the metric of images is."""
    if split == "films":
        return f"videos, {facts['film_frames']} frames"
    subject = f"{facts['pictures']} images" if "pictures" in facts else f"{facts['film_frames']} frames of videos"
    return f"{_title(found)}, {subject}, {split}"
