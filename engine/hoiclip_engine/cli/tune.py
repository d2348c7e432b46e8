"""hoiclip tune: measures settings of a run on a video of one's own, and prints the command line to use."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hoiclip.core.errors import GateFailed, UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, results, say, table
from hoiclip_engine.cli.distinct_files import model_inputs, require_distinct, source_inputs

if TYPE_CHECKING:
    from hoiclip.core.model_file import ModelFile
    from hoiclip.core.vocabulary import Vocabulary
    from hoiclip.evaluation.video import VideoFrame
    from hoiclip_engine.engine import Engine
    from hoiclip_engine.quantization.builds import Build
    from hoiclip_engine.sources.uri import SourceAddress

EXAMPLES = """\
  hoiclip tune drawn clip.mp4 --target fps=30             the most exact setting with 30 frames a second
  hoiclip tune drawn clip.mp4 --target fps=30,map-loss=1  and at most a point of mAP lost; exit code 6 without one
  hoiclip build drawn && hoiclip tune drawn clip.mp4      with the precisions of this machine
"""
SMALLER = (0.75, 0.5)
"""Short sides beside the training size, as fractions of it."""
CADENCES: tuple[int | Literal["auto"], ...] = (1, "auto", 2, 4)
_SIDE_STEP_PX = 32
_WARM_UP_FRAMES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="NAME|FILE")
    parser.add_argument("source", metavar="SRC", help="a video like those of the run, with or without ground truth")
    options.add_vocabulary(parser)
    options.add_backend(parser, precision=False)
    parser.add_argument(
        "--target",
        default="fps=30",
        metavar="fps=N[,map-loss=P]",
        help="frames a second at least, points of frame mAP lost at most (default: fps=30, and the least loss)",
    )
    parser.add_argument(
        "--max-frames", type=options.positive, default=250, metavar="N", help="frames of the video (default: 250)"
    )
    options.add_json_to(parser, "all settings as JSON")
    parser.add_argument("--plot", type=Path, metavar="PATH.png", help="frames a second against mAP, with the front")


def run(args: argparse.Namespace) -> int:
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.bench.report import require_matplotlib
    from hoiclip_engine.models import find_model
    from hoiclip_engine.sources.source_list import expand_sources

    target = TuningTarget.parse(args.target)
    if args.plot is not None:
        require_matplotlib()
    addresses = expand_sources([args.source])
    if len(addresses) != 1 or addresses[0].kind != "file":
        raise UsageError(f"expected one video file to tune on, found {args.source}; record one of the camera first")
    original = find_model(args.model)
    inputs = [*source_inputs([args.source], addresses), *model_inputs(original, args.vocabulary)]
    require_distinct(inputs, [*{args.json, "-"}, args.plot])
    model = find_model(original, args.vocabulary)
    return tune(load_model_file(model), args.model, addresses[0], args.backend, target, args)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningTarget:
    """What a setting must reach."""

    fps: float
    map_loss: float | None = None
    """Points of frame mAP; None: as little as possible."""

    @staticmethod
    def parse(text: str) -> TuningTarget:
        """Raises UsageError: not of the form fps=N[,map-loss=P]."""
        number = r"(\d{1,6}(?:\.\d{1,3})?)"
        found = re.fullmatch(rf"fps={number}(?:,map-loss={number})?", text, re.ASCII)
        if found is None or not float(found[1]):
            raise UsageError(
                f"expected --target fps=N or fps=N,map-loss=P, such as fps=30,map-loss=1; got {text!r:.60}"
            )
        return TuningTarget(fps=float(found[1]), map_loss=None if found[2] is None else float(found[2]))

    def is_met(self, setting: Setting) -> bool:
        return setting.fps >= self.fps and (self.map_loss is None or setting.map_loss <= self.map_loss)

    def __str__(self) -> str:
        return f"{self.fps:g} frames a second" + (
            "" if self.map_loss is None else f" at a loss of at most {self.map_loss:g} points of mAP"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as it was measured."""

    precision: str
    short_side_px: int
    detect_every: int | Literal["auto"]
    fps: float
    """Frames a second of decoding, inference and tracking, of a file that waits."""
    inferred: float
    """Fraction of the frames."""
    map_loss: float
    """Points of frame mAP lost against inference of every frame in fp32 at the training size."""
    clip_every: int | Literal["auto"] = 1

    def options(self, training_px: int) -> list[str]:
        """Of `hoiclip run`."""
        side = [] if self.short_side_px == training_px else ["--short-side", str(self.short_side_px)]
        every = [] if self.detect_every == 1 else ["--detect-every", str(self.detect_every)]
        clip = [] if self.clip_every == 1 else ["--clip-every", str(self.clip_every)]
        return ["--precision", self.precision, *side, *every, *clip]


