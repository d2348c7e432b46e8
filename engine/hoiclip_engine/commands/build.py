"""hoiclip build: a model in fewer bits for this machine, checked against fp32 before any run takes it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hoiclip import __version__
from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import GateFailed, SinkError, UsageError
from hoiclip.torch_extra import require_torch
from hoiclip_engine.backends import BackendName, backend_module, choose, load_backend
from hoiclip_engine.builds import BUILDS, FP32, Build, as_precision, find_build, publish
from hoiclip_engine.calibration import CalibrationConfig, calibration_set, require_source
from hoiclip_engine.commands.console import messages, progress, table, working
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.export import exported_graph
from hoiclip_engine.gate import TOP, MeanPrecisions, Verdict, compare, measured_map, verdict
from hoiclip_engine.measured_set import MeasuredSet, benchmark_of
from hoiclip_engine.precision import Precision
from hoiclip_engine.precision.reduce import REDUCED, Target, reduced
from hoiclip_engine.preprocess import ModelInput, preprocess
from hoiclip_engine.signed_folder import SignedFolder

COMPUTES: Mapping[BackendName, tuple[Precision, ...]] = {
    "torch": ("fp16", "bf16"),
    "openvino": ("int8", "bf16"),
    "onnxruntime": (),
    "tensorrt": ("int8", "fp16"),
    "tensorrt-rtx": ("int8", "fp16"),
}
"""Below fp32. Which of them a machine is fast in, the backend knows."""
TARGET: Mapping[BackendName, Target] = {"openvino": "openvino", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt"}
"""Whose graphs a backend takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What was asked for on the command line."""

    backend: str = "auto"
    precision: str = "auto"
    short_side_px: int | None = None
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    data: Path | None = None
    """Annotated pictures to measure mAP on, instead of the drawn test set."""
    images: Path | None = None
    gate_pictures: int | None = None
    """Of the benchmark at most so many; None: all."""
    force: bool = False
    if_missing: bool = False
    """Nothing is done where a run would take a build that is there."""

    def __post_init__(self) -> None:
        if (self.data is None) != (self.images is None):
            raise UsageError("a benchmark of your own needs both --data FILE.json and --images DIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One build on its way."""

    model: ModelFile
    backend: BackendName
    precision: Precision
    config: EngineConfig
    canvas_hw: tuple[int, int]
    calibrated: list[ModelInput]
    checked: list[ModelInput]
    pictures: dict[str, Any]
    """Which they are."""
    benchmark: MeasuredSet | None


def build(model: ModelFile, request: BuildRequest) -> int:
    """Makes, checks and publishes one build.

    Raises:
        GateFailed: it loses more than its precision may, and is not forced.
        SinkError: it cannot be kept.
        HoiclipError: the source, the backend or the model is not as expected.
    """
    backend = choose(request.backend)
    precision = _precision(backend, request.precision)
    kept = find_build(model, backend, precision) if request.if_missing else None
    if kept is not None and not kept.forced:
        messages.print(f"{model.name} is there in {precision} for {backend}")
        return 0
    require_torch(f"building {model.name}, which is compared with fp32 in torch,")
    job = _prepared(model, backend, precision, request)
    try:
        room = SignedFolder(BUILDS).room()
    except OSError as error:
        raise _cannot_keep(error) from error
    try:
        with working(f"Making {model.name} in {precision} for {backend}"):
            graph = _graph(job, room)
        found = _checked(job, Build(precision=precision, graph=graph))
        messages.print(verdict_table(found))
        if not found.passed and not request.force:
            raise GateFailed(f"{found.failed_by}; nothing is kept: try another precision or --calibrate, or --force it")
        publish(model, backend, precision, graph, _about(job, found))
    except OSError as error:
        raise _cannot_keep(error) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
    taken = "auto takes it" if found.passed else f"only --precision {precision} takes it: it was forced"
    messages.print(f"{model.name} is there in {precision} for {backend}; {taken}")
    return 0


def _graph(job: _Job, room: Path) -> Path | None:
    """None where the backend takes the fp32 graph, or the module, and does the rest itself."""
    target = TARGET.get(job.backend)
    if target is None or job.precision not in REDUCED[target]:
        return None
    samples = [one.arrays() for one in job.calibrated or job.checked]
    return reduced(exported_graph(job.model, job.canvas_hw), target, job.precision, samples, room)


