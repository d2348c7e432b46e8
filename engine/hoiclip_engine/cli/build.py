"""hoiclip build: a model in fp16, bf16 or int8 for this machine, checked against fp32 and timed beside it.

One backend is built for, the one that "auto" stands for: what it takes is known beforehand, and nothing else is loaded.
Only `--backend all` also loads the others, each with a copy of the model, and times all of them in turns.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import GateFailed, HoiclipError, SinkError, UsageError
from hoiclip.core.torch_extra import require_torch
from hoiclip.core.wall_time import utc_text
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, table, working

if TYPE_CHECKING:
    from hoiclip.core.model_file import ModelFile
    from hoiclip.core.preprocess import ModelInput
    from hoiclip.data.images import EvaluationSet
    from hoiclip_engine.backends.base import BackendName, Precision
    from hoiclip_engine.bench.regression_gate import TimedBlock
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.quantization.accuracy_gate import GateVerdict
    from hoiclip_engine.quantization.builds import Build, MeasuredSpeed
    from hoiclip_engine.quantization.calibration import CalibrationConfig

    Blocks = Mapping[tuple[BackendName, Precision], Sequence[TimedBlock]]

EXAMPLES = """\
  hoiclip build drawn                                     all precisions of this machine; runs take the fastest
  hoiclip build hico.safetensors --calibrate clip.mp4 --data test.json --images test
  hoiclip build drawn --precision int8 --if-missing
  hoiclip build drawn --backend all                       every backend that runs here, too; runs take the fastest
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="NAME|FILE")
    options.add_vocabulary(parser)
    options.add_backend(parser, default_precision="all that this machine accelerates", several=True)
    options.add_calibration(parser)
    options.add_short_side(parser)
    options.add_annotated_images(parser, "annotations to measure mAP on")
    parser.add_argument(
        "--gate-pictures",
        dest="gate_images",
        type=options.positive,
        metavar="N",
        help="images that the accuracy gate measures (default: all)",
    )
    parser.add_argument("--if-missing", action="store_true", help="do nothing where a build exists that a run takes")
    parser.add_argument("--force", action="store_true", help="keep it even if it loses too much; it is marked as such")


