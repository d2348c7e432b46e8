"""Reads a record: events and rule hits by filters, totals, and deletion by age. Opens the database for each call."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from hoiclip.core.errors import SourceError, UsageError
from hoiclip_engine.events import schema
from hoiclip_engine.events.databases import Connection, DatabaseLost, parse_database, stored_time

EventKind = Literal["event", "rule"]
PRUNE_ROWS = 1000
PRUNE_PAUSE_S = 0.02
"""Seconds between two deletions, in which a run may write."""
_ID = re.compile(r"([^\s-][^\s]*)-([er])(\d{1,18})")
_RUN_LETTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Restrictions that all hold; None of everything."""

    since: datetime | None = None
    """Those that start at this time or later."""
    until: datetime | None = None
    """Those that start before."""
    source: str | None = None
    """Those of sources whose name contains it."""
    source_name: str | None = None
    """Those of the source of this name."""
    verb: str | None = None
    """With spaces or underscores, as are objects."""
    object: str | None = None
    rule: str | None = None
    """Hits of this rule only."""
    human: int | None = None
    run: str | None = None
    """The first letters of a run's id."""
    kind: EventKind | None = None
    """Verb events or hits of rules only."""
    limit: int | None = None
    offset: int = 0
    newest_first: bool = True

    def __post_init__(self) -> None:
        if self.offset < 0 or (self.limit is not None and self.limit < 0):
            raise ValueError(f"limit and offset must not be negative, got {self.limit} and {self.offset}")
        if self.kind == "event" and self.rule is not None:
            raise ValueError("verb events have no rule; leave rule or kind out")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """A verb event, or a hit of a rule."""

    kind: EventKind
    number: int
    """Number in its run: of the event, or of the hit."""
    run_id: str
    source: str
    rule: str
    """Empty of a verb event."""
    verb: str
    label: str
    """The object's word; empty where there is none."""
    pair: int | None
    human: int | None
    object: int | None
    start_at: str
    """Wall time, UTC."""
    end_at: str | None
    """None while it lasts, or where the run was killed."""
    start_s: float
    """Time on the clock of the source."""
    end_s: float | None
    peak_score: float | None
    evidence_s: str | None
    """Times of frames that show it, as a JSON list."""
    snapshot: str | None
    clip: str | None

    @property
    def id(self) -> str:
        """Short name; `EventStore.get` finds it."""
        return f"{self.run_id[:_RUN_LETTERS]}-{self.kind[0]}{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTotal:
    """Totals of one rule, verb, source or hour."""

    name: str
    events: int
    hits: int
    seconds: float
    """Of events; of a rule, of its hits."""


