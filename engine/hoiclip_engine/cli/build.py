"""hoiclip build: a model in fp16, bf16 or int8 for this machine, checked against fp32 and timed beside it."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
    from hoiclip_engine.backends.base import Backend, BackendName, Precision
    from hoiclip_engine.engine import EngineConfig
    from hoiclip_engine.quantization.accuracy_gate import GateVerdict
    from hoiclip_engine.quantization.builds import Build, MeasuredSpeed
    from hoiclip_engine.quantization.calibration import CalibrationConfig
    from hoiclip_engine.quantization.quantize import TargetRuntime


EXAMPLES = """\
  hoiclip build drawn                                     all precisions of this machine; runs take the fastest
  hoiclip build hico.safetensors --calibrate clip.mp4 --data test.json --images test
  hoiclip build drawn --precision int8 --if-missing
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="NAME|FILE")
    options.add_vocabulary(parser)
    options.add_backend(parser, default_precision="all that this machine accelerates")
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


BACKEND_PRECISIONS: Mapping[BackendName, tuple[Precision, ...]] = {
    "torch": ("fp16", "bf16"),
    "openvino": ("int8", "bf16"),
    "onnxruntime": (),
    "tensorrt": ("int8", "fp16"),
    "tensorrt-rtx": ("int8", "fp16"),
}
"""Precisions below fp32; the backend knows which of them a machine accelerates."""
TARGET_OF_BACKEND: Mapping[BackendName, TargetRuntime] = {
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt",
}
"""The runtime whose quantized graphs a backend takes."""


def _default_calibration() -> CalibrationConfig:
    from hoiclip_engine.quantization.calibration import CalibrationConfig

    return CalibrationConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """The options of the command line."""

    backend: str = "auto"
    precision: str = "auto"
    short_side_px: int | None = None
    calibration: CalibrationConfig = field(default_factory=_default_calibration)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _BuildJob:
    """What all builds of a command share."""

    model: ModelFile
    backend: BackendName
    config: EngineConfig
    padded_hw: tuple[int, int]
    calibrated: list[ModelInput]
    checked: list[ModelInput]
    calibration: dict[str, Any]
    """The record of the calibration set."""
    benchmark: EvaluationSet | None


