"""The terminal: tables and progress on standard error, results on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

# No markup: names of files and what a model file says of itself are printed as they are.
messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
results = Console(highlight=False, soft_wrap=True, markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Plain table."""
    made = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*map(str, row))
    return made


def working(what: str) -> Status:
    """A spinner while something takes its time."""
    return messages.status(Text(what))


SPEED_OVER_S = 600.0
"""Seconds from which the remaining time is told: a step or a film may take minutes, and evaluations stand between."""


def progress() -> Progress:
    """A bar with frame rate and remaining time; shown only where a person can see it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=messages,
        speed_estimate_period=SPEED_OVER_S,
        disable=not messages.is_terminal,
        transient=True,
    )
