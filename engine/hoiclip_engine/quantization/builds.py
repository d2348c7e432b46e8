"""Builds: models in fp16, bf16 or int8, made and checked on this machine by `hoiclip build`; a run takes no others.

A build is a record of the model, the calibration, the verdict of the accuracy gate and the speed beside fp32, with the
quantized graph where it has one. `hoiclip build --backend all` also records the speed of every other backend beside the
one that "auto" stands for by rank. What "auto" takes is chosen here, by these records.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hoiclip.core.cache_dirs import cache_base
from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip.core.model_file import ModelFile
from hoiclip_engine.backends.base import PRECISIONS, BackendName, Precision
from hoiclip_engine.backends.cpu import cpu_count
from hoiclip_engine.backends.registry import backend_module, select_backend
from hoiclip_engine.cache.signed_store import SignedStore
from hoiclip_engine.export.graph_spec import GRAPH_VERSION
from hoiclip_engine.quantization.quantize import policy_text

BUILDS_KIND = "builds"
RECORD_VERSION = 2
"""2: with the measured speed."""
SPEEDS_VERSION = 1
_log = logging.getLogger("hoiclip")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpeed:
    """Time of one image, measured in turns with fp32 on the same backend, or on another one."""

    median_ms: float
    ratio: float
    """Time divided by that of fp32: below 1 it is faster."""
    low: float
    high: float
    """Both ends of the ratio's interval, each with 95 % confidence."""

    @property
    def is_faster(self) -> bool:
        """Whether it is surely faster than fp32."""
        return self.high < 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One model in one precision for one backend."""

    precision: Precision = "fp32"
    graph: Path | None = None
    """The quantized graph; None: the backend takes the exported fp32 graph, or the module, and does the rest itself."""
    about: Mapping[str, Any] | None = None
    """The record that `hoiclip build` wrote, with the verdict of the accuracy gate; None: fp32 needs no gate."""

    @property
    def forced(self) -> bool:
        """Whether it was kept although the accuracy gate did not pass it."""
        return bool(self.about and self.about["forced"])

    @property
    def speed(self) -> MeasuredSpeed | None:
        """None of fp32."""
        return None if self.about is None else MeasuredSpeed(**self.about["speed"])


FP32 = Build()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpeeds:
    """Speeds of one backend, measured in turns with fp32 on the backend that "auto" stands for by rank."""

    backend: BackendName
    measured_with: str
    """Its library and device."""
    of_precision: Mapping[Precision, MeasuredSpeed]
    """fp32, and what was built and kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Backend and build of a run."""

    backend: BackendName
    build: Build
    speed: MeasuredSpeed | None = None
    """Beside fp32 on the backend that "auto" stands for by rank; None where it is not chosen for its speed."""


def select(model: ModelFile, backend: str = "auto", precision: str = "auto") -> Selection:
    """The backend and the build that a run takes: as asked for, and where neither was, the fastest that were measured.

    Without measurements the backend goes by rank (`select_backend`). Another one must be surely faster than fp32 on
    that, and faster than its builds.

    Raises:
        BackendMissing: the backend is not installed.
        ModelError: this machine has no build of the wanted precision.
    """
    ranked = select_backend(backend)
    build = select_build(model, ranked, precision)
    if backend != "auto" or precision != "auto":
        return Selection(backend=ranked, build=build)
    limit = 1.0 if build.speed is None else build.speed.ratio
    elsewhere = _faster_elsewhere(model, ranked, limit)
    return next(elsewhere, Selection(backend=ranked, build=build, speed=build.speed))


def select_build(model: ModelFile, backend: BackendName, wanted: str) -> Build:
    """The build of a precision; for "auto" the fastest measured one that the gate passed, else fp32.

    Raises:
        ModelError: this machine has no build of the wanted precision.
    """
    if wanted == "fp32":
        return FP32
    if wanted == "auto":
        return min(_faster_than_fp32(model, backend), key=lambda found: found[0], default=(1.0, FP32))[1]
    build = find_build(model, backend, parse_precision(wanted))
    if build is None:
        raise ModelError(
            f"{model.name} has no {wanted} build for {backend} on this machine; make and check one: "
            f"{build_command(model, backend, wanted)}"
        )
    return build


def _faster_than_fp32(model: ModelFile, backend: BackendName) -> Iterator[tuple[float, Build]]:
    """Builds that the gate passed and that are surely faster, with the ratio of their time to that of fp32."""
    for precision in PRECISIONS:
        build = find_build(model, backend, precision) if precision != "fp32" else None
        if build is not None and not build.forced and build.speed is not None and build.speed.is_faster:
            yield build.speed.ratio, build


def _faster_elsewhere(model: ModelFile, ranked: BackendName, limit: float) -> Iterator[Selection]:
    """Selections that were measured with other backends as below that ratio, and can be taken: the fastest first."""
    below = [
        (speed.ratio, speeds, precision)
        for speeds in find_speeds(model, ranked) or ()
        for precision, speed in speeds.of_precision.items()
        if speed.is_faster and speed.ratio < limit
    ]
    for _, speeds, precision in sorted(below, key=lambda found: found[0]):
        if _runs_as_measured(model, speeds):
            build = FP32 if precision == "fp32" else find_build(model, speeds.backend, precision)
            if build is not None and not build.forced:
                yield Selection(backend=speeds.backend, build=build, speed=speeds.of_precision[precision])


def _runs_as_measured(model: ModelFile, speeds: BackendSpeeds) -> bool:
    """Whether library and device are those that were measured; else one line says what differs."""
    try:
        found = _library_and_device(select_backend(speeds.backend))
    except BackendMissing as error:
        found = str(error)
    if found != speeds.measured_with:
        again = build_command(model, "all")
        _log.warning(
            "the speed of %s with %s was measured with %s, not used: %s; measure again: %s",
            model.name, speeds.backend, speeds.measured_with, found, again,
        )  # fmt: skip
    return found == speeds.measured_with


def parse_precision(text: str) -> Precision:
    """Raises ModelError: no precision has that name."""
    for known in PRECISIONS:
        if known == text:
            return known
    raise ModelError(f"unknown precision {text!r}; there are auto, {', '.join(PRECISIONS)}")


def build_command(model: ModelFile, backend: str, precision: str = "") -> str:
    """The command that makes a build; without a precision it makes all that this machine accelerates."""
    return f"hoiclip build {model.name} --backend {backend}" + (f" --precision {precision}" if precision else "")


def find_build(model: ModelFile, backend: BackendName, precision: Precision) -> Build | None:
    """A sound build of exactly this model, by this version, for this machine; else one line says why it is not used."""
    name = _name(model, backend, precision)
    if not _exists(name):
        return None
    try:
        entry = SignedStore(BUILDS_KIND).read(name, _key(model, backend, precision))
        if entry is None:
            return None
        files = [entry.file(name) for name in entry.hashes]
    except (OSError, ValueError) as error:
        again = build_command(model, backend, precision)
        _log.warning("the %s build of %s is not used: %s; make it again: %s", precision, model.name, error, again)
        return None
    graph = next((file for file in files if file.suffix != ".bin"), None)
    return Build(precision=precision, graph=graph, about=entry.about)


def publish_build(
    model: ModelFile, backend: BackendName, precision: Precision, graph: Path | None, about: Mapping[str, Any]
) -> None:
    """Keeps a build; the graph's files are moved.

    Raises:
        OSError: it cannot be written; an earlier build stays.
    """
    files: Sequence[Path] = [] if graph is None else sorted(graph.parent.iterdir())
    SignedStore(BUILDS_KIND).write(
        _name(model, backend, precision),
        _key(model, backend, precision),
        {file.name: file for file in files},
        about,
    )


def find_speeds(model: ModelFile, ranked: BackendName) -> Sequence[BackendSpeeds] | None:
    """Speeds of the other backends beside fp32 on this one, as published; else one line says why they are not used.

    Whether each of them is still what was measured remains to be checked.
    """
    name = _name(model, "speeds")
    if not _exists(name):
        return None
    try:
        entry = SignedStore(BUILDS_KIND).read(name, _speeds_key(model, ranked))
    except (OSError, ValueError) as error:
        again = build_command(model, "all")
        _log.warning("the measured speeds of %s are not used: %s; measure again: %s", model.name, error, again)
        return None
    if entry is None:
        return None
    return [
        BackendSpeeds(
            backend=backend,
            measured_with=measured["with"],
            of_precision={precision: MeasuredSpeed(**speed) for precision, speed in measured["speeds"].items()},
        )
        for backend, measured in entry.about["backends"].items()
    ]


def publish_speeds(
    model: ModelFile,
    ranked: BackendName,
    speeds: Mapping[BackendName, Mapping[Precision, MeasuredSpeed]],
    about: Mapping[str, Any],
) -> None:
    """Keeps speeds of other backends beside fp32 on `ranked`, measured now on this machine.

    Raises:
        OSError: they cannot be written; earlier ones stay.
    """
    backends = {
        backend: {
            "with": _library_and_device(backend),
            "speeds": {precision: asdict(speed) for precision, speed in of_precision.items()},
        }
        for backend, of_precision in speeds.items()
    }
    key = _speeds_key(model, ranked)
    SignedStore(BUILDS_KIND).write(_name(model, "speeds"), key, {}, {**about, "backends": backends})


def _exists(name: str) -> bool:
    """Whether there is such an entry, sound or not: keys take a backend's library, which takes time to import."""
    return os.path.lexists(cache_base() / BUILDS_KIND / name)


def _name(model: ModelFile, *parts: str) -> str:
    """The name of the entry: a newer version or another driver makes the same entry again."""
    return "-".join((model.name[:60], model.sha256()[:16], *parts))


def _key(model: ModelFile, backend: BackendName, precision: Precision) -> dict[str, Any]:
    module = backend_module(backend)
    return {
        "model": model.sha256(),
        "library": module.library(),
        "device": module.device(),
        "precision": precision,
        "graph version": GRAPH_VERSION,
        "record": RECORD_VERSION,
        "policy": hashlib.sha256(policy_text().encode()).hexdigest(),
    }


def _speeds_key(model: ModelFile, ranked: BackendName) -> dict[str, Any]:
    """Backends differ in what they gain from a processor more, so that their number counts too."""
    return {
        "model": model.sha256(),
        "backend by rank": f"{ranked}: {_library_and_device(ranked)}",
        "number of processors": cpu_count(),
        "graph version": GRAPH_VERSION,
        "record": SPEEDS_VERSION,
    }


def _library_and_device(backend: BackendName) -> str:
    module = backend_module(backend)
    return f"{module.library()} on {module.device()}"
