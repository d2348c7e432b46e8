"""Exports of small models, made once a test run: each takes half a minute of a core, and many tests want the same."""

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
    from hoiclip_engine.graph_form import GraphForm

LARGEST = 20_000_000
"""Parameters; larger models are exported for one test alone, and would only fill the disk."""


@contextmanager
def shared_exports(folder: Path) -> Generator[None, None, None]:
    """Exports in this process go through a folder that all workers of the run share, as long as this is entered.

    What exports is the product's own code; only a second export of the same weights in the same form is a copy.
    """
    from hoiclip_engine import export
    from hoiclip_engine.commands import export as command

    shared = _through(folder, export.write_graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "write_graph", shared)
        patch.setattr(command, "write_graph", shared)
        yield


def _through(folder: Path, write: Callable[..., None]) -> Callable[[HOICLIP, GraphForm, Path], None]:
    def shared(model: HOICLIP, form: GraphForm, path: Path) -> None:
        if sum(tensor.numel() for tensor in model.state_dict().values()) > LARGEST:
            write(model, form, path)
            return
        kept = folder / f"{_digest(model, form)}.onnx"
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the other worker may be at it
            if not kept.is_file():
                part = kept.with_suffix(".part")
                write(model, form, part)
                part.rename(kept)
        shutil.copyfile(kept, path)

    return shared


def _digest(model: HOICLIP, form: GraphForm) -> str:
    found = hashlib.sha256(f"{form} {model.config}".encode())
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
