"""Builds: models in fp16, bf16 or int8, made and checked on this machine by `hoiclip build`; a run takes no others.

A build is a record of the model, the calibration and the verdict of the accuracy gate, with the quantized graph where
it has one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
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
_log = logging.getLogger("hoiclip")


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


FP32 = Build()


def select_build(model: ModelFile, backend: BackendName, wanted: str) -> Build:
    """The build of a precision; for "auto" the fastest that this machine accelerates and the gate passed, else fp32.

    Raises:
        ModelError: this machine has no build of the wanted precision.
    """
    if wanted == "fp32":
        return FP32
    if wanted == "auto":
        for precision in backend_module(backend).fast_precisions():
            build = find_build(model, backend, precision)
            if build is not None and not build.forced:
                return build
        return FP32
    build = find_build(model, backend, parse_precision(wanted))
    if build is None:
        raise ModelError(
            f"{model.name} has no {wanted} build for {backend} on this machine; make and check one: "
            f"{build_command(model, backend, wanted)}"
        )
    return build


def parse_precision(text: str) -> Precision:
    """Raises ModelError: no precision has that name."""
    for known in PRECISIONS:
        if known == text:
            return known
    raise ModelError(f"unknown precision {text!r}; there are auto, {', '.join(PRECISIONS)}")


def build_command(model: ModelFile, backend: str, precision: str) -> str:
    return f"hoiclip build {model.name} --backend {backend} --precision {precision}"


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
        "policy": hashlib.sha256(policy_text().encode()).hexdigest(),
    }
