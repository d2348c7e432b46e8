"""Events of a live run with the evidence that was kept of them: what the page lists.

RecentEvents has the latest ones in memory. A verb that starts and ends is one row, as is a rule from its start to its
end; evidence comes later and is joined to its row; the number of rows is bounded. StoredEvents reads the record of
--db, with the events of earlier runs.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hoiclip.core.errors import SourceError, UsageError
from hoiclip.core.wall_time import read_time, utc_text
from hoiclip_engine.events.event_store import EventFilter, EventStore, RecordedEvent
from hoiclip_engine.types.frame import SourceEvent, SupervisedSource
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink, WallClock
from hoiclip_engine.types.rule_hits import Evidence, RuleHit
from hoiclip_engine.types.tracked_pairs import Event

MAX_ROWS = 2000
MAX_COUNTED = 10_000
"""Rows of a record that are counted beyond a range, so that a count takes no longer over the years."""
MAX_QUERY_WAIT_S = 2.0
"""For other queries of the record; then the answer comes from memory."""
RETRY_S = 5.0
"""After a record that could not be read, it is not asked again for so long."""
_STORED_ID = re.compile(r".*-[er]\d+")
T = TypeVar("T")
_TIME_DIGITS, _SCORE_DIGITS = 3, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Filters of a list of events, and the range of it to return; None: all."""

    source: int | None = None
    kind: str | None = None
    """verb or rule."""
    verb: str | None = None
    object: str | None = None
    """The object's word."""
    rule: str | None = None
    since: datetime | None = None
    """Of the start, inclusive; with a time zone."""
    until: datetime | None = None
    limit: int = 50
    offset: int = 0


_Key = tuple[str, str, int, str]


@dataclass(slots=True, kw_only=True)
class EventRow:
    """A verb or a rule that holds or has held."""

    id: str
    kind: str
    source: int | None
    """Id of the source; None of one that this run does not have."""
    source_name: str
    time: datetime
    """Wall time of the start, UTC; see WallClock."""
    start_s: float
    """Time on the source's own clock."""
    rule: str
    verb: str
    object: str
    """The object's word; empty where there is none."""
    human: int
    object_id: int
    pair: int
    score: float | None
    """The best score so far; None while a verb has not ended."""
    end_s: float | None = None
    """None while it holds."""
    evidence: Evidence | None = field(default=None, repr=False)
    key: _Key = field(repr=False)
    """Run, kind, and what names it there: the hit, or pair and verb."""

    def fields(self) -> dict[str, Any]:
        """For JSON. Files are named by the row's id, never by their path."""
        return {
            "id": self.id,
            "kind": self.kind,
            "source": self.source,
            "source_name": self.source_name,
            "time": utc_text(self.time, "milliseconds"),
            "start_s": round(self.start_s, _TIME_DIGITS),
            "end_s": None if self.end_s is None else round(self.end_s, _TIME_DIGITS),
            "is_open": self.end_s is None,
            "rule": self.rule,
            "verb": self.verb,
            "object": self.object,
            "human": self.human if self.human >= 0 else None,
            "object_id": self.object_id if self.object_id >= 0 else None,
            "pair": self.pair if self.pair >= 0 else None,
            "score": None if self.score is None else round(self.score, _SCORE_DIGITS),
            "evidence": self.evidence and _links(self.id, self.evidence.snapshot, self.evidence.clip),
        }

    def fits(self, query: EventQuery) -> bool:
        wanted = (
            (query.source, self.source),
            (query.kind, self.kind),
            (query.verb, self.verb),
            (query.object, self.object),
            (query.rule, self.rule),
        )
        return (
            all(asked is None or asked == value for asked, value in wanted)
            and (query.since is None or self.time >= query.since)
            and (query.until is None or self.time < query.until)
        )