def tune(
    model: ModelFile, name: str, address: SourceAddress, backend: str, target: TuningTarget, args: argparse.Namespace
) -> int:
    """Measures all settings and reports them.

    Raises:
        GateFailed: none reaches the target.
        HoiclipError: the video, the backend or the model is not as expected.
    """
    measured = measure_settings(model, address, backend, args.max_frames)
    front = pareto_front(measured)
    chosen = choose(measured, target)
    if args.json:
        _write_json(args.json, measured, front, chosen)
    if args.plot is not None:
        _plot(measured, front, args.plot)
    training_px = model.config.short_side_px
    if args.json != "-":
        results.print(_table(measured, front, chosen, training_px))
    if chosen is None:
        fastest = max(measured, key=lambda setting: setting.fps)
        raise GateFailed(
            f"no setting reaches {target}; the fastest has {fastest.fps:.1f} and loses {fastest.map_loss:.2f} points: "
            "hoiclip build makes faster precisions, hoiclip distill a smaller model"
        )
    words = ["hoiclip", "run", args.source, "--model", name, *([] if backend == "auto" else ["--backend", backend])]
    vocabulary = ["--vocabulary", args.vocabulary] if args.vocabulary else []
    if args.json != "-":
        say(shlex.join([*words, *vocabulary, *chosen.options(training_px)]))
    return 0


def measure_settings(model: ModelFile, address: SourceAddress, backend: str, max_frames: int) -> list[Setting]:
    """All settings on the first frames of a video; the first one is the reference. The best are also measured with CLIP
    at its own cadence, where the backend can."""
    from hoiclip_engine.backends.registry import select_backend
    from hoiclip_engine.engine import Engine, EngineConfig

    def engine_of(build: Build, side_px: int) -> Engine:
        short_side_px = None if side_px == training_px else side_px
        return Engine(model, EngineConfig(backend=name, short_side_px=short_side_px), build)

    name, training_px = select_backend(backend), model.config.short_side_px
    smaller = [_SIDE_STEP_PX * round(fraction * training_px / _SIDE_STEP_PX) for fraction in SMALLER]
    sides = [training_px, *dict.fromkeys(side for side in smaller if 0 < side < training_px)]
    grid = list(itertools.product(_builds(model, name), sides))
    builds: dict[str, Build] = {build.precision: build for build, _ in grid}
    measured, reference = list[Setting](), None
    with progress() as bar:
        task = bar.add_task("settings", total=len(grid) * len(CADENCES), rate="")
        for build, side_px in grid:
            with engine_of(build, side_px) as engine:
                _measure(engine, address, 1, min(max_frames, _WARM_UP_FRAMES))
                for cadence in CADENCES:
                    found = _measure(engine, address, cadence, max_frames)
                    reference = reference or _Reference(engine.vocabulary, address, found)
                    measured.append(
                        Setting(
                            precision=build.precision,
                            short_side_px=side_px,
                            detect_every=cadence,
                            fps=round(found.fps, 2),
                            inferred=round(found.inferred, 3),
                            map_loss=reference.loss(found),
                        )
                    )
                    bar.advance(task)
        assert reference is not None
        front = pareto_front(measured)
        bar.update(task, total=len(measured) + len(front))
        for setting in front:
            bar.advance(task)
            with engine_of(builds[setting.precision], setting.short_side_px) as engine:
                try:
                    _measure(engine, address, 1, min(max_frames, _WARM_UP_FRAMES), clip_every="auto")
                except UsageError:  # the backend cannot
                    continue
                found = _measure(engine, address, setting.detect_every, max_frames, clip_every="auto")
            loss, fps = reference.loss(found), round(found.fps, 2)
            measured.append(replace(setting, fps=fps, map_loss=loss, clip_every="auto"))
    return measured


def _builds(model: ModelFile, backend: Any) -> Iterator[Build]:
    """fp32, and what `hoiclip build` made and passed."""
    from hoiclip_engine.backends.registry import backend_module
    from hoiclip_engine.quantization.builds import FP32, find_build

    yield FP32
    found = [find_build(model, backend, precision) for precision in backend_module(backend).fast_precisions()]
    passed = [build for build in found if build is not None and not build.forced]
    if not passed:
        messages.print(
            f"Note: only fp32 is measured; hoiclip build {model.name} makes faster precisions", style="yellow"
        )
    yield from passed


@dataclass(frozen=True, slots=True)
class _Measured:
    fps: float
    inferred: float
    frames: list[VideoFrame]


