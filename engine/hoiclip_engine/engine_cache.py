"""Compiled engines and exported graphs on disk: only what this machine made, and nobody changed, is ever loaded.

An engine is native code, and a graph decides every result. Where anything is wrong with an entry, it is made again, and
one line says why.
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

from hoiclip.checkpoint.model_file import file_sha256
from hoiclip_engine.signed_folder import SignedFolder, canonical

_log = logging.getLogger("hoiclip")
_ENGINE = "engine.bin"
_GRAPH_SUFFIXES = (".onnx", ".data", ".xml", ".bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Everything an engine depends on; where one of these differs, it is another engine."""

    graph_sha256: str
    library: str
    """Name and version of what compiles."""
    device: str
    """GPU and its compute capability, or CPU and the features compilers ask for."""
    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, str]
    plugin_sha256: str = ""

    def digest(self) -> str:
        return hashlib.sha256(canonical(asdict(self))).hexdigest()


def graph_sha256(graph: Path) -> str:
    """Of a graph and of the weights that lie beside it under the same name."""
    files = sorted(file for file in graph.parent.glob(f"{graph.stem}.*") if file.suffix in _GRAPH_SUFFIXES)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def engine(key: EngineKey, make: Callable[[], bytes]) -> bytes:
    """The engine of a key: from the cache if there is a sound one, else made and kept.

    A cache that cannot be written costs nothing but the next start.
    """
    try:
        folder = SignedFolder("engines")
    except OSError as error:
        _log.warning("engines are not kept: %s", error)
        return make()
    try:
        if entry := folder.read(key.digest(), asdict(key)):
            return entry.content(_ENGINE)
    except (OSError, ValueError) as error:
        _log.warning("the %s engine is made again: %s", key.library, error)
    made = make()
    try:
        folder.write(key.digest(), asdict(key), {_ENGINE: made}, {})
    except OSError as error:
        _log.warning("the %s engine is not kept: %s", key.library, error)
    return made


def exported(name: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """The folder of an exported graph: from the cache if there is a sound one, else made and kept.

    Args:
        make: writes the graph's files into a folder.

    Raises:
        OSError: they cannot be written.
    """
    try:
        folder = SignedFolder("graphs")
        room = folder.room()
    except OSError as error:
        _log.warning("exported graphs are not kept: %s", error)
        make(_of_this_process(name))
        return _of_this_process(name)
    try:
        if entry := _sound(folder, name, key):
            return entry
        make(room)
        folder.write(name, key, {file.name: file for file in room.iterdir()}, {})
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return folder.place(name)


def _sound(folder: SignedFolder, name: str, key: Mapping[str, Any]) -> Path | None:
    try:
        entry = folder.read(name, key)
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
    """Goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="hoiclip-")


def _of_this_process(name: str) -> Path:
    folder = Path(_temporary().name) / name
    folder.mkdir(exist_ok=True)
    return folder


def forget(key: EngineKey) -> None:
    """Removes what is kept for a key: the library does not take it after all."""
    with contextlib.suppress(OSError):
        SignedFolder("engines").remove(key.digest())