def _links(event_id: str, snapshot: Path | str | None, clip: Path | str | None) -> dict[str, str] | None:
    """Paths on the server, of those files that there are."""
    files = {"snapshot": snapshot, "clip": clip}
    return {kind: f"/api/evidence/{event_id}/{kind}" for kind, file in files.items() if file} or None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events of a range, the newest first."""

    total: int
    """Events that fit; of a record, counted up to MAX_COUNTED beyond the range."""
    events: list[dict[str, Any]]
    """As EventRow.fields."""
    is_stored: bool = False
    """Whether they come from the record rather than from memory."""


class EventList(Protocol):
    """A list of events that the live server can serve: the one in memory, or a record. Called from any thread."""

    def query(self, query: EventQuery) -> EventPage:
        """Events that fit."""
        ...

    def evidence_file(self, event_id: str, kind: str) -> Path | None:
        """Path of the snapshot or clip of an event, as it was kept; the file may have been removed."""
        ...

    @property
    def version(self) -> int:
        """Another number after every change."""
        ...


class RecentEvents:
    """Rows of all sources, in the order of their starts."""

    def __init__(self, max_rows: int = MAX_ROWS, on_change: Callable[[], None] = lambda: None) -> None:
        """Args: on_change: called from any thread, holding no lock."""
        self.version = 0
        self.on_change = on_change
        self._max_rows = max_rows
        self._rows: OrderedDict[str, EventRow] = OrderedDict()
        self._by_key: dict[_Key, EventRow] = {}
        """The last row of each key."""
        self._number = 0
        self._lock = threading.Lock()

    def sink(self, source_id: int, name: str) -> Sink:
        """A sink for one pass over a source."""
        return _RecentEventsSink(self, source_id, name)

    def query(self, query: EventQuery) -> EventPage:
        with self._lock:
            fitting = [row for row in reversed(self._rows.values()) if row.fits(query)]
            events = [row.fields() for row in fitting[query.offset : query.offset + query.limit]]
            return EventPage(total=len(fitting), events=events)

    def open_keys(self) -> set[_Key]:
        """Keys of the rows that have not ended."""
        with self._lock:
            return {row.key for row in self._rows.values() if row.end_s is None}

    def evidence_file(self, event_id: str, kind: str) -> Path | None:
        evidence = self.evidence(event_id)
        return None if evidence is None else evidence.snapshot if kind == "snapshot" else evidence.clip

    def evidence(self, event_id: str) -> Evidence | None:
        """Evidence of an event, if it has some."""
        with self._lock:
            row = self._rows.get(event_id)
            return None if row is None else row.evidence

    def put_evidence(self, evidence: Evidence) -> None:
        """Joins evidence to its row, if that is still kept; may be called from any thread."""
        with self._lock:
            row = self._row_of(evidence)
            if row is None:
                return
            row.evidence = evidence
            self.version += 1
        self.on_change()

    def put_event(
        self, header: RunHeader, source: tuple[int, str], event: Event, clock: WallClock | None = None
    ) -> None:
        """Adds a verb that starts, or ends its row. Args: clock: of the stream; None: as before its first frame."""
        key = (header.run_id, "verb", event.pair, event.verb)
        with self._lock:
            row = self._by_key.get(key)
            if event.event == "start" or row is None or row.end_s is not None:
                start_s = event.pts_s if event.start_s is None else event.start_s
                row = self._add(
                    key,
                    header,
                    clock or WallClock(header),
                    source,
                    start_s=start_s,
                    verb=event.verb,
                    object=event.label,
                    human=event.human,
                    object_id=event.object,
                    pair=event.pair,
                    score=event.peak_score,
                )
            if event.event == "end":
                row.end_s, row.score = event.pts_s, event.peak_score
            self.version += 1
        self.on_change()

    def put_hit(self, header: RunHeader, source: tuple[int, str], hit: RuleHit, clock: WallClock | None = None) -> None:
        """Adds a hit of a rule, updates its row or ends it. Args: clock: as of put_event."""
        key = (header.run_id, "rule", hit.hit, "")
        with self._lock:
            row = self._by_key.get(key) or self._add(
                key,
                header,
                clock or WallClock(header),
                source,
                start_s=hit.start_s,
                rule=hit.rule,
                verb=hit.verb,
                object=hit.label,
                human=hit.human,
                object_id=hit.object,
                pair=hit.pair,
                score=hit.peak_score,
            )
            row.score = hit.peak_score
            row.end_s = hit.pts_s if hit.event == "end" else None
            self.version += 1
        self.on_change()

    def _row_of(self, evidence: Evidence) -> EventRow | None:
        if evidence.hit is not None:
            return self._by_key.get((evidence.run_id, "rule", evidence.hit, ""))
        # The verb may have ended and begun again meanwhile.
        key = (evidence.run_id, "verb", evidence.pair, evidence.verb)
        rows = (row for row in reversed(self._rows.values()) if row.key == key)
        return next((row for row in rows if abs(row.start_s - evidence.start_s) < 10.0**-_TIME_DIGITS), None)

    def _add(
        self,
        key: _Key,
        header: RunHeader,
        clock: WallClock,
        source: tuple[int, str],
        *,
        start_s: float,
        rule: str = "",
        **fields: Any,
    ) -> EventRow:
        self._number += 1
        row = EventRow(
            id=f"{header.run_id[:12]}-{self._number}",
            kind=key[1],
            source=source[0],
            source_name=source[1],
            time=clock.at(start_s),
            start_s=start_s,
            rule=rule,
            key=key,
            **fields,
        )
        self._rows[row.id] = self._by_key[key] = row
        if len(self._rows) > self._max_rows:
            _, oldest = self._rows.popitem(last=False)
            if self._by_key.get(oldest.key) is oldest:
                del self._by_key[oldest.key]
        return row


class _RecentEventsSink(Sink):
    """Events and hits of one pass over a source."""

    def __init__(self, events: RecentEvents, source_id: int, name: str) -> None:
        self._events, self._source = events, (source_id, name)

    def start(self, header: RunHeader) -> None:
        self._header, self._clock = header, WallClock(header)

    def write(self, result: FrameResult) -> None:
        self._clock.see(result)
        self._put(result.events, result.rule_hits)

    def source_event(self, event: SourceEvent) -> None:
        return

    def finish(self, summary: RunSummary) -> None:
        self._put(summary.closing_events, summary.closing_hits)

    def _put(self, events: tuple[Event, ...], hits: tuple[RuleHit, ...]) -> None:
        for event in events:
            self._events.put_event(self._header, self._source, event, self._clock)
        for hit in hits:
            self._events.put_hit(self._header, self._source, hit, self._clock)


class StoredEvents:
    """All events of a record, whichever run and source they are of; those in memory while it cannot be read.

    One query at a time reads it, so that a slow database holds up no other request for long.
    """

    def __init__(
        self,
        recent: RecentEvents,
        store: EventStore,
        sources: Callable[[], Sequence[SupervisedSource]],
        is_connected: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        Args:
            recent: events of this run.
            sources: those of this run, whose events are known by their name in the record.
            is_connected: whether the record is being written; while it is not, no query waits for it.
        """
        self.on_change: Callable[[], None] = lambda: None
        self._recent, self._store, self._sources, self._is_connected = recent, store, sources, is_connected
        self._lock = threading.Lock()
        self._retry_at_s = 0.0
        self._written = 0

    @property
    def version(self) -> int:
        return self._recent.version + self._written

    def written(self) -> None:
        """Called after something was written to the record, from the thread that does."""
        self._written += 1
        self.on_change()

    def query(self, query: EventQuery) -> EventPage:
        return self._read(lambda: self._page(query)) or self._recent.query(query)

    def evidence_file(self, event_id: str, kind: str) -> Path | None:
        if not _STORED_ID.fullmatch(event_id):  # listed from memory
            return self._recent.evidence_file(event_id, kind)
        event = self._read(lambda: self._store.get(event_id))
        path = None if event is None else event.snapshot if kind == "snapshot" else event.clip
        return None if path is None else Path(path)

    def _read(self, read: Callable[[], T]) -> T | None:
        """What is read; None where that is not possible now."""
        if not self._is_connected() or time.monotonic() < self._retry_at_s:
            return None
        if not self._lock.acquire(timeout=MAX_QUERY_WAIT_S):
            return None
        try:
            return read()
        except UsageError:  # no such event, or a file that is about to be made again
            return None
        except SourceError:
            self._retry_at_s = time.monotonic() + RETRY_S
            return None
        finally:
            self._lock.release()

    def _page(self, query: EventQuery) -> EventPage:
        ids = {source.name: source.id for source in self._sources()}
        name = next((name for name, number in ids.items() if number == query.source), None)
        is_of_another_kind = query.kind == "verb" and query.rule is not None
        if (query.source is not None and name is None) or is_of_another_kind:
            return EventPage(total=0, events=[], is_stored=True)
        wanted = EventFilter(
            since=query.since,
            until=query.until,
            source_name=name,
            verb=query.verb,
            object=query.object,
            rule=query.rule,
            kind="event" if query.kind == "verb" else "rule" if query.kind else None,
            limit=query.limit,
            offset=query.offset,
        )
        total = self._store.count(wanted, query.offset + query.limit + MAX_COUNTED)
        open_keys = self._recent.open_keys()
        events = [_stored_fields(event, ids.get(event.source), open_keys) for event in self._store.query(wanted)]
        return EventPage(total=total, events=events, is_stored=True)


def _stored_fields(event: RecordedEvent, source: int | None, open_keys: set[_Key]) -> dict[str, Any]:
    """As EventRow.fields; without an end, it holds only if this run knows of it: its run may have been killed."""
    is_rule = event.kind == "rule"
    pair = -1 if event.pair is None else event.pair
    key = (event.run_id, "rule", event.number, "") if is_rule else (event.run_id, "verb", pair, event.verb)
    row = EventRow(
        id=f"{event.run_id}-{event.kind[0]}{event.number}",
        kind=key[1],
        source=source,
        source_name=event.source,
        time=read_time(event.start_at),
        start_s=event.start_s,
        end_s=event.end_s,
        rule=event.rule,
        verb=event.verb,
        object=event.label,
        human=-1 if event.human is None else event.human,
        object_id=-1 if event.object is None else event.object,
        pair=pair,
        score=event.peak_score,
        key=key,
    )
    links = _links(row.id, event.snapshot, event.clip)
    return {**row.fields(), "is_open": event.end_s is None and key in open_keys, "evidence": links}
