"""Folders for results."""

from __future__ import annotations

import os
from pathlib import Path

from hoiclip.errors import SinkError


def make_folder(path: Path) -> None:
    """Makes it with all above it; one that is there is left as it is.

    Raises:
        SinkError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {path}: {error.strerror}; choose another with --out") from error


def put(made: Path, target: Path) -> None:
    """Moves a file or a folder over what has its name, which then lies, hidden, where it was made.

    Raises:
        OSError: it cannot be moved.
    """
    if made.is_dir() and target.is_dir():
        os.replace(target, made.with_name(f".old-{made.name}"))
    os.replace(made, target)
