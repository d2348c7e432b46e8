"""The terminal: tables and progress on standard error, results on standard output; foreign text reaches neither raw."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
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


class _Messages(_Terminal):
    """Messages to people, which are log lines where the log is JSON."""

    is_log = False
    least_level = logging.NOTSET

    def print(self, *objects: Any, level: int | None = None, source: str = "", **how: Any) -> None:
        """Args: level: of the log; None: a warning where it is yellow. source: name of the source that it is about."""
        if level is None:
            level = logging.WARNING if how.get("style") == "yellow" else logging.INFO
        if level < self.least_level:
            return
        if self.is_log:
            for item in objects:
                if text := _text(item):
                    logging.getLogger("hoiclip").log(level, "%s", text, extra={"source": source})
        else:
            super().print(*objects, **how)

    @property
    def is_terminal(self) -> bool:
        """Whether progress is shown."""
        return not self.is_log and super().is_terminal


def _text(item: Any) -> str:
    """A message as one line of a log."""
    if isinstance(item, Table):
        rows = zip(*(column.cells for column in item.columns), strict=True)
        return f"{item.title}: " + "; ".join(" ".join(str(cell) for cell in row) for row in rows)
    return item if isinstance(item, str) else ""


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


messages = _Messages(file=cast(TextIO, _StandardError()), stderr=True)
results = _Terminal()


def say(text: str) -> None:
    """Prints lines on standard output, such as JSON."""
    print(printable(text))


class LogLines(logging.Handler):
    """Warnings of the program, each as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        messages.print(self.format(record), style="yellow", level=record.levelno)


class JsonLines(logging.Handler):
    """The log as JSON lines on standard error, without credentials of addresses."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _without_credentials(one_line(record.getMessage())),
        }
        if source := getattr(record, "source", ""):
            fields["source"] = source
        if record.exc_info:
            fields["traceback"] = _without_credentials(logging.Formatter().formatException(record.exc_info))
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(json.dumps(fields) + "\n")
            sys.stderr.flush()


def _without_credentials(text: str) -> str:
    from hoiclip_engine.sources.uri import redact

    return re.sub(r"[A-Za-z][\w+.\-]+:/\S+", lambda url: redact(url[0]), text)


@contextmanager
def logging_to_stderr(style: str, level: str | None) -> Iterator[None]:
    """Prints log lines of the program meanwhile.

    Args:
        style: "text": messages as people read them. "json": a JSON line for everything, of libraries too.
        level: the least level that is printed; None: warnings, and every message to people.
    """
    is_json = style == "json"
    least = getattr(logging, level.upper()) if level else logging.INFO if is_json else logging.WARNING
    ours, root = logging.getLogger("hoiclip"), logging.getLogger()
    owner, handler = (root, JsonLines(least)) if is_json else (ours, LogLines(least))
    before = ours.level
    if is_json or level:
        ours.setLevel(least)
    messages.is_log, messages.least_level = is_json, least if level else logging.NOTSET
    owner.addHandler(handler)
    logging.captureWarnings(is_json)
    try:
        yield
    finally:
        owner.removeHandler(handler)
        ours.setLevel(before)
        messages.is_log, messages.least_level = False, logging.NOTSET
        logging.captureWarnings(False)


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
