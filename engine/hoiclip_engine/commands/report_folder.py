"""The folder of a report: a page that needs nothing else, the numbers as JSON, and its images as files."""

from __future__ import annotations

from pathlib import Path

from hoiclip.errors import SinkError, UsageError

MOST_IMAGES = 12
MOST_TIMELINES = 8
_NAMES = (
    *("index.html", "analysis.json", "evaluation.json", "precision_recall.svg"),
    *(f"worst_{number:02}.jpg" for number in range(1, MOST_IMAGES + 1)),
    *(f"timeline_{number:02}.png" for number in range(1, MOST_TIMELINES + 1)),
)


def report_files(folder: Path | None) -> list[Path]:
    """All that a report may consist of; nothing where none is asked for.

    Raises:
        UsageError: the folder is a file.
    """
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"expected a folder for --report, found the file {folder}; choose another name")
    return [] if folder is None else [folder / name for name in _NAMES]


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
