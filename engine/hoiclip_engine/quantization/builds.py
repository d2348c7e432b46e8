"""Builds: models in fp16, bf16 or int8, made and checked on this machine by `hoiclip build`; a run takes no others.

A build is a record of the model, the calibration, the verdict of the accuracy gate and the speed beside fp32, with the
quantized graph where it has one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import ModelFile
from hoiclip_engine.backends.base import PRECISIONS, BackendName, Precision
from hoiclip_engine.backends.registry import backend_module
from hoiclip_engine.cache.signed_store import SignedStore
from hoiclip_engine.export.graph_spec import GRAPH_VERSION
from hoiclip_engine.quantization.quantize import policy_text

BUILDS_KIND = "builds"
RECORD_VERSION = 2
"""2: with the measured speed."""
_log = logging.getLogger("hoiclip")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpeed:
    """Time of one image, measured in turns with fp32 on the same backend."""

    median_ms: float
    ratio: float
    """Time divided by that of fp32: below 1 it is faster."""
    low: float
    high: float
    """Both ends of the ratio's interval, each with 95 % confidence."""


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
    for precision in backend_module(backend).fast_precisions():
        build = find_build(model, backend, precision)
        if build is not None and not build.forced and build.speed is not None and build.speed.high < 1:
            yield build.speed.ratio, build


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
    key = _key(model, backend, precision)
    try:
        entry = SignedStore(BUILDS_KIND).read(_name(model, backend, precision), key)
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


def _name(model: ModelFile, backend: str, precision: str) -> str:
    """The name of the entry: a newer version or another driver makes the same entry again."""
    return f"{model.name[:60]}-{model.sha256()[:16]}-{backend}-{precision}"


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
