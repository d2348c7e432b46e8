"""Models in fewer bits, made and checked on this machine by `hoiclip build`; a run takes no others.

A build is a record of what was made, from what, and how the gate found it, with the graph where it has one of its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import ModelError
from hoiclip_engine.backends import BackendName, backend_module
from hoiclip_engine.graph_form import GRAPH_VERSION
from hoiclip_engine.precision import PRECISIONS, Precision
from hoiclip_engine.precision.policy import policy_text
from hoiclip_engine.signed_folder import SignedFolder

BUILDS = "builds"
_log = logging.getLogger("hoiclip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One model in one precision for one backend."""

    precision: Precision = "fp32"
    graph: Path | None = None
    """Of its own; None: the backend takes the exported fp32 graph, or the module, and does the rest itself."""
    about: Mapping[str, Any] | None = None
    """What the gate found and how it was made, as `hoiclip build` wrote it down; None: fp32 needs no gate."""

    @property
    def forced(self) -> bool:
        """The gate did not pass it."""
        return bool(self.about and self.about["forced"])


FP32 = Build()


def chosen_build(model: ModelFile, backend: BackendName, wanted: str) -> Build:
    """The build of a precision; for "auto" the fastest this machine accelerates and whose gate passed, else fp32.

    Raises:
        ModelError: a wanted one has not been made here.
    """
    if wanted == "fp32":
        return FP32
    if wanted == "auto":
        for precision in backend_module(backend).fast_precisions():
            build = find_build(model, backend, precision)
            if build is not None and not build.forced:
                return build
        return FP32
    build = find_build(model, backend, as_precision(wanted))
    if build is None:
        raise ModelError(
            f"{model.name} has no {wanted} build for {backend} on this machine; make and check one: "
            f"{build_command(model, backend, wanted)}"
        )
    return build


def as_precision(text: str) -> Precision:
    """Raises ModelError: no precision has that name."""
    for known in PRECISIONS:
        if known == text:
            return known
    raise ModelError(f"unknown precision {text!r}; there are auto, {', '.join(PRECISIONS)}")


def build_command(model: ModelFile, backend: str, precision: str) -> str:
    return f"hoiclip build {model.name} --backend {backend} --precision {precision}"


def find_build(model: ModelFile, backend: BackendName, precision: Precision) -> Build | None:
    """A sound build of exactly this model, by this version, for this machine; else one line says what is wrong."""
    key = _key(model, backend, precision)
    try:
        entry = SignedFolder(BUILDS).read(_name(model, backend, precision), key)
        if entry is None:
            return None
        files = [entry.file(name) for name in entry.hashes]
    except (OSError, ValueError) as error:
        again = build_command(model, backend, precision)
        _log.warning("the %s build of %s is not used: %s; make it again: %s", precision, model.name, error, again)
        return None
    graph = next((file for file in files if file.suffix != ".bin"), None)
    return Build(precision=precision, graph=graph, about=entry.about)


def publish(
    model: ModelFile, backend: BackendName, precision: Precision, graph: Path | None, about: Mapping[str, Any]
) -> None:
    """Keeps a build; the graph's files are moved.

    Raises:
        OSError: it cannot be written; a build that was there before is still there.
    """
    files: Sequence[Path] = [] if graph is None else sorted(graph.parent.iterdir())
    SignedFolder(BUILDS).write(
        _name(model, backend, precision),
        _key(model, backend, precision),
        {file.name: file for file in files},
        about,
    )


def _name(model: ModelFile, backend: str, precision: str) -> str:
    """What is there once: a newer version or another driver makes the same entry again."""
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
