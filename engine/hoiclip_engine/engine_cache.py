"""Compiled engines on disk. An engine is native code: only what this machine made, and nobody changed, is ever loaded.

Where anything is wrong with an entry, the engine is made again, and one line says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

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


def forget(key: EngineKey) -> None:
    """Removes what is kept for a key: the library does not take it after all."""
    with contextlib.suppress(OSError):
        SignedFolder("engines").remove(key.digest())
