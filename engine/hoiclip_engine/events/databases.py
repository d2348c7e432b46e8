"""Databases that hold a record: an SQLite file, or PostgreSQL (psycopg, extra `postgres`).

Here is what differs between the two, and what can happen to them; the SQL is in schema.py. A database is created and
brought to the current version when it is opened for writing. No message holds a user or a password.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from hoiclip.core.cache_dirs import cache_base
from hoiclip.core.errors import BackendMissing, UsageError
from hoiclip.core.printable import one_line
from hoiclip.core.wall_time import utc_text
from hoiclip_engine.events import schema
from hoiclip_engine.events.schema import Row
from hoiclip_engine.sources.uri import is_stream, redact

APPLICATION_ID = 0x686F6963
"""Marks an SQLite file as a record of hoiclip: "hoic"."""
POSTGRES_SCHEMA = "hoiclip"
_POSTGRES_LOCK = APPLICATION_ID
BUSY_S = 1.0
"""Seconds that SQLite waits for another writer."""
CONNECT_S = 5
STATEMENT_S = 30
SILENT_S = 10
"""Seconds after which a PostgreSQL server that acknowledges nothing counts as lost."""


class DatabaseLost(Exception):
    """The database cannot be used for now."""

    def __init__(self, reason: str, *, may_return: bool = True) -> None:
        super().__init__(reason)
        self.may_return = may_return
        """Whether waiting may help; where not, the operator has to act."""


class RowRefused(Exception):
    """The database takes the connection and not the values."""


class Database(Protocol):
    """Where a record lies."""

    @property
    def name(self) -> str:
        """Printable, and without credentials."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that it is made of."""

    @property
    def spool(self) -> Path:
        """File for rows that wait for the database."""

    def connect(self, *, write: bool) -> Connection:
        """A connection to use in one thread at a time.

        Args:
            write: create the record where there is none, and migrate one of an earlier version.

        Raises:
            DatabaseLost: it cannot be reached or opened.
            UsageError: it is no record, or one of another version.
        """


