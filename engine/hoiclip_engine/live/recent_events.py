"""The latest events of a live run in memory, with the evidence that was kept of them: what the page lists.

A verb that starts and ends is one row, as is a rule from its start to its end. Evidence comes later and is joined to
its row. The number of rows is bounded; a record that outlives the run is another matter.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from hoiclip.core.wall_time import utc_text
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink, WallClock
from hoiclip_engine.types.rule_hits import Evidence, RuleHit
from hoiclip_engine.types.tracked_pairs import Event

MAX_ROWS = 2000
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
    source: int
    """Id of the source."""
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
        evidence, links = self.evidence, {}
        if evidence is not None:
            links = {
                kind: f"/api/evidence/{self.id}/{kind}"
                for kind, path in (("snapshot", evidence.snapshot), ("clip", evidence.clip))
                if path is not None
            }
        return {
            "id": self.id,
            "kind": self.kind,
            "source": self.source,
            "source_name": self.source_name,
            "time": utc_text(self.time, "milliseconds"),
            "start_s": round(self.start_s, _TIME_DIGITS),
            "end_s": None if self.end_s is None else round(self.end_s, _TIME_DIGITS),
            "rule": self.rule,
            "verb": self.verb,
            "object": self.object,
            "human": self.human if self.human >= 0 else None,
            "object_id": self.object_id if self.object_id >= 0 else None,
            "pair": self.pair if self.pair >= 0 else None,
            "score": None if self.score is None else round(self.score, _SCORE_DIGITS),
            "evidence": links or None,
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


class EventList(Protocol):
    """A list of events that the live server can serve: the one in memory, or a record. Called from any thread."""

    def query(self, query: EventQuery) -> tuple[int, list[dict[str, Any]]]:
        """Number of events that fit, and those of the range asked for, the newest first, as EventRow.fields."""
        ...

    def evidence(self, event_id: str) -> Evidence | None:
        """Evidence of an event, if it has some."""
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

    def query(self, query: EventQuery) -> tuple[int, list[dict[str, Any]]]:
        with self._lock:
            fitting = [row for row in reversed(self._rows.values()) if row.fits(query)]
            return len(fitting), [row.fields() for row in fitting[query.offset : query.offset + query.limit]]

    def evidence(self, event_id: str) -> Evidence | None:
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
