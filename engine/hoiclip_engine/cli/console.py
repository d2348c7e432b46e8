"""The terminal: tables and progress on standard error, results on standard output; foreign text reaches neither raw."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment
from rich.status import Status
from rich.table import Table
from rich.text import Text

from hoiclip.core.printable import one_line, printable


class _Terminal(Console):
    """Prints texts as one line each, and only printable characters. Markup in names is not interpreted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*(one_line(item) if isinstance(item, str) else item for item in objects), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def on_broken_pipe(self) -> None:
        raise


class _StandardError:
    """The current standard error. A run continues where its messages can no longer be written."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr is not None and sys.stderr.isatty()

    def fileno(self) -> int:
        return sys.stderr.fileno()

    @property
    def encoding(self) -> str:
        return getattr(sys.stderr, "encoding", None) or "utf-8"


messages = _Terminal(file=cast(TextIO, _StandardError()), stderr=True)
results = _Terminal()


def say(text: str) -> None:
    """Prints lines on standard output, such as JSON."""
    print(printable(text))


class LogLines(logging.Handler):
    """Warnings of the program, each as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        messages.print(self.format(record), style="yellow")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Plain table."""
    made = Table(title=one_line(title), title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(one_line(str(cell)) for cell in row))
    return made


def working(what: str) -> Status:
    """A spinner for slow work."""
    return messages.status(Text(one_line(what)))


SPEED_OVER_S = 600.0
"""Seconds from which the remaining time is estimated: a step may take minutes, with evaluations in between."""


def progress() -> Progress:
    """A bar with frame rate and remaining time; shown only on a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=messages,
        speed_estimate_period=SPEED_OVER_S,
        disable=not messages.is_terminal,
        transient=True,
    )


def download_progress() -> Progress:
    """A bar with bytes, bytes per second and remaining time; shown only on a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=messages,
        disable=not messages.is_terminal,
        transient=True,
    )
