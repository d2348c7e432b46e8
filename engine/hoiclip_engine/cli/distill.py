"""hoiclip distill: a small student of a model, from images and videos without annotation."""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import SourceError, UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, results, say, table
from hoiclip_engine.cli.distinct_files import STDIO, model_inputs, require_distinct, source_inputs

if TYPE_CHECKING:
    from hoiclip.core.array_types import RGB
    from hoiclip.core.model_file import ModelFile
    from hoiclip.evaluation.agreement import TripletAgreement
    from hoiclip.training.student import DistillConfig
    from hoiclip.training.teacher import TeacherCache
    from hoiclip_engine.sources.uri import SourceAddress


EXAMPLES = """\
  hoiclip distill hico.safetensors images clip.mp4 -o student.safetensors
  hoiclip distill hico.safetensors videos -o student.safetensors --size small --every 0.5 --steps 20000
  hoiclip distill drawn images -o student.safetensors --data test.json --images test --json report.json
"""
SIZES = ("nano", "small", "medium")
TEACHER_FOLDER = "teacher"
"""Of a run: what the teacher says of each frame."""
_log = logging.getLogger("hoiclip")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("teacher", metavar="TEACHER", help="model name or file")
    parser.add_argument("source", nargs="+", metavar="SRC", help="image, video, folder or list of them, as of a run")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="STUDENT.safetensors")
    options.add_vocabulary(parser)
    parser.add_argument("--size", default="nano", choices=SIZES, help="of the student (default: nano)")
    parser.add_argument("--steps", type=options.positive, default=6000, metavar="N", help="default: 6000")
    parser.add_argument("--seed", type=options.seed, default=0, metavar="S", help="default: 0")
    parser.add_argument(
        "--every", type=options.real, default=1.0, metavar="S", help="seconds between frames of a video (default: 1)"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="folder of the run; an interrupted one resumes (default: STUDENT.run)"
    )
    parser.add_argument(
        "--workers", type=options.workers, default=1, metavar="N", help="data-loading processes (default: 1)"
    )
    options.add_annotated_images(parser, "annotations to measure the mAP of student and teacher on")
    options.add_json_to(parser, "the report as JSON")