def build(model: ModelFile, request: BuildRequest) -> int:
    """Makes, checks and times builds, and publishes those that are accurate enough.

    Raises:
        GateFailed: each loses more than its precision may, and none is forced.
        SinkError: one cannot be kept.
        HoiclipError: the source, the backend or the model is not as expected.
    """
    from hoiclip_engine.backends.registry import select_backend
    from hoiclip_engine.cache.signed_store import SignedStore
    from hoiclip_engine.quantization.builds import BUILDS_KIND, find_build, publish_build

    backend = select_backend(request.backend)
    precisions = _precisions(backend, request.precision)
    for precision in precisions if request.if_missing else ():
        existing = find_build(model, backend, precision)
        if existing is not None and not existing.forced:
            messages.print(f"{model.name} exists in {precision} for {backend}")
            return 0
    require_torch(f"building {model.name}, which is compared with fp32 in torch,")
    job = _prepare(model, backend, precisions, request)
    try:
        folder = SignedStore(BUILDS_KIND).make_staging_folder()
    except OSError as error:
        raise _cannot_keep(error) from error
    try:
        checked = _make_and_check(job, precisions, folder)
        kept = [(build, verdict) for build, verdict in checked if verdict.passed or request.force]
        if not kept:
            reasons = "; ".join(verdict.failed_by for _, verdict in checked)
            raise GateFailed(f"{reasons}; nothing is kept: try another precision or --calibrate, or --force it")
        speeds = _measure_speeds(job, [build for build, _ in kept])
        for build, verdict in kept:
            publish_build(model, backend, build.precision, build.graph, _record(job, verdict, speeds[build.precision]))
    except OSError as error:
        raise _cannot_keep(error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    messages.print(_speed_table(speeds))
    messages.print(_conclusion(model, backend, kept))
    return 0


def _make_and_check(
    job: _BuildJob, precisions: Sequence[Precision], folder: Path
) -> Sequence[tuple[Build, GateVerdict]]:
    """Builds with their verdicts. One that cannot be made does not keep the others from being made.

    Raises:
        HoiclipError: none can be made; that of the last one.
    """
    from hoiclip_engine.quantization.builds import Build

    gate = _Gate(job)
    checked: list[tuple[Build, GateVerdict]] = []
    for precision in precisions:
        (folder / precision).mkdir()
        try:
            with working(f"Making {job.model.name} in {precision} for {job.backend}"):
                build = Build(precision=precision, graph=_make_graph(job, precision, folder / precision))
            verdict = gate.verdict(build)
        except HoiclipError as error:
            if precision == precisions[-1] and not checked:
                raise
            messages.print(f"there will be no build in {precision}: {error}")
            continue
        messages.print(verdict_table(precision, verdict))
        checked.append((build, verdict))
    return checked


def _make_graph(job: _BuildJob, precision: Precision, folder: Path) -> Path | None:
    """None where the backend takes the fp32 graph, or the module, and does the rest itself."""
    from hoiclip_engine.cache.artifacts import exported_graph
    from hoiclip_engine.quantization.quantize import QUANTIZED_PRECISIONS, quantize_graph

    target = TARGET_OF_BACKEND.get(job.backend)
    if target is None or precision not in QUANTIZED_PRECISIONS[target]:
        return None
    samples = [model_input.arrays() for model_input in job.calibrated or job.checked]
    return quantize_graph(exported_graph(job.model, job.padded_hw), target, precision, samples, folder)


def _precisions(backend: BackendName, wanted: str) -> Sequence[Precision]:
    """Those to build; for "auto" all that this machine accelerates."""
    from hoiclip_engine.backends.registry import backend_module
    from hoiclip_engine.quantization.builds import parse_precision

    if wanted == "fp32":
        raise UsageError("fp32 needs no build; every run can take it: --precision fp32")
    if wanted != "auto":
        precision = parse_precision(wanted)
        if precision not in BACKEND_PRECISIONS[backend]:
            known = ", ".join(("fp32", *BACKEND_PRECISIONS[backend]))
            raise UsageError(f"{backend} does not compute in {precision}, but in {known}; name another --precision")
        return (precision,)
    fast = backend_module(backend).fast_precisions()
    if not fast:
        raise UsageError(f"{backend} has nothing faster than fp32 on this machine; name a --precision to insist")
    return fast


def _prepare(
    model: ModelFile, backend: BackendName, precisions: Sequence[Precision], request: BuildRequest
) -> _BuildJob:
    from hoiclip.core.preprocess import preprocess
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.quantization.builds import FP32
    from hoiclip_engine.quantization.calibration import calibration_set, require_source

    require_source(model, request.calibration)
    with progress() as bar:
        task = bar.add_task("images", total=None, rate="")
        images = calibration_set(request.calibration, lambda: bar.advance(task))
    config = EngineConfig(backend=backend, short_side_px=request.short_side_px)
    engine = Engine(model, config, FP32)
    padded_hw = engine.padded_size_for(*images.checked[0].shape[:2])
    size = engine.preprocess_config(padded_hw)
    return _BuildJob(
        model=model,
        backend=backend,
        config=config,
        padded_hw=padded_hw,
        calibrated=[preprocess(rgb, size) for rgb in images.calibrated] if "int8" in precisions else [],
        checked=[preprocess(rgb, size) for rgb in images.checked],
        calibration=images.about,
        benchmark=_benchmark(model, request),
    )


def _benchmark(model: ModelFile, request: BuildRequest) -> EvaluationSet | None:
    from hoiclip.evaluation.image_loop import benchmark_set

    benchmark = benchmark_set(model, request.data, request.images)
    return benchmark and replace(benchmark, annotations=benchmark.annotations[: request.gate_images])


class _Gate:
    """Compares builds with eager fp32."""

    def __init__(self, job: _BuildJob) -> None:
        self._job = job
        self._eager_map: float | None = None

    def verdict(self, build: Build) -> GateVerdict:
        from hoiclip_engine.backends.registry import load_backend
        from hoiclip_engine.quantization.accuracy_gate import MeanPrecisions, compare_backends, gate_verdict
        from hoiclip_engine.quantization.builds import FP32

        job = self._job
        with working("Comparing with fp32"):
            reference, engine = load_backend("torch", job.model, job.padded_hw), _load(job, build)
            compared = compare_backends(reference, engine, job.checked, job.model.vocabulary)
            reference.close()
            engine.close()
        if job.benchmark is None or not compared.is_finite:
            return gate_verdict(build.precision, compared)
        if self._eager_map is None:
            self._eager_map = _measure_map(job, job.benchmark, replace(job.config, backend="torch"), FP32)
        maps = MeanPrecisions(
            num_images=len(job.benchmark.annotations),
            reference=self._eager_map,
            engine=_measure_map(job, job.benchmark, job.config, build),
        )
        return gate_verdict(build.precision, compared, maps)


def _load(job: _BuildJob, build: Build) -> Backend:
    from hoiclip_engine.backends.registry import load_backend

    return load_backend(job.backend, job.model, job.padded_hw, build.precision, build.graph)


def _measure_map(job: _BuildJob, benchmark: EvaluationSet, config: EngineConfig, build: Build) -> float:
    from hoiclip_engine.engine import Engine
    from hoiclip_engine.quantization.accuracy_gate import measure_map

    with Engine(job.model, config, build) as engine, progress() as bar:
        task = bar.add_task(f"mAP in {build.precision}", total=len(benchmark.annotations), rate="")
        return measure_map(engine.detect, job.model.vocabulary, benchmark, lambda: bar.advance(task))


def _measure_speeds(job: _BuildJob, builds: Sequence[Build]) -> Mapping[Precision, MeasuredSpeed]:
    """Times of one image against fp32 on the same backend, in turns."""
    from hoiclip_engine.bench.turns import speeds_in_turns
    from hoiclip_engine.quantization.builds import FP32

    backends = {build.precision: _load(job, build) for build in (FP32, *builds)}
    try:
        with working("Timing in turns with fp32"):
            calls = {precision: partial(backend, job.checked[0]) for precision, backend in backends.items()}
            return speeds_in_turns(calls, base="fp32")
    finally:
        for backend in backends.values():
            backend.close()


def _record(job: _BuildJob, verdict: GateVerdict, speed: MeasuredSpeed) -> dict[str, Any]:
    from hoiclip import __version__

    return {
        "gate": verdict.to_json(),
        "forced": not verdict.passed,
        "speed": asdict(speed),
        "calibration": job.calibration,
        "canvas_hw": job.padded_hw,
        "hoiclip": __version__,
        "made": utc_text(),
    }


def _conclusion(model: ModelFile, backend: BackendName, kept: Sequence[tuple[Build, GateVerdict]]) -> str:
    from hoiclip_engine.quantization.builds import select_build

    names = " and ".join(build.precision for build, _ in kept)
    taken = select_build(model, backend, "auto").precision
    forced = [build.precision for build, verdict in kept if not verdict.passed]
    only = f"; only --precision {forced[0]} takes what was forced" if forced else ""
    slower = "; nothing else is faster here" if taken == "fp32" else ""
    return f"{model.name} exists in {names} for {backend}; auto takes {taken}{slower}{only}"


def _speed_table(speeds: Mapping[Precision, MeasuredSpeed]) -> Any:
    rows = [
        (precision, f"{speed.median_ms:.2f}", f"{1 / speed.ratio:.2f} ({1 / speed.high:.2f} to {1 / speed.low:.2f})")
        for precision, speed in speeds.items()
    ]
    return table("One image, timed in turns with fp32", ("precision", "ms", "times as fast as fp32"), rows)


def verdict_table(precision: Precision, verdict: GateVerdict) -> Any:
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
    return table(f"{precision} compared with fp32", ("measurement", "value"), rows)


def _cannot_keep(error: OSError) -> SinkError:
    reason = error.strerror or str(error)
    return SinkError(f"cannot keep the build: {reason} ({error.filename}); free space, or set HOICLIP_CACHE elsewhere")
