"""Exports of small models, made once a test run: each takes half a minute of a core, and many tests need the same."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hoiclip.model import HOICLIP
    from hoiclip_engine.export.graph_spec import GraphSpec

MAX_SHARED_PARAMETERS = 20_000_000
"""Larger models are exported for one test alone, and would only fill the disk."""


@contextmanager
def shared_exports(folder: Path) -> Generator[None, None, None]:
    """Sends exports of this process through a folder that all workers of the run share.

    The product's own code exports; only a second export of the same weights in the same form is a copy.
    """
    from hoiclip_engine.cache import artifacts as graphs
    from hoiclip_engine.export import onnx_export

    shared = _through(folder, onnx_export.write_graph)
    with pytest.MonkeyPatch.context() as patch:
        for module in (onnx_export, graphs):
            patch.setattr(module, "write_graph", shared)
        yield


def _through(folder: Path, write: Callable[..., None]) -> Callable[[HOICLIP, GraphSpec, Path], None]:
    def shared(model: HOICLIP, spec: GraphSpec, path: Path) -> None:
        if sum(tensor.numel() for tensor in model.state_dict().values()) > MAX_SHARED_PARAMETERS:
            write(model, spec, path)
            return
        kept = folder / f"{_digest(model, spec)}.onnx"
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the other worker may be at it
            if not kept.is_file():
                temporary = kept.with_suffix(".part")
                write(model, spec, temporary)
                temporary.rename(kept)
        shutil.copyfile(kept, path)

    return shared


def _digest(model: HOICLIP, spec: GraphSpec) -> str:
    found = hashlib.sha256(f"{spec} {model.config}".encode())
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