def parse_database(where: str | Path) -> Database:
    """The database of `--db`: the name of an SQLite file, or postgresql://...; opens nothing.

    Raises:
        UsageError: an address that cannot be one.
        BackendMissing: psycopg is not installed.
    """
    text = str(where)
    if isinstance(where, str) and is_stream(text):
        if text.startswith(("postgresql://", "postgres://")):
            return _parse_postgres(text)
        raise UsageError(
            f"expected the name of an SQLite file or postgresql://host/db as the database, found {redact(text)}"
        )
    if not Path(text).name or "\0" in text:
        raise UsageError("expected the name of an SQLite file or postgresql://host/db as the database; name one")
    return SqliteDatabase(Path(text))


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the two languages."""

    begin: str
    """Begins a transaction that writes."""
    has_version: str
    """Selects a row where the table of the version exists."""
    parameter: str
    """Replacement for `:name`."""
    setup: tuple[str, ...]
    """What a new record needs before its tables."""
    lock: str
    """Within a transaction, keeps other processes from creating or migrating the record."""
    failures: tuple[type[Exception], ...]
    translate: Callable[[Exception], Exception]
    """An error of the driver as DatabaseLost or RowRefused."""
    stream: Callable[[Any], Any]
    """A cursor that fetches rows as they are read; within a transaction."""

    def sql(self, statement: str) -> str:
        return re.sub(r"(?<!:):([a-z_0-9]+)", self.parameter, statement)


class Connection:
    """An open record."""

    def __init__(self, raw: Any, dialect: Dialect, name: str, check: Callable[[], None] = lambda: None) -> None:
        """Args: check: raises DatabaseLost if what is written would not be found by others."""
        self._raw, self._dialect, self._name, self._check = raw, dialect, name, check

    def write(self, rows: Sequence[Row]) -> None:
        """Writes all rows or none.

        Raises:
            DatabaseLost: it is unknown whether they were written; write them again.
            RowRefused: the values of a row, at least, cannot be stored.
        """
        self._check()
        by_table: dict[str, list[dict[str, Any]]] = {}
        for table, values in rows:
            stored = {column: _stored(values.get(column)) for column in schema.COLUMNS[table]}
            by_table.setdefault(table, []).append(stored)
        with self._transaction(), closing(self._raw.cursor()) as cursor:
            for table, values_by_row in by_table.items():
                if table == "evidence":
                    cursor.executemany(self._dialect.sql(schema.RELEASE_FILES), values_by_row)
                cursor.executemany(self._dialect.sql(schema.INSERTS[table]), values_by_row)
        self._check()

    def select(self, statement: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, fetched as they are read.

        Raises:
            DatabaseLost: as in `write`.
        """
        given = {name: _stored(value) for name, value in values.items()}
        with self._transaction("BEGIN"), closing(self._dialect.stream(self._raw)) as cursor:
            cursor.execute(self._dialect.sql(statement), given)
            for row in cursor:
                yield tuple(_text(value) if isinstance(value, str) else value for value in row)

    def prune(self, before: str, rows: int) -> Iterator[int]:
        """Deletes what ended before a time, a transaction for a few rows each, and yields how many those were.

        Args:
            before: wall time, as schema.py has it.
            rows: at most so many at a time.

        Raises:
            DatabaseLost: as in `write`.
        """
        for statement in schema.DELETES.values():
            deleted = rows
            while deleted >= rows:
                with self._transaction(), closing(self._raw.cursor()) as cursor:
                    cursor.execute(self._dialect.sql(statement), {"before": before, "limit": rows})
                    deleted = cursor.rowcount
                yield deleted

    def migrate(self, migrations: Sequence[Sequence[str]] = schema.MIGRATIONS) -> None:
        """Brings the record to the newest version, a transaction for each step.

        Raises:
            UsageError: it is of a newer version than the program.
        """
        while True:
            with self._transaction(), closing(self._raw.cursor()) as cursor:
                if self._version(cursor, len(migrations)) == len(migrations):
                    return
                cursor.execute(self._dialect.lock)
                version = self._version(cursor, len(migrations))  # another process may have been quicker
                if version == len(migrations):
                    return
                first = self._dialect.setup + schema.CREATE_VERSION if version < 0 else ()
                for statement in (*first, *migrations[max(version, 0)]):
                    cursor.execute(statement)
                cursor.execute(self._dialect.sql(schema.SET_VERSION), {"version": max(version, 0) + 1})

    def require_current(self) -> None:
        """Raises UsageError: it is no record, or one of another version."""
        with self._transaction("BEGIN"), closing(self._raw.cursor()) as cursor:
            version = self._version(cursor, len(schema.MIGRATIONS))
        if version < 0:
            raise UsageError(f"expected a record in {self._name}, found none; hoiclip run --db writes one")
        if version < len(schema.MIGRATIONS):
            raise UsageError(
                f"expected a record of version {len(schema.MIGRATIONS)} in {self._name}, found version {version}; "
                "hoiclip events prune --older-than 100y brings it up to date"
            )

    def close(self) -> None:
        with suppress(*self._dialect.failures):
            self._raw.close()

    def _version(self, cursor: Any, newest: int) -> int:
        """-1 where there is no record."""
        cursor.execute(self._dialect.has_version)
        if cursor.fetchone() is None:
            return -1
        cursor.execute(schema.READ_VERSION)
        version = int(cursor.fetchone()[0])
        if version > newest:
            raise UsageError(
                f"expected a record of version {newest} at most in {self._name}, found version {version}; "
                "take a newer hoiclip, or another database"
            )
        return version

    @contextmanager
    def _transaction(self, begin: str = "") -> Iterator[None]:
        failures: tuple[type[Exception], ...] = (
            *self._dialect.failures,
            OverflowError,
        )  # of sqlite3, for an integer of more than 64 bits
        try:
            self._raw.execute(begin or self._dialect.begin)
            try:
                yield
            except BaseException:
                with suppress(*failures):
                    self._raw.execute("ROLLBACK")
                raise
            self._raw.execute("COMMIT")
        except failures as error:
            with suppress(*failures):
                self._raw.execute("ROLLBACK")  # after a COMMIT that failed
            raise self._dialect.translate(error) from None


def stored_time(moment: datetime | None = None) -> str:
    """A wall time as the databases hold it: all of one length. Args: moment: None: now."""
    return utc_text(moment, "microseconds")


