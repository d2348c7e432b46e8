"""Writes what a run finds into a database, from a thread of its own; the frame loop never waits for it.

Rows stay in a bounded queue until they are in the database or, while that is lost, in a bounded file, the spool, from
which they are written in order once the database is back, also by the next run. What fits nowhere is dropped and
counted. One Recorder serves all sources of a run, with a sink for each.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

from hoiclip.core.errors import SinkError
from hoiclip_engine.events.databases import Connection, DatabaseLost, RowRefused, parse_database, stored_time
from hoiclip_engine.events.record_sink import RecordSink, evidence_row
from hoiclip_engine.events.schema import Row
from hoiclip_engine.events.spool import Spool
from hoiclip_engine.types.results import Sink
from hoiclip_engine.types.rule_hits import Evidence

_log = logging.getLogger("hoiclip")

_LISTED = frozenset(("events", "rule_hits", "evidence"))
PRUNE_PAUSE_S = 0.05
"""Seconds between two deletions while nothing is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConfig:
    """Queue, batches, spool and retention of a record."""

    waiting: int = 20_000
    """Rows in memory at most; further ones are dropped."""
    batch: int = 500
    """Rows of one transaction at most."""
    collect_s: float = 0.5
    """Seconds over which rows are collected into a batch."""
    checkpoint_s: float = 10.0
    """Seconds after which the times at which pairs were last seen are written, while they are still seen."""
    spool_bytes: int = 64 << 20
    """Size of the spool at most; further rows are dropped."""
    first_pause_s: float = 0.5
    """Before a second try to reach the database; doubled before each further one, with jitter."""
    last_pause_s: float = 30.0
    drain_s: float = 2.0
    """Seconds after the end of a run in which rows are still written; the others are spooled."""
    keep_s: float | None = None
    """Age from which rows are deleted; None keeps them."""
    prune_every_s: float = 3600.0

    def __post_init__(self) -> None:
        if min(self.waiting, self.batch, self.spool_bytes) < 1:
            raise ValueError(f"waiting, batch and spool_bytes must be at least 1, got {self}")
        if self.keep_s is not None and not self.keep_s > 0:
            raise ValueError(f"keep_s must be positive, got {self.keep_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCounts:
    """Rows of a record by what became of them."""

    written: int = 0
    """In the database, including those that were spooled before."""
    spooled: int = 0
    """Written to the spool, of this run or found there."""
    dropped: int = 0
    """Lost: queue or spool were full."""
    refused: int = 0
    """Lost: the database could not store their values."""
    losses: int = 0
    """Times that the database was lost."""


class Recorder:
    """A record that is being written. `sink()` makes a sink per source; any thread may call it."""

    def __init__(self, where: str | Path, config: RecordConfig | None = None) -> None:
        """Creates the record where there is none, and starts to write what an earlier run left in the spool.

        A database that may come back, such as a server that is down, is no error.

        Args:
            where: an SQLite file, or postgresql://...

        Raises:
            UsageError: the address makes no sense, the file is something else, or the record is of a newer version.
            BackendMissing: psycopg is not installed.
            SinkError: the database or the spool cannot be opened.
        """
        self.on_written: Callable[[], None] = lambda: None
        """Called in the thread of the recorder after events, hits or evidence were written."""
        self._database, self._config = parse_database(where), config or RecordConfig()
        self._queue: deque[Row] = deque()
        self._changed = threading.Condition()
        self._active: dict[str, Row] = {}
        """Row of each run that has not ended, to be written again into a database that is new."""
        self._counts = RecordCounts()
        self._ending = self._abandoned = self._tried_last = False
        self._connection: Connection | None = None
        self._pause_s, self._retry_at = self._config.first_pause_s, 0.0
        self._prune_at = 0.0 if self._config.keep_s else float("inf")
        self._pruning: Iterator[int] | None = None
        self._failure = ""
        self._spool = self._open_spool()
        try:
            self._connection = self._database.connect(write=True)
        except DatabaseLost as error:
            if not error.may_return:
                self._spool.close()
                raise SinkError(
                    f"cannot record in {self._database.name}: {error}; correct it, or leave --db out"
                ) from None
            self._lost(error)
        except BaseException:
            self._spool.close()
            raise
        self._thread = threading.Thread(target=self._work, name="hoiclip-record", daemon=True)
        self._thread.start()

    def sink(self) -> Sink:
        """A sink for one source."""
        return RecordSink(self.put, self._config.checkpoint_s)

    @property
    def counts(self) -> RecordCounts:
        return self._counts

    @property
    def waiting(self) -> int:
        """Rows that are in no database yet: in the queue and in the spool."""
        return len(self._queue) + self._spool.rows

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def put(self, rows: Iterable[Row]) -> None:
        """Queues rows; never waits. Those that do not fit are dropped and counted."""
        with self._changed:
            before = len(self._queue)
            for row in rows:
                if row[0] == "runs":
                    self._note_run(row)
                if len(self._queue) < self._config.waiting and not self._ending:
                    self._queue.append(row)
                else:
                    self._count(dropped=1)
            if not before or len(self._queue) >= self._config.batch:
                self._changed.notify()

    def put_evidence(self, evidence: Evidence) -> None:
        """Queues the paths of evidence, which may be written long after its event or hit."""
        self.put([evidence_row(evidence)])

    def close(self) -> None:
        """Writes or spools what waits, and ends. Call it after the sinks and all evidence; may be called twice.

        Raises:
            SinkError: rows were lost, or wait in the spool for another run.
        """
        with self._changed:
            if self._ending:
                return
            self._ending = True
            self._changed.notify()
        self._thread.join(self._config.drain_s)
        with self._changed:
            if self._thread.is_alive():  # in a connection that hangs
                self._abandoned = True
                with suppress(OSError):
                    self._spool_rows(list(self._queue))
                    self._queue.clear()
            self._count(dropped=len(self._queue))
            self._queue.clear()
            counts, left = self._counts, self._spool.rows
            self._spool.close()
        self._raise_losses(counts, left)

    def _raise_losses(self, counts: RecordCounts, left: int) -> None:
        name, why = self._database.name, f": {self._failure}" if self._failure else ""
        if counts.dropped or counts.refused:
            lost = counts.dropped + counts.refused
            also = f", and {left} wait in {self._spool.path}" if left else ""
            raise SinkError(f"{lost} rows could not be recorded in {name}{why}{also}; JSON lines have every event")
        if left:
            raise SinkError(
                f"{left} rows are not recorded in {name} yet{why}; they wait in {self._spool.path}, "
                "and the next run with the same --db writes them"
            )

    def _open_spool(self) -> Spool:
        path = self._database.spool
        try:
            if not self._database.files:  # then it is in the cache
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return Spool(path, self._config.spool_bytes)
        except OSError as error:
            raise SinkError(
                f"cannot make {path}, where rows wait while the database is lost: {error.strerror}; "
                "choose a folder that is writable, for PostgreSQL by HOICLIP_CACHE"
            ) from None

    def _note_run(self, row: Row) -> None:
        if row[1]["ended_at"] is None:
            self._active[row[1]["run_id"]] = row
        else:
            self._active.pop(row[1]["run_id"], None)

    def _count(self, **more: int) -> None:
        with self._changed:
            self._counts = replace(self._counts, **{name: getattr(self._counts, name) + n for name, n in more.items()})

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            if not self._store(batch) and self._ending:
                break
        if self._connection is not None:
            self._connection.close()

    def _next_batch(self) -> list[Row] | None:
        """Rows from the head of the queue, where they stay; none where something else is due.

        None once the run has ended and nothing is left to do.
        """
        with self._changed:
            if not self._queue and not self._ending:
                self._changed.wait(self._idle_s())
            if self._queue and len(self._queue) < self._config.batch and not self._ending:
                self._changed.wait(self._config.collect_s)
            replays = self._spool.rows and not (self._tried_last and self._connection is None)
            if self._abandoned or (self._ending and not self._queue and not replays):
                return None
            return list(islice(self._queue, self._config.batch))

    def _idle_s(self) -> float | None:
        """Seconds until there is something to do without new rows; None for never."""
        if self._connection is not None and self._pruning is not None:
            return PRUNE_PAUSE_S
        due_at = self._retry_at if self._connection is None else 0.0 if self._spool.rows else self._prune_at
        return None if due_at == float("inf") else max(due_at - time.monotonic(), 0.0)

    def _store(self, rows: list[Row]) -> bool:
        """Moves rows from the queue into the database, or else into the spool. Returns whether they found a place."""
        try:
            if self._connect():
                self._replay()
                self._write(rows)
                self._take(len(rows))
                self._returned()
                self._prune_some()
                return True
        except Exception as error:  # also a file that was replaced by something else, or a spool that cannot be read
            self._lost(error)
        try:
            with self._changed:
                if not self._abandoned:
                    self._spool_rows(rows)
                    self._take(len(rows))
            return True
        except OSError as error:  # the disk of the spool is full too: they stay in the queue
            self._failure = f"the spool cannot be written, {error.strerror}"
            with self._changed:
                if not self._ending:
                    self._changed.wait(max(self._retry_at - time.monotonic(), self._config.collect_s))
            return False

    def _connect(self) -> bool:
        """Whether there is a connection; tries to make one when that is due, and once at the end."""
        if self._connection is not None:
            return True
        if self._tried_last if self._ending else time.monotonic() < self._retry_at:
            return False
        self._tried_last = self._ending
        self._connection = self._database.connect(write=True)
        with self._changed:
            active = list(self._active.values())
        self._write(active)
        return True

    def _returned(self) -> None:
        """Notes that rows are written again: not before, since a connection may be made and refuse to write."""
        if self._failure:
            _log.warning("the record in %s is back; what waited for it is written", self._database.name)
            self._pause_s, self._failure = self._config.first_pause_s, ""

    def _lost(self, error: Exception) -> None:
        if not self._failure:
            self._count(losses=1)
            _log.warning("the record in %s is lost: %s; rows wait in %s", self._database.name, error, self._spool.path)
        if self._connection is not None:
            self._connection.close()
        self._connection, self._failure, self._pruning = None, str(error), None
        self._retry_at = time.monotonic() + self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, self._config.last_pause_s)

    def _write(self, rows: list[Row]) -> None:
        """Writes rows; those that the database refuses are counted, and do not hold up the others."""
        assert self._connection is not None
        if not rows:
            return
        try:
            self._connection.write(rows)
            self._count(written=len(rows))
            if any(table in _LISTED for table, _ in rows):
                self.on_written()
        except RowRefused as error:
            if len(rows) > 1:
                for row in rows:
                    self._write([row])
                return
            self._count(refused=1)
            if self._counts.refused == 1:
                _log.warning("the record in %s refuses a row of %s: %s", self._database.name, rows[0][0], error)

    def _take(self, count: int) -> None:
        with self._changed:
            for _ in range(min(count, len(self._queue))):
                self._queue.popleft()

    def _spool_rows(self, rows: list[Row]) -> None:
        if rows:
            stored = self._spool.append(rows)
            self._count(spooled=stored, dropped=len(rows) - stored)

    def _replay(self) -> None:
        """Writes what is in the spool, the oldest first; after a failure the next call continues."""
        while self._spool.rows and not self._abandoned:
            rows, damaged = self._spool.read(self._config.batch)
            self._write(rows)
            self._count(refused=damaged)
            self._spool.done()

    def _prune_some(self) -> None:
        """Deletes some old rows, so that new ones wait for no longer than that takes."""
        if self._pruning is not None:
            self._pruning = self._pruning if next(self._pruning, None) is not None else None
        elif time.monotonic() >= self._prune_at and self._connection is not None and self._config.keep_s:
            self._prune_at = time.monotonic() + self._config.prune_every_s
            before = datetime.now(timezone.utc) - timedelta(seconds=self._config.keep_s)
            self._pruning = self._connection.prune(stored_time(before), self._config.batch)
