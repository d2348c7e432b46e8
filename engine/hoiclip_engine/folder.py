"""Folders for results."""

from __future__ import annotations

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