_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]|\\(?=u[0-9a-f]{4})")


def _stored(value: Any) -> Any:
    """What the databases hold for a value: they have neither booleans alike, nor NaN, nor every character."""
    if isinstance(value, str):
        return _UNSTORABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    if isinstance(value, bool):
        return int(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(stored: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), stored) if "\\u" in stored else stored


@dataclass(frozen=True, slots=True)
class SqliteDatabase:
    """A file. In WAL mode, so that it can be read while it is written, and is whole after a power failure."""

    path: Path

    @property
    def name(self) -> str:
        return one_line(redact(str(self.path)))

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self.path.with_name(self.path.name + ending) for ending in ("", "-wal", "-shm", "-journal"))

    @property
    def spool(self) -> Path:
        return self.path.with_name(f"{self.path.name}.spool")

    def connect(self, *, write: bool) -> Connection:
        if self.path.exists() and not self.path.is_file():
            raise UsageError(f"expected a file as the database, found that {self.name} is none; choose another name")
        if not write and not self.path.exists():
            raise UsageError(f"expected a record in {self.name}, found no such file; hoiclip run --db writes one")
        address = f"{self.path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}"
        try:
            raw = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _sqlite_failure(error) from None
        try:
            self._require_record(raw)
            connection = Connection(raw, _SQLITE, self.name, self._same_file())
            if write:
                connection.migrate()
                raw.execute("PRAGMA journal_mode = WAL")
                raw.execute("PRAGMA synchronous = FULL")
            else:
                connection.require_current()
        except BaseException as error:
            raw.close()
            if isinstance(error, sqlite3.Error):
                raise _sqlite_failure(error) from None
            raise
        return connection

    def _require_record(self, raw: sqlite3.Connection) -> None:
        """Raises UsageError: the file is something else."""
        try:
            (application_id,) = raw.execute("PRAGMA application_id").fetchone()
            (tables,) = raw.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            if "not a database" not in str(error):
                raise
            application_id, tables = 0, 1
        if application_id != APPLICATION_ID and (tables or application_id):
            raise UsageError(
                f"expected a record of hoiclip or no file at all, found something else in {self.name}; "
                "choose another name"
            )

    def _same_file(self) -> Callable[[], None]:
        """A check that the open file is still the one with its name: else rows would go into a file without one."""
        opened = self._identity()

        def check() -> None:
            if self._identity() != opened:
                raise DatabaseLost("the file was removed or replaced")

        return check

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _sqlite_failure(error: Exception) -> Exception:
    text = one_line(str(error))
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, OverflowError)):
        return RowRefused(text)
    return DatabaseLost(text, may_return="locked" in text or "busy" in text)


