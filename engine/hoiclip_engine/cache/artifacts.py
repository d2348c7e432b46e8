"""Exported graphs and compiled engines: from a bundle, from the signed cache, or made now.

A graph serves any padded size; an engine is native code of this machine, under a key of everything it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import ModelFile, file_sha256
from hoiclip_engine.cache.signed_store import SignedStore, canonical_json
from hoiclip_engine.export.bundle import bundled_graph
from hoiclip_engine.export.graph_spec import GRAPH_VERSION, GraphSpec, select_memory_form
from hoiclip_engine.export.onnx_export import build_module, write_graph

_log = logging.getLogger("hoiclip")
_GRAPH = "model.onnx"
_GRAPH_SUFFIXES = (".onnx", ".data", ".xml", ".bin")


def exported_graph(model: ModelFile, padded_hw: tuple[int, int], batch: int = 1) -> Path:
    """The model's ONNX file: beside it in a folder of `hoiclip export --with-model`, else in the cache.

    A graph that is in neither is exported now. One graph serves every padded size, and another one every batch above 1.
    Each exists in two forms all the same, equal up to rounding: one projects the detector's memory, one absorbs it, and
    the faster of them depends on the padded size.

    Raises:
        BackendMissing: it has to be exported, and torch or onnxscript, which only the export needs, is not installed.
        ModelError: the export failed, or the files beside the model are not those of their metadata.
    """
    spec = GraphSpec(memory=select_memory_form(model.config, padded_hw), batch=1 if batch == 1 else None)
    if spec.batch == 1 and (bundled := bundled_graph(model, spec.memory)) is not None:
        return bundled
    several = "" if batch == 1 else "-batch"
    name = f"{model.sha256()[:32]}-{spec.memory}{several}-v{GRAPH_VERSION}-opset{spec.opset}"
    key = {"model": model.sha256(), "graph version": GRAPH_VERSION, "form": spec.to_json()}

    def make(folder: Path) -> None:
        module = build_module(model) if spec.batch == 1 else build_module(model, alternative=", or run without --batch")
        write_graph(module, spec, folder / _GRAPH)

    try:
        return cached_graph(name, key, make) / _GRAPH
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"cannot write the exported graph: {reason}; is the disk full?") from error


def cached_graph(name: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """The folder of an exported graph: from the cache if there is a sound one, else made and kept.

    Args:
        make: writes the graph's files into a folder.

    Raises:
        OSError: they cannot be written.
    """
    try:
        store = SignedStore("graphs")
        staging = store.make_staging_folder()
    except OSError as error:
        _log.warning("exported graphs are not kept: %s", error)
        make(_process_folder(name))
        return _process_folder(name)
    try:
        if folder := _find_sound(store, name, key):
            return folder
        make(staging)
        store.write(name, key, {file.name: file for file in staging.iterdir()}, {})
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return store.folder_of(name)


def graph_sha256(graph: Path) -> str:
    """Hash of a graph and of the weights that lie beside it under the same name."""
    files = sorted(file for file in graph.parent.glob(f"{graph.stem}.*") if file.suffix in _GRAPH_SUFFIXES)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def _find_sound(store: SignedStore, name: str, key: Mapping[str, Any]) -> Path | None:
    try:
        entry = store.read(name, key)
        if entry is None:
            return None
        for file in entry.hashes:
            entry.file(file)
        return entry.folder
    except (OSError, ValueError) as error:
        _log.warning("the graph is exported again: %s", error)
        return None


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="hoiclip-")


def _process_folder(name: str) -> Path:
    folder = Path(_temporary().name) / name
    folder.mkdir(exist_ok=True)
    return folder


_ENGINE, _KERNELS = "engine.bin", "kernels.bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Everything an engine depends on; where one of these differs, it is another engine."""

    graph_sha256: str
    library: str
    """Name and version of the library that compiles."""
    device: str
    """GPU and its compute capability, or CPU and the features that compilers query."""
    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, str]
    plugin_sha256: str = ""

    def digest(self) -> str:
        return hashlib.sha256(canonical_json(asdict(self))).hexdigest()


def cached_engine(key: EngineKey, make: Callable[[], bytes]) -> bytes:
    """The engine of a key: from the cache if there is a sound one, else made and kept.

    A cache that cannot be written costs nothing but the next start.
    """
    try:
        store = SignedStore("engines")
    except OSError as error:
        _log.warning("engines are not kept: %s", error)
        return make()
    try:
        if entry := store.read(key.digest(), asdict(key)):
            return entry.content(_ENGINE)
    except (OSError, ValueError) as error:
        _log.warning("the %s engine is made again: %s", key.library, error)
    made = make()
    try:
        store.write(key.digest(), asdict(key), {_ENGINE: made}, {})
    except OSError as error:
        _log.warning("the %s engine is not kept: %s", key.library, error)
    return made


def forget_engine(key: EngineKey) -> None:
    """Removes the cached engine of a key, which the library turned out not to load, and the kernels for it."""
    with contextlib.suppress(OSError):
        store = SignedStore("engines")
        store.remove(key.digest())
        store.remove(KernelCache(key).name)


@dataclass(frozen=True, slots=True)
class KernelCache:
    """Kernels that a library compiles for an engine when it first runs, kept beside it under the same key."""

    key: EngineKey

    @property
    def name(self) -> str:
        return f"{self.key.digest()}-kernels"

    def read(self) -> bytes:
        """Empty where none are kept; one line says why what is kept is not used."""
        try:
            entry = SignedStore("engines").read(self.name, asdict(self.key))
            return b"" if entry is None else entry.content(_KERNELS)
        except (OSError, ValueError) as error:
            _log.warning("the kernels of the %s engine are compiled again: %s", self.key.library, error)
            return b""

    def keep(self, content: bytes) -> None:
        """Keeps them for the next start; a cache that cannot be written costs nothing but that."""
        try:
            SignedStore("engines").write(self.name, asdict(self.key), {_KERNELS: content}, {})
        except OSError as error:
            _log.warning("the kernels of the %s engine are not kept: %s", self.key.library, error)