class EventStore:
    """A record to read, in any thread."""

    def __init__(self, where: str | Path) -> None:
        """Opens nothing. Args: where: an SQLite file, or postgresql://...

        Raises:
            UsageError: the address makes no sense.
            BackendMissing: psycopg is not installed.
        """
        self._database = parse_database(where)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that the record is made of."""
        return self._database.files

    def query(self, wanted: EventFilter | None = None) -> list[RecordedEvent]:
        """Events and hits.

        Raises:
            UsageError: there is no record, or one of another version.
            SourceError: the database cannot be read.
        """
        return list(self.iterate(wanted))

    def iterate(self, wanted: EventFilter | None = None) -> Iterator[RecordedEvent]:
        """The same, read while they are taken: for more than fit into memory."""
        wanted = wanted or EventFilter()
        names, values = _conditions(wanted)
        statement = schema.found(_kinds(wanted), names)
        statement += schema.NEWEST_FIRST if wanted.newest_first else schema.OLDEST_FIRST
        if wanted.limit is not None or wanted.offset:
            statement += schema.PAGE
            values |= {"limit": 2**62 if wanted.limit is None else wanted.limit, "offset": wanted.offset}
        return self._events(statement, values)

    def count(self, wanted: EventFilter | None = None, most: int = 10_000) -> int:
        """Number of events and hits, counted up to `most`; the filter's limit and offset do not matter.

        Raises:
            UsageError, SourceError: as in `query`.
        """
        wanted = wanted or EventFilter()
        names, values = _conditions(wanted)
        ((number,),) = self._select(schema.count(schema.found(_kinds(wanted), names)), {**values, "most": most})
        return int(number)

    def get(self, event_id: str) -> RecordedEvent:
        """The event or hit of an id.

        Raises:
            UsageError: it is no id, there is no such event, or several runs begin with these letters.
            SourceError: the database cannot be read.
        """
        parts = _ID.fullmatch(event_id)
        if parts is None:
            raise UsageError(f"expected an id such as 3f2a9c1e-e12, got {event_id!r:.60}; hoiclip events list has them")
        run, letter, number = parts[1], parts[2], int(parts[3])
        values = {"run": run, "run_length": len(run), "number": number}
        kind: EventKind = "event" if letter == "e" else "rule"
        events = list(self._events(schema.found([kind], ["run", "number"]), values))
        if len({event.run_id for event in events}) > 1:
            raise UsageError(
                f"{event_id} is in {len(events)} runs; give more letters of the run's id: {events[0].run_id}"
            )
        if not events:
            raise UsageError(f"found no {event_id} in {self._database.name}; hoiclip events list has the ids")
        return events[0]

    def totals(self, by: str, wanted: EventFilter | None = None) -> list[EventTotal]:
        """Totals by a name of schema.GROUPS: "rule", "verb", "source" or "hour".

        Raises:
            UsageError, SourceError: as in `query`.
        """
        wanted = wanted or EventFilter()
        names, values = _conditions(wanted)
        kinds: list[EventKind] = [kind for kind in _kinds(wanted) if by != "rule" or kind == "rule"]
        if not kinds:
            return []
        rows = self._select(schema.totals(by, schema.found(kinds, names)), values)
        return [EventTotal(name=name, events=e, hits=h, seconds=seconds) for name, e, h, seconds in rows]

    def run_starts(self, run: str) -> dict[str, float | None]:
        """Time of the first frame of each run whose id begins with these letters."""
        return dict(self._select(schema.RUN_STARTS, {"run": run, "run_length": len(run)}))

    def prune(self, before: datetime) -> int:
        """Deletes what ended before, in small transactions between which a run can write; evidence files stay.

        Returns:
            How many rows were deleted.

        Raises:
            UsageError, SourceError: as in `query`.
        """
        deleted = 0
        if self._database.files and not self._database.files[0].exists():
            self._connect(write=False)  # raises: nothing is created here
        try:
            with closing(self._connect(write=True)) as connection:
                for count in connection.prune(stored_time(before), PRUNE_ROWS):
                    deleted += count
                    time.sleep(PRUNE_PAUSE_S if count else 0)
        except DatabaseLost as error:
            raise self._failure(error) from None
        return deleted

    def _events(self, statement: str, values: dict[str, Any]) -> Iterator[RecordedEvent]:
        names = [field.name for field in fields(RecordedEvent)]
        for row in self._select(statement, values):
            yield RecordedEvent(**dict(zip(names, row, strict=True)))

    def _select(self, statement: str, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        try:
            with closing(self._connect(write=False)) as connection:
                yield from connection.select(statement, values)
        except DatabaseLost as error:
            raise self._failure(error) from None

    def _connect(self, *, write: bool) -> Connection:
        try:
            return self._database.connect(write=write)
        except DatabaseLost as error:
            raise self._failure(error) from None

    def _failure(self, error: DatabaseLost) -> SourceError:
        return SourceError(f"cannot read the record in {self._database.name}: {error}; check the database")


def _kinds(wanted: EventFilter) -> list[EventKind]:
    kinds: list[EventKind] = ["event", "rule"]
    if wanted.kind is not None:
        return [wanted.kind]
    return kinds if wanted.rule is None else ["rule"]


def _conditions(wanted: EventFilter) -> tuple[list[str], dict[str, Any]]:
    """Names of schema.CONDITIONS that hold, and their values."""
    values: dict[str, Any] = {
        "since": wanted.since and stored_time(wanted.since),
        "until": wanted.until and stored_time(wanted.until),
        "source": wanted.source or None,
        "source_name": wanted.source_name,
        "verb": wanted.verb and wanted.verb.replace("_", " "),
        "object": wanted.object and wanted.object.replace("_", " "),
        "rule": wanted.rule,
        "human": wanted.human,
        "run": wanted.run or None,
    }
    values = {name: value for name, value in values.items() if value is not None}
    names = list(values)
    if "run" in values:
        values["run_length"] = len(values["run"])
    return names, values