def _measure(
    engine: Engine,
    address: SourceAddress,
    cadence: int | Literal["auto"],
    max_frames: int,
    clip_every: int | Literal["auto"] = 1,
) -> _Measured:
    from hoiclip_engine.sinks.hico_sink import video_frame
    from hoiclip_engine.sources.base import SourceConfig
    from hoiclip_engine.streaming.stream import StreamConfig

    config = StreamConfig(policy="lossless", detect_every=cadence, clip_every=clip_every)
    stream = engine.open(address.location, config, SourceConfig(max_frames=max_frames))
    started_s, frames, inferred = time.perf_counter(), [], 0
    for result in stream:
        frames.append(video_frame(result.index, result.pts_s, result.pairs))
        inferred += result.detected
    taken_s = time.perf_counter() - started_s
    return _Measured(len(frames) / taken_s, inferred / max(1, len(frames)), frames)


class _Reference:
    """Ground truth beside the video or, without one, the results of the first setting."""

    def __init__(self, vocabulary: Vocabulary, address: SourceAddress, first: _Measured) -> None:
        from hoiclip.evaluation.video import read_ground_truth

        self._vocabulary, self._name = vocabulary, address.name
        path = Path(address.location).with_suffix(".jsonl")
        if path.is_file():
            self._ground_truth = list(read_ground_truth(path, vocabulary)[: len(first.frames)])
        else:
            active = [np.flatnonzero(frame.verb_active.any(axis=1)) for frame in first.frames]
            self._ground_truth = [frame.rows(rows) for frame, rows in zip(first.frames, active, strict=True)]
        self._map = self._map_of(first)

    def loss(self, found: _Measured) -> float:
        """Points of frame mAP."""
        return round(self._map - self._map_of(found), 2)

    def _map_of(self, found: _Measured) -> float:
        from hoiclip.evaluation.video import align_video, measure_videos

        aligned = align_video(self._name, self._ground_truth, found.frames, len(self._vocabulary.verbs))
        frame_map = measure_videos([aligned], self._vocabulary).frame_map
        return 0.0 if math.isnan(frame_map) else 100 * frame_map


def pareto_front(measured: Sequence[Setting]) -> list[Setting]:
    """Settings that no other beats in both frames a second and mAP, the fastest first."""
    front: list[Setting] = []
    for setting in sorted(measured, key=lambda setting: (-setting.fps, setting.map_loss)):
        if not front or setting.map_loss < front[-1].map_loss:
            front.append(setting)
    return front


def choose(measured: Sequence[Setting], target: TuningTarget) -> Setting | None:
    """Of those that reach the target the one that loses least, and of those that lose alike the fastest."""
    met = [setting for setting in measured if target.is_met(setting)]
    return min(met, key=lambda setting: (setting.map_loss, -setting.fps), default=None)


def _table(measured: Sequence[Setting], front: Sequence[Setting], chosen: Setting | None, training_px: int) -> Any:
    rows = [
        (
            " ".join(setting.options(training_px)),
            f"{setting.fps:.1f}",
            f"{setting.inferred:.0%}",
            f"{setting.map_loss:.2f}",
            "chosen" if setting == chosen else "front" if setting in front else "",
        )
        for setting in sorted(measured, key=lambda setting: -setting.fps)
    ]
    return table("Settings", ("options", "frames/s", "inferred", "mAP lost", ""), rows)


def _write_json(path: str, measured: Sequence[Setting], front: Sequence[Setting], chosen: Setting | None) -> None:
    from hoiclip.core.atomic_write import write_file

    text = json.dumps(
        {
            "settings": [{**asdict(setting), "front": setting in front} for setting in measured],
            "chosen": None if chosen is None else asdict(chosen),
        },
        indent=2,
    )
    if path == "-":
        say(text)
    else:
        write_file(Path(path), text + "\n")


def _plot(measured: Sequence[Setting], front: Sequence[Setting], path: Path) -> None:
    from matplotlib.figure import Figure

    from hoiclip_engine.bench.report import save_figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for precision in dict.fromkeys(setting.precision for setting in measured):
        own = [setting for setting in measured if setting.precision == precision]
        axes.plot([s.fps for s in own], [-s.map_loss for s in own], "o", label=precision)
    axes.plot([s.fps for s in front], [-s.map_loss for s in front], "-", color="grey", linewidth=1, label="front")
    for setting in front:
        clip = "" if setting.clip_every == 1 else f", CLIP {setting.clip_every}"
        label = f"{setting.short_side_px} px, every {setting.detect_every}{clip}"
        axes.annotate(label, (setting.fps, -setting.map_loss), fontsize=7, xytext=(4, 4), textcoords="offset points")
    axes.set(xlabel="frames a second", ylabel="points of frame mAP, relative to fp32 in every frame")
    axes.legend(loc="lower left", fontsize=8)
    save_figure(figure, path)