def run(args: argparse.Namespace) -> int:
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.models import find_model
    from hoiclip_engine.quantization.calibration import CalibrationConfig

    request = BuildRequest(
        backend=args.backend,
        precision=args.precision,
        short_side_px=args.short_side,
        calibration=CalibrationConfig(source=args.calibrate, count=args.calibration_images, seed=args.seed),
        data=args.data,
        images=args.images,
        gate_images=args.gate_images,
        force=args.force,
        if_missing=args.if_missing,
    )
    return build(load_model_file(find_model(args.model, args.vocabulary)), request)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """The options of the command line."""

    calibration: CalibrationConfig
    backend: str = "auto"
    """One backend, or "all" that run here."""
    precision: str = "auto"
    short_side_px: int | None = None
    data: Path | None = None
    """Annotated images to measure mAP on, instead of the synthetic test set."""
    images: Path | None = None
    gate_images: int | None = None
    """Largest number of images of the benchmark; None: all."""
    force: bool = False
    if_missing: bool = False
    """Do nothing where a run would take an existing build."""

    def __post_init__(self) -> None:
        if (self.data is None) != (self.images is None):
            raise UsageError("a benchmark of your own needs both --data FILE.json and --images DIR")

    @property
    def compares_backends(self) -> bool:
        return self.backend == "all"

    @property
    def may_build_nothing(self) -> bool:
        """Whether it does its work where no build is kept: fp32 of several backends is timed."""
        return self.compares_backends and self.precision in ("auto", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class _BuildJob:
    """What all builds of a command share."""

    model: ModelFile
    wanted: Mapping[BackendName, Sequence[Precision]]
    """Precisions to build for each backend to time; beside the first backend's fp32 all others are timed."""
    config: EngineConfig
    padded_hw: tuple[int, int]
    calibrated: list[ModelInput]
    checked: list[ModelInput]
    calibration: dict[str, Any]
    """The record of the calibration set."""
    benchmark: EvaluationSet | None

    @property
    def base(self) -> BackendName:
        return next(iter(self.wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class _CheckedBuild:
    backend: BackendName
    build: Build
    verdict: GateVerdict


def build(model: ModelFile, request: BuildRequest) -> int:
    """Makes, checks and times builds, and publishes those that are accurate enough.

    Raises:
        GateFailed: each loses more than its precision may, and none is forced.
        SinkError: one cannot be kept.
        HoiclipError: the source, the backend or the model is not as expected.
    """
    from hoiclip_engine.cache.signed_store import SignedStore
    from hoiclip_engine.quantization.builds import BUILDS_KIND

    wanted = _wanted(request)
    if request.if_missing and (existing := _existing(model, request, wanted)):
        messages.print(existing)
        return 0
    require_torch(f"building {model.name}, which is compared with fp32 in torch,")
    job = _prepare(model, wanted, request)
    try:
        folder = SignedStore(BUILDS_KIND).make_staging_folder()
    except OSError as error:
        raise _cannot_keep(error) from error
    try:
        checked = _make_and_check(job, folder, request)
        kept = [each for each in checked if each.verdict.passed or request.force]
        if not kept and not request.may_build_nothing:
            reasons = "; ".join(each.verdict.failed_by for each in checked)
            raise GateFailed(f"{reasons}; nothing is kept: try another precision or --calibrate, or --force it")
        blocks = _time_in_turns(job, kept)
        kept = [each for each in kept if (each.backend, each.build.precision) in blocks]
        _publish(job, kept, blocks, request)
    except OSError as error:
        raise _cannot_keep(error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    messages.print(_speed_table(job.base, blocks))
    messages.print(_conclusion(model, request, job.base, kept))
    return 0


def _existing(model: ModelFile, request: BuildRequest, wanted: Mapping[BackendName, Sequence[Precision]]) -> str | None:
    """One line about what a run would take already."""
    from hoiclip_engine.quantization.builds import find_build, find_speeds

    base, precisions = next(iter(wanted.items()))
    if request.compares_backends:
        return None if find_speeds(model, base) is None else f"{model.name} was timed with all backends"
    for precision in precisions:
        existing = find_build(model, base, precision)
        if existing is not None and not existing.forced:
            return f"{model.name} exists in {precision} for {base}"
    return None


def _make_and_check(job: _BuildJob, folder: Path, request: BuildRequest) -> Sequence[_CheckedBuild]:
    """Builds with their verdicts. One that cannot be made does not keep the others from being made.

    Raises:
        HoiclipError: none can be made; that of the last one.
    """
    from hoiclip_engine.quantization.accuracy_gate import AccuracyGate
    from hoiclip_engine.quantization.builds import Build
    from hoiclip_engine.quantization.quantize import quantize_for

    samples = [model_input.arrays() for model_input in job.calibrated or job.checked]
    gate = AccuracyGate(job.model, job.config, job.padded_hw, job.checked, job.benchmark)
    checked: list[_CheckedBuild] = []
    each_wanted = [(backend, precision) for backend, precisions in job.wanted.items() for precision in precisions]
    for backend, precision in each_wanted:
        place = folder / f"{backend}-{precision}"
        place.mkdir()
        try:
            with working(f"Making {job.model.name} in {precision} for {backend}"):
                graph = quantize_for(backend, precision, job.model, job.padded_hw, samples, place)
            build = Build(precision=precision, graph=graph)
            with progress() as bar:
                task = bar.add_task("Comparing with fp32", total=None, rate="")
                verdict = gate.verdict(backend, build, partial(bar.advance, task))
        except HoiclipError as error:
            is_last = (backend, precision) == each_wanted[-1]
            if is_last and not checked and not request.may_build_nothing:
                raise
            messages.print(f"there will be no build in {precision} for {backend}: {error}")
            continue
        messages.print(verdict_table(f"{precision} for {backend}", verdict))
        checked.append(_CheckedBuild(backend=backend, build=build, verdict=verdict))
    return checked


def _wanted(request: BuildRequest) -> Mapping[BackendName, Sequence[Precision]]:
    """Precisions to build for one backend, or for each that runs here: at the front the one that "auto" ranks first.

    Raises:
        UsageError: nothing to do.
    """
    from hoiclip_engine.backends import registry

    names = [registry.select_backend("auto" if request.compares_backends else request.backend)]
    if request.compares_backends:
        names = list(dict.fromkeys([*names, *registry.runnable_backends(messages.print)]))
    wanted: dict[BackendName, Sequence[Precision]] = {}
    for name in names:
        fast, known = registry.backend_module(name).fast_precisions(), registry.BACKEND_PRECISIONS[name]
        wanted[name] = fast if request.precision == "auto" else [each for each in known if each == request.precision]
    if any(wanted.values()) or (request.may_build_nothing and len(names) > 1):
        return wanted
    if request.precision == "fp32":
        raise UsageError("fp32 needs no build; every run can take it: --precision fp32")
    several = " and ".join(names)
    if request.precision == "auto":
        others = "" if request.compares_backends else ", or --backend all to time the other backends"
        raise UsageError(
            f"{several} has nothing faster than fp32 on this machine; name a --precision to insist{others}"
        )
    computes = ", ".join(("fp32", *(precision for name in names for precision in registry.BACKEND_PRECISIONS[name])))
    raise UsageError(f"{several} does not compute in {request.precision}, but in {computes}; name another --precision")


def _prepare(model: ModelFile, wanted: Mapping[BackendName, Sequence[Precision]], request: BuildRequest) -> _BuildJob:
    from hoiclip.core.preprocess import preprocess
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.quantization.builds import FP32
    from hoiclip_engine.quantization.calibration import calibration_set, require_source

    require_source(model, request.calibration)
    with progress() as bar:
        task = bar.add_task("images", total=None, rate="")
        images = calibration_set(request.calibration, lambda: bar.advance(task))
    config = EngineConfig(short_side_px=request.short_side_px)
    engine = Engine(model, config, FP32)
    padded_hw = engine.padded_size_for(*images.checked[0].shape[:2])
    size = engine.preprocess_config(padded_hw)
    is_calibrated = any("int8" in precisions for precisions in wanted.values())
    return _BuildJob(
        model=model,
        wanted=wanted,
        config=config,
        padded_hw=padded_hw,
        calibrated=[preprocess(rgb, size) for rgb in images.calibrated] if is_calibrated else [],
        checked=[preprocess(rgb, size) for rgb in images.checked],
        calibration=images.about,
        benchmark=_benchmark(model, request),
    )


def _benchmark(model: ModelFile, request: BuildRequest) -> EvaluationSet | None:
    from hoiclip.evaluation.image_loop import benchmark_set

    benchmark = benchmark_set(model, request.data, request.images)
    return benchmark and replace(benchmark, annotations=benchmark.annotations[: request.gate_images])


def _time_in_turns(job: _BuildJob, kept: Sequence[_CheckedBuild]) -> Blocks:
    """Times of one image with every build and with fp32 of every backend. What does not load is left out.

    Raises:
        HoiclipError: the first backend, beside which the others are timed, does not load.
    """
    from hoiclip_engine.backends.registry import load_backend
    from hoiclip_engine.bench.turns import blocks_in_turns
    from hoiclip_engine.quantization.builds import FP32

    calls: dict[tuple[BackendName, Precision], Callable[[], object]] = {}
    with ExitStack() as stack, working("Timing in turns with fp32"):
        for backend, build in [*((name, FP32) for name in job.wanted), *((each.backend, each.build) for each in kept)]:
            if build is not FP32 and (backend, "fp32") not in calls:
                continue
            try:
                loaded = load_backend(backend, job.model, job.padded_hw, build.precision, build.graph)
            except HoiclipError as error:
                if backend == job.base:
                    raise
                messages.print(f"{backend} is not timed in {build.precision}: {error}")
                continue
            stack.callback(loaded.close)
            calls[backend, build.precision] = partial(loaded, job.checked[0])
        return blocks_in_turns(calls)


def _publish(job: _BuildJob, kept: Sequence[_CheckedBuild], blocks: Blocks, request: BuildRequest) -> None:
    """Keeps the builds, each with its speed beside fp32 on its backend, and the speeds of backends beside each other.

    Raises:
        OSError: the cache cannot be written.
    """
    from hoiclip import __version__
    from hoiclip_engine.bench.turns import speed_beside
    from hoiclip_engine.quantization.builds import publish_build, publish_speeds

    made = {"canvas_hw": job.padded_hw, "hoiclip": __version__, "made": utc_text()}
    for each in kept:
        name, build, verdict = each.backend, each.build, each.verdict
        about = {
            "gate": verdict.to_json(),
            "forced": not verdict.passed,
            "speed": asdict(speed_beside(blocks[name, "fp32"], blocks[name, build.precision])),
            "calibration": job.calibration,
        }
        publish_build(job.model, name, build.precision, build.graph, {**about, **made})
    if request.compares_backends:
        speeds: dict[BackendName, dict[Precision, MeasuredSpeed]] = {}
        for (name, precision), timed in blocks.items():
            if name != job.base:
                speeds.setdefault(name, {})[precision] = speed_beside(blocks[job.base, "fp32"], timed)
        publish_speeds(job.model, job.base, speeds, made)


def _conclusion(model: ModelFile, request: BuildRequest, base: BackendName, kept: Sequence[_CheckedBuild]) -> str:
    """What exists now, and what runs take of it."""
    from hoiclip_engine.quantization.builds import select, select_build

    exists = [f"{each.build.precision} for {each.backend}" for each in kept]
    was_made = f"{model.name} exists in {' and '.join(exists)}; " if exists else ""
    if request.backend == base:
        taken = f"--backend {base} takes {select_build(model, base, 'auto').precision}"
    else:
        selection = select(model)
        slower = "" if selection.speed is not None else "; nothing else is faster here"
        taken = f"auto takes {selection.build.precision} with {selection.backend}{slower}"
    forced = [each.build.precision for each in kept if not each.verdict.passed]
    only = f"; only --precision {forced[0]} takes what was forced" if forced else ""
    return f"{was_made}{taken}{only}"


def _speed_table(base: BackendName, blocks: Blocks) -> Any:
    from hoiclip_engine.bench.turns import speed_beside

    speeds = {name: speed_beside(blocks[base, "fp32"], timed) for name, timed in blocks.items()}
    rows = [
        (*name, f"{speed.median_ms:.2f}", f"{1 / speed.ratio:.2f} ({1 / speed.high:.2f} to {1 / speed.low:.2f})")
        for name, speed in speeds.items()
    ]
    columns = ("backend", "precision", "ms", f"times as fast as fp32 with {base}")
    return table("One image, timed in turns", columns, rows)


def verdict_table(name: str, verdict: GateVerdict) -> Any:
    """The measurements and the verdict of the gate, for a terminal."""
    from hoiclip_engine.quantization.accuracy_gate import TOP_TRIPLETS

    compared, maps = verdict.compared, verdict.mean_precisions
    rows = [
        (f"largest, mean error of {name}", f"{worst:.4f}, {compared.mean_abs_error[name]:.5f}")
        for name, worst in compared.max_abs_error.items()
    ]
    rows.append((f"same among the best {TOP_TRIPLETS}", f"{compared.agreement:.1%} on {compared.num_images} images"))
    if maps is not None:
        rows.append(("mAP in fp32", f"{maps.reference:.2f} on {maps.num_images} images"))
        rows.append(("mAP of the build", f"{maps.engine:.2f}"))
    rows.append(("accuracy gate", verdict.failed_by or "passed"))
    return table(f"{name} compared with fp32", ("measurement", "value"), rows)


def _cannot_keep(error: OSError) -> SinkError:
    reason = error.strerror or str(error)
    return SinkError(f"cannot keep the build: {reason} ({error.filename}); free space, or set HOICLIP_CACHE elsewhere")