_SQLITE = Dialect(
    begin="BEGIN IMMEDIATE",
    has_version="SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'",
    parameter=r":\1",
    setup=(f"PRAGMA application_id = {APPLICATION_ID}",),
    lock="SELECT 1",  # BEGIN IMMEDIATE is the lock
    failures=(sqlite3.Error,),
    translate=_sqlite_failure,
    stream=lambda raw: raw.cursor(),
)


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A PostgreSQL server; the record has a schema of its own in the given database."""

    address: str = field(repr=False)
    """May hold a password; what it does not say is taken from PGPASSWORD, ~/.pgpass and so on, as psql does."""
    name: str

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    @property
    def spool(self) -> Path:
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:16]
        return cache_base() / "spool" / f"{digest}.spool"

    def connect(self, *, write: bool) -> Connection:
        import psycopg

        try:
            raw = psycopg.connect(
                self.address,
                autocommit=True,  # transactions are begun by name
                connect_timeout=CONNECT_S,
                application_name="hoiclip",
                keepalives_idle=SILENT_S,
                tcp_user_timeout=SILENT_S * 1000,
            )
        except (psycopg.Error, ValueError) as error:
            raise _postgres_failure(error) from None
        connection = Connection(raw, _postgres_dialect(), self.name)
        try:
            raw.execute(f"SET search_path TO {POSTGRES_SCHEMA}")
            if write:
                connection.migrate()
                self._require_writable(raw)
            else:
                connection.require_current()
            raw.execute(f"SET statement_timeout TO '{STATEMENT_S}s'")
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise _postgres_failure(error) from None
            raise
        return connection

    def _require_writable(self, raw: Any) -> None:
        """Raises DatabaseLost: the user may not write there."""
        (allowed,) = raw.execute("SELECT has_table_privilege('events', 'INSERT, UPDATE, DELETE')").fetchone()
        if not allowed:
            raise DatabaseLost("the user may not write there", may_return=False)


def _parse_postgres(text: str) -> PostgresDatabase:
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise BackendMissing("a record in PostgreSQL needs psycopg; pip install 'hoiclip[postgres]'") from None

    rest = text.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if authority.count("@") > 1 or "@" in rest[len(authority) :]:  # libpq would take a part of it for the host
        raise UsageError("expected no / ? # @ in the user or password of --db; write them as %2F %3F %23 %40")
    try:
        parts = conninfo_to_dict(text)
    except psycopg.Error:
        raise UsageError(
            "expected the address of a database, such as postgresql://user@host:5432/db; correct it"
        ) from None
    host, port = parts.get("host") or os.environ.get("PGHOST", ""), parts.get("port") or os.environ.get("PGPORT", "")
    if not re.fullmatch(r"[\d,]*", str(port), re.ASCII):
        raise UsageError("expected a port that is a number in the address of --db; correct it")
    database = parts.get("dbname") or os.environ.get("PGDATABASE", "")
    return PostgresDatabase(text, one_line(f"postgresql://{host}{f':{port}' if port else ''}/{database}"))


_ANSWERS = (
    ("password authentication failed", "it refuses the user or the password", False),
    ("no password supplied", "it wants a password; give it in the address, PGPASSWORD or ~/.pgpass", False),
    ("authentication failed", "it refuses the user", False),
    ("no pg_hba.conf entry", "it takes no connections of this user from here", False),
    ("does not exist", "it has no such database or user", False),
    ("does not support SSL", "it offers no TLS", False),
    ("certificate", "its certificate is not trusted", False),
    ("could not translate host name", "no such host", True),
    ("failed to resolve host", "no such host", True),
    ("Connection refused", "the connection was refused", True),
    ("No such file or directory", "the connection was refused", True),
    ("timeout", "it does not answer", True),
    ("starting up", "it is starting", True),
    ("shutting down", "it is shutting down", True),
    ("too many", "it has too many connections", True),
)
"""Text of a failed connection, what is printed for it, whether waiting may help. The text itself names the user."""
_STATES = {
    "25": "it is read-only",
    "40": "another writer was in the way",
    "42": "its tables are not as expected, or may not be written by this user",
    "53": "it has no room",
    "57": "it ended the statement or was restarted",
}
"""What is printed for classes of SQLSTATE."""


def _postgres_failure(error: Exception) -> Exception:
    import psycopg

    state = getattr(error, "sqlstate", None) or ""
    if isinstance(error, (psycopg.DataError, psycopg.IntegrityError, OverflowError)) or state.startswith("54"):
        return RowRefused(f"{type(error).__name__} {state}".strip())
    if state == "42501":
        return DatabaseLost("the user may not do that", may_return=False)
    if state[:2] in _STATES:
        return DatabaseLost(_STATES[state[:2]])
    for text, reason, may_return in _ANSWERS:
        if text in str(error):
            return DatabaseLost(reason, may_return=may_return)
    return DatabaseLost(f"the connection failed, {type(error).__name__} {state}".rstrip())


def _postgres_dialect() -> Dialect:
    import psycopg

    names = itertools.count()
    return Dialect(
        begin="BEGIN",
        has_version=f"SELECT 1 WHERE to_regclass('{POSTGRES_SCHEMA}.schema_version') IS NOT NULL",
        parameter=r"%(\1)s",
        setup=(
            # Unlike IF NOT EXISTS, it needs no right to create a schema where there is one.
            f"DO $$ BEGIN IF to_regnamespace('{POSTGRES_SCHEMA}') IS NULL THEN CREATE SCHEMA {POSTGRES_SCHEMA}; "
            "END IF; END $$",
        ),
        lock=f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})",
        failures=(psycopg.Error,),
        translate=_postgres_failure,
        stream=lambda raw: raw.cursor(f"hoiclip_{next(names)}"),
    )