def _precision(backend: BackendName, wanted: str) -> Precision:
    if wanted == "fp32":
        raise UsageError("fp32 needs no build; every run can take it: --precision fp32")
    if wanted != "auto":
        precision = as_precision(wanted)
        if precision not in COMPUTES[backend]:
            known = ", ".join(("fp32", *COMPUTES[backend]))
            raise UsageError(f"{backend} does not compute in {precision}, but in {known}; name another --precision")
        return precision
    fast = backend_module(backend).fast_precisions()
    if not fast:
        raise UsageError(f"{backend} has nothing faster than fp32 on this machine; name a --precision to insist")
    return fast[0]


def _prepared(model: ModelFile, backend: BackendName, precision: Precision, request: BuildRequest) -> _Job:
    require_source(model, request.calibration)
    with progress() as bar:
        task = bar.add_task("pictures", total=None, rate="")
        pictures = calibration_set(request.calibration, lambda: bar.advance(task))
    config = EngineConfig(backend=backend, short_side_px=request.short_side_px)
    engine = Engine(model, config, FP32)
    canvas_hw = engine.canvas_for(*pictures.checked[0].shape[:2])
    size = engine.preprocess_config(canvas_hw)
    return _Job(
        model=model,
        backend=backend,
        precision=precision,
        config=config,
        canvas_hw=canvas_hw,
        calibrated=[preprocess(rgb, size) for rgb in pictures.calibrated] if precision == "int8" else [],
        checked=[preprocess(rgb, size) for rgb in pictures.checked],
        pictures=pictures.about,
        benchmark=_benchmark(model, request),
    )


def _benchmark(model: ModelFile, request: BuildRequest) -> MeasuredSet | None:
    whole = benchmark_of(model, request.data, request.images)
    return whole and replace(whole, annotations=whole.annotations[: request.gate_pictures])


def _checked(job: _Job, made: Build) -> Verdict:
    """The build against eager fp32."""
    with working("Comparing with fp32"):
        reference, engine = (
            load_backend("torch", job.model, job.canvas_hw),
            load_backend(job.backend, job.model, job.canvas_hw, made),
        )
        compared = compare(reference, engine, job.checked, job.model.vocabulary)
        reference.close()
        engine.close()
    if job.benchmark is None or not compared.is_finite:
        return verdict(job.precision, compared)
    eager = _map(job, job.benchmark, replace(job.config, backend="torch"), FP32)
    found = _map(job, job.benchmark, job.config, made)
    maps = MeanPrecisions(pictures=len(job.benchmark.annotations), reference=eager, engine=found)
    return verdict(job.precision, compared, maps)


def _map(job: _Job, benchmark: MeasuredSet, config: EngineConfig, made: Build) -> float:
    with Engine(job.model, config, made) as engine, progress() as bar:
        task = bar.add_task(f"mAP in {made.precision}", total=len(benchmark.annotations), rate="")
        return measured_map(engine.detect, job.model.vocabulary, benchmark, lambda: bar.advance(task))


def _about(job: _Job, found: Verdict) -> dict[str, Any]:
    return {
        "gate": asdict(found),
        "forced": not found.passed,
        "calibration": job.pictures,
        "canvas_hw": job.canvas_hw,
        "hoiclip": __version__,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def verdict_table(found: Verdict) -> Any:
    """What the gate saw, for a person."""
    compared, maps = found.compared, found.mean_precisions
    rows = [
        (f"largest, mean error of {name}", f"{worst:.4f}, {compared.mean_abs_error[name]:.5f}")
        for name, worst in compared.max_abs_error.items()
    ]
    rows.append((f"same among the best {TOP}", f"{compared.agreement:.1%} on {compared.pictures} pictures"))
    if maps is not None:
        rows.append(("mAP in fp32", f"{maps.reference:.2f} on {maps.pictures} pictures"))
        rows.append(("mAP in this", f"{maps.engine:.2f}"))
    rows.append(("gate", found.failed_by or "passed"))
    return table("Compared with fp32", ("what", "value"), rows)


def _cannot_keep(error: OSError) -> SinkError:
    said = error.strerror or str(error)
    return SinkError(f"cannot keep the build: {said} ({error.filename}); free space, or set HOICLIP_CACHE elsewhere")
