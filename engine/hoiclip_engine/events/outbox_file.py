"""The file of an outbox: messages that no target has acknowledged yet, in SQLite.

A thread writes what changed since the last transaction, so that neither sinks nor targets wait for the disk: after a
kill the messages of the last milliseconds may be missing, and some that were acknowledged may come again. What waits to
be written is no more than the outbox holds.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.core.errors import SinkError

APPLICATION_ID = 0x484F4942
"""Of SQLite files that are outboxes."""
_VERSION = 1
_SCHEMA = """
CREATE TABLE message (
    target TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    time TEXT NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (target, number)
) WITHOUT ROWID
"""
RETRY_S = 1.0
"""Pause after a failure to write."""
CLOSE_S = 2.0
"""Time limit of writing what is left at the end."""
_log = logging.getLogger("hoiclip")
_Key = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event of a source, as it waits for its delivery."""

    id: str
    """The same in every attempt, also after a restart: the run's id and a number."""
    kind: str
    """verb.start, verb.end, rule.start, rule.update, rule.end, source.lost or source.back."""
    source: str
    """Name of the source, distinct in its run and safe in topics and file names."""
    time: str
    """Time of the report, UTC in ISO 8601."""
    payload: Mapping[str, Any]
    """Fields as in JSON lines, and the printable `source`."""


class OutboxFile:
    """Keeps messages of targets by number. `keep` and `forget` never wait."""

    def __init__(self, path: Path) -> None:
        """Touches no file."""
        self._path = path
        self._changed = threading.Condition()
        self._to_insert: dict[_Key, Message] = {}
        self._to_delete: set[_Key] = set()
        self._is_writing = self._ending = False
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Opens the file, or makes it, readable for its owner only.

        Raises:
            SinkError: it cannot be written, is not an outbox, or another run uses it.
        """
        try:
            # SQLite gives its journal the mode of the file.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = self._connected()
        except (OSError, sqlite3.Error) as error:
            raise SinkError(self._reason(error)) from error
        self._ending = False
        self._thread = threading.Thread(target=self._work, args=(self._connection,), name="hoiclip-outbox", daemon=True)
        self._thread.start()

    @property
    def next_number(self) -> int:
        """A number larger than all in the file. Before the first `keep` only."""
        assert self._connection is not None
        (last,) = self._connection.execute("SELECT max(number) FROM message").fetchone()
        return 0 if last is None else int(last) + 1

    def load(self, target: str) -> list[tuple[int, Message]]:
        """Messages of a target with their numbers, oldest first. Before the first `keep` only.

        Raises:
            SinkError: the file is damaged.
        """
        assert self._connection is not None
        columns = "number, id, kind, source, time, payload"
        query = f"SELECT {columns} FROM message WHERE target = ? ORDER BY number"
        try:
            rows = self._connection.execute(query, (target,)).fetchall()
            return [
                (number, Message(id=id_, kind=kind, source=source, time=time, payload=json.loads(payload)))
                for number, id_, kind, source, time, payload in rows
            ]
        except (sqlite3.Error, ValueError) as error:
            raise SinkError(f"{self._path} is damaged ({type(error).__name__}); move it away") from error

    def keep(self, target: str, number: int, message: Message) -> None:
        with self._changed:
            self._to_insert[target, number] = message
            self._changed.notify_all()

    def forget(self, target: str, number: int) -> None:
        with self._changed:
            if self._to_insert.pop((target, number), None) is None:
                self._to_delete.add((target, number))
            self._changed.notify_all()

    @property
    def unwritten(self) -> int:
        """Changes that the file does not have yet."""
        with self._changed:
            return len(self._to_insert) + len(self._to_delete) + self._is_writing

    def close(self) -> None:
        """Writes what is left.

        Raises:
            SinkError: some messages could not be written.
        """
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            thread, self._thread, self._connection = self._thread, None, None
        if thread is not None:
            thread.join(CLOSE_S)
        if left := len(self._to_insert):
            raise SinkError(f"{left} messages could not be written to {self._path}; make room on the disk")

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=1.0, check_same_thread=False, isolation_level=None)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second run must not deliver the same messages
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a power cut, too; only the file's own thread waits
            connection.execute("BEGIN IMMEDIATE")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not tables:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            elif (application, version) != (APPLICATION_ID, _VERSION):
                raise sqlite3.NotSupportedError
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _reason(self, error: OSError | sqlite3.Error) -> str:
        if isinstance(error, OSError):
            return f"cannot open the outbox {self._path}: {error.strerror}; choose a folder that is writable"
        if isinstance(error, sqlite3.NotSupportedError) or "not a database" in str(error):
            return f"expected an outbox, found another file in {self._path}; name another one with --outbox"
        if "locked" in str(error):
            return f"another run uses the outbox {self._path}; give each its own"
        return f"cannot open the outbox {self._path}: {error}; choose a folder that is writable"

    def _work(self, connection: sqlite3.Connection) -> None:
        warned = False
        with closing(connection):
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._to_insert or self._to_delete or self._ending)
                    inserts, deletes = self._to_insert, self._to_delete
                    self._to_insert, self._to_delete = {}, set()
                    self._is_writing = True
                if not inserts and not deletes:
                    self._is_writing = False
                    return
                try:
                    _write(connection, inserts, deletes)
                    self._is_writing = False
                except sqlite3.Error as error:
                    self._put_back(inserts, deletes)
                    if self._ending:
                        return
                    if not warned:
                        _log.warning("cannot write %s: %s; messages wait in memory", self._path, error)
                        warned = True
                    with self._changed:
                        self._changed.wait_for(lambda: self._ending, RETRY_S)

    def _put_back(self, inserts: dict[_Key, Message], deletes: set[_Key]) -> None:
        """Adds changes that were not written to those that came meanwhile."""
        with self._changed:
            never_written = inserts.keys() & self._to_delete
            self._to_insert = {**{key: inserts[key] for key in inserts.keys() - never_written}, **self._to_insert}
            self._to_delete = (self._to_delete | deletes) - never_written
            self._is_writing = False


def _write(connection: sqlite3.Connection, inserts: Mapping[_Key, Message], deletes: set[_Key]) -> None:
    rows = [
        (*key, message.id, message.kind, message.source, message.time, json.dumps(message.payload, allow_nan=False))
        for key, message in inserts.items()
    ]
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany("DELETE FROM message WHERE target = ? AND number = ?", deletes)
        connection.execute("COMMIT")
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