def run(args: argparse.Namespace) -> int:
    from hoiclip.core.torch_extra import require_torch

    request = DistillRequest(
        source=tuple(args.source),
        output=args.output,
        run=args.run or args.output.with_suffix(".run"),
        every_s=args.every,
        workers=args.workers,
        data=args.data,
        images=args.images,
        json=args.json,
    )
    require_torch("distillation")
    from hoiclip.core.model_file import load_model_file
    from hoiclip.training.student import DistillConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.sources.source_list import expand_sources

    addresses, teacher = expand_sources(args.source), find_model(args.teacher)
    _require_files(addresses)
    read = [*source_inputs(args.source, addresses), *model_inputs(teacher, args.vocabulary), args.data, args.images]
    require_distinct(read, request.written(), [request.run], args.source)
    config = DistillConfig(size=args.size, steps=args.steps, seed=args.seed)
    return distill(load_model_file(find_model(teacher, args.vocabulary)), addresses, config, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillRequest:
    """Options of the command, besides those that change the student."""

    source: tuple[str, ...]
    output: Path
    run: Path
    every_s: float = 1.0
    workers: int = 0
    data: Path | None = None
    images: Path | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        if self.output.suffix != ".safetensors":
            raise UsageError(f"a model file ends in .safetensors, got {self.output}")
        if self.every_s <= 0:
            raise UsageError(f"--every must be more than 0 seconds, got {self.every_s:g}")
        if (self.data is None) != (self.images is None):
            raise UsageError("mAP needs both --data FILE.json and --images DIR")

    def written(self) -> list[Path | str]:
        """Files that are written, but for frames, whose names no file has by chance."""
        files = [self.run / name for name in ("log.jsonl", "checkpoint.pt", "curves.png")]
        return [self.output, *files, *([self.json] if self.json else [])]


def distill(
    teacher: ModelFile, addresses: Sequence[SourceAddress], config: DistillConfig, request: DistillRequest
) -> int:
    """The command.

    Raises:
        HoiclipError: see distill_model; or no source has a frame that can be read, or annotations are damaged.
    """
    import torch

    from hoiclip.core.model_file import load_model_file
    from hoiclip.evaluation.image_loop import benchmark_set, evaluate_module
    from hoiclip.training.student import distill_model, split_frames
    from hoiclip.training.teacher import TeacherCache

    annotated = None if request.data is None else benchmark_set(teacher, request.data, request.images)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = TeacherCache(request.run / TEACHER_FOLDER, teacher, device)
    frames = split_frames(teach(cache, addresses, request.every_s))
    with progress() as bar:
        task = bar.add_task("steps", total=config.steps, rate="")

        def report(step: int, numbers: Mapping[str, float]) -> None:
            bar.update(task, completed=step, rate=f"loss {numbers['total']:.2f}")

        agreement = distill_model(
            teacher, frames, request.run, request.output, config, workers=request.workers, progress=report
        )
    models = {"teacher": teacher, "student": load_model_file(request.output)}
    facts = _facts(models, config, len(frames.training), agreement)
    if annotated is not None:
        for name, model in models.items():
            module = model.build().to(device)
            facts[name]["mAP"] = evaluate_module(module, teacher.vocabulary, annotated)["mAP"]
    _report(facts, request)
    return 0


def teach(cache: TeacherCache, addresses: Sequence[SourceAddress], every_s: float) -> list[list[Path]]:
    """The teacher's outputs for each source, inferred where they are not there yet. Damaged sources are left out.

    Raises:
        SourceError: no source can be read.
    """
    by_source: list[list[Path]] = []
    damaged: list[SourceError] = []
    with progress() as bar:
        task = bar.add_task("teacher", total=len(addresses), rate="")
        count = 0

        def on_frame() -> None:
            nonlocal count
            count += 1
            bar.update(task, rate=f"{count} frames")

        for address in addresses:
            path = Path(address.location)
            try:
                by_source.append(cache.frames_of(f"{_sha256(path)} {every_s:g}", _opener(path, every_s), on_frame))
            except SourceError as error:
                damaged.append(error)
            bar.advance(task)
    if not by_source:
        raise damaged[0]
    if damaged:
        _log.warning("left out: %d of %d sources, first: %s", len(damaged), len(addresses), damaged[0])
    return by_source


def _sha256(path: Path) -> str:
    from hoiclip.core.model_file import file_sha256
    from hoiclip_engine.sources.container import resolve_regular_file

    return file_sha256(resolve_regular_file(path))


def _opener(path: Path, every_s: float) -> Callable[[], Iterator[RGB]]:
    return lambda: _frames(path, every_s)


def _frames(path: Path, every_s: float) -> Iterator[RGB]:
    """The first frame, and then the first at or after every multiple of the interval."""
    from hoiclip_engine.sources.file import open_video

    with open_video(path) as video:
        first_s, taken = 0.0, -1
        for frame in video:
            first_s = frame.pts_s if taken < 0 else first_s
            interval = math.floor((frame.pts_s - first_s) / every_s)
            if interval > taken:
                taken = interval
                yield frame.rgb


def _require_files(addresses: Sequence[SourceAddress]) -> None:
    for address in addresses:
        if address.kind != "file":
            raise UsageError(f"expected image and video files, found {address.name}; record it into a file first")


def _facts(
    models: Mapping[str, ModelFile], config: DistillConfig, num_frames: int, agreement: TripletAgreement
) -> dict[str, Any]:
    return {
        **{
            role: {"path": str(model.path), "sha256": model.sha256(), "parameters": model.num_parameters()}
            for role, model in models.items()
        },
        "size": config.size,
        "steps": config.steps,
        "seed": config.seed,
        "frames": num_frames,
        "agreement": agreement.to_json(),
    }


def _report(facts: Mapping[str, Any], request: DistillRequest) -> None:
    from hoiclip.core.atomic_write import write_file

    if request.json and request.json != STDIO:
        write_file(Path(request.json), json.dumps(facts, indent=1, allow_nan=False) + "\n")
    if request.json == STDIO:
        say(json.dumps(facts, allow_nan=False))
    else:
        results.print(table("", ("measurement", "value"), _rows(facts)))
    messages.print(f"Wrote {request.output}, with its log and curves in {request.run}")


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    teacher, student, agreement = facts["teacher"], facts["student"], facts["agreement"]
    yield "parameters of teacher, student", f"{teacher['parameters'] / 1e6:.1f} M, {student['parameters'] / 1e6:.1f} M"
    yield "frames learned from", str(facts["frames"])
    yield "frames compared on", str(agreement["images"])
    yield "teacher's triplets found by the student", _percent(agreement["recall"])
    yield "student's triplets found by the teacher", _percent(agreement["precision"])
    yield "agreement (F1)", _percent(agreement["f1"])
    correlation = agreement["rank_correlation"]
    yield "rank correlation of scores", "-" if correlation is None else f"{correlation:.3f}"
    if "mAP" in student:
        yield "mAP of teacher, student", f"{teacher['mAP']:.2f}, {student['mAP']:.2f}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.1%}"
