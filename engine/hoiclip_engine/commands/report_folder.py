"""The folder of a report: a page that needs nothing else, the numbers as JSON, and its images as files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hoiclip.errors import SinkError, UsageError

MOST_IMAGES = 12
MOST_TIMELINES = 8
_NAMES = (
    *("index.html", "analysis.json", "evaluation.json", "precision_recall.svg"),
    *(f"worst_{number:02}.jpg" for number in range(1, MOST_IMAGES + 1)),
    *(f"timeline_{number:02}.png" for number in range(1, MOST_TIMELINES + 1)),
)


def check_report_folder(folder: Path, inputs: Iterable[Path]) -> None:
    """Before anything is run: whether the report would be written over what is read, under whatever name.

    Raises:
        UsageError: it would, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"expected a folder for --report, found the file {folder}; choose another name")
    there = {_identity(path): path for name in _NAMES if (path := folder / name).exists()}
    for path in inputs if there else ():
        if path.exists() and _identity(path) in there:
            raise UsageError(f"the report would be written over {path}, which is read; choose another --report DIR")


def write_file(path: Path, data: str | bytes) -> None:
    """
    Raises:
        SinkError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose a folder that is writable") from error


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
