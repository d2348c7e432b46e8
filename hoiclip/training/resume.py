"""Checkpoints of a run: written whole or not at all, read without running code, enough to go on exactly."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hoiclip.errors import ModelError

FILE = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> Path:
    """Replaces the folder's checkpoint; a kill at any moment leaves the old one or the new one."""
    path = folder / FILE
    handle, part = tempfile.mkstemp(dir=folder, prefix=".checkpoint-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({**state, "random": _random_state()}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The folder's checkpoint with all random generators set back, or None.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / FILE
    for left_over in folder.glob(".checkpoint-*.part"):
        left_over.unlink(missing_ok=True)
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise ModelError(f"{path} is damaged; delete it to start the run anew") from error
    _set_random_state(state.pop("random"))
    return state


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that use numpy's global generator
    torch.manual_seed(seed)


def _random_state() -> dict[str, Any]:
    """What data and dropout draw from. Data is seeded by sample, so torch's generators are all that matters."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
