"""All SQL of the record: tables, what writes, reads and deletes rows. It runs as it is on SQLite and on PostgreSQL.

Parameters are named, `:run_id`; databases.py translates them. Wall times are text in UTC, all of one length, so that
they sort, compare and group as they are: `SUBSTR(start_at, 1, 13)` is the hour. Booleans are 0 and 1.

Every row has a key of its own, and writing it again changes nothing: what a lost connection left in doubt is written
once more. There are no foreign keys, so that rows outlive another one that could not be written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

Row: TypeAlias = tuple[str, dict[str, Any]]
"""Table, and values by column; columns that are missing are NULL."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE sources (
            source TEXT NOT NULL PRIMARY KEY, first_at TEXT NOT NULL, last_at TEXT NOT NULL)""",
        """CREATE TABLE runs (
            run_id TEXT NOT NULL PRIMARY KEY, source TEXT NOT NULL,
            model TEXT NOT NULL, model_sha256 TEXT NOT NULL, vocabulary TEXT NOT NULL,
            backend TEXT NOT NULL, precision TEXT NOT NULL, policy TEXT NOT NULL,
            width_px BIGINT NOT NULL, height_px BIGINT NOT NULL,
            started_at TEXT NOT NULL, last_at TEXT NOT NULL, ended_at TEXT, first_s DOUBLE PRECISION,
            decoded BIGINT, detected BIGINT, dropped BIGINT, reconnects BIGINT, interrupted BIGINT)""",
        """CREATE TABLE tracks (
            run_id TEXT NOT NULL, track BIGINT NOT NULL, kind TEXT NOT NULL, label TEXT NOT NULL,
            first_s DOUBLE PRECISION NOT NULL, last_s DOUBLE PRECISION NOT NULL,
            first_at TEXT NOT NULL, last_at TEXT NOT NULL,
            PRIMARY KEY (run_id, track, kind))""",
        """CREATE TABLE pairs (
            run_id TEXT NOT NULL, pair BIGINT NOT NULL, human BIGINT NOT NULL, object BIGINT, label TEXT NOT NULL,
            first_s DOUBLE PRECISION NOT NULL, last_s DOUBLE PRECISION NOT NULL,
            first_at TEXT NOT NULL, last_at TEXT NOT NULL,
            PRIMARY KEY (run_id, pair))""",
        """CREATE TABLE events (
            run_id TEXT NOT NULL, pair BIGINT NOT NULL, verb TEXT NOT NULL, start_s DOUBLE PRECISION NOT NULL,
            number BIGINT NOT NULL, human BIGINT NOT NULL, object BIGINT, label TEXT NOT NULL,
            end_s DOUBLE PRECISION, peak_score DOUBLE PRECISION, evidence_s TEXT,
            start_at TEXT NOT NULL, end_at TEXT,
            PRIMARY KEY (run_id, pair, verb, start_s))""",
        """CREATE TABLE rule_hits (
            run_id TEXT NOT NULL, hit BIGINT NOT NULL, rule TEXT NOT NULL,
            pair BIGINT, human BIGINT, object BIGINT, verb TEXT NOT NULL, label TEXT NOT NULL,
            start_s DOUBLE PRECISION NOT NULL, last_s DOUBLE PRECISION NOT NULL, end_s DOUBLE PRECISION,
            peak_score DOUBLE PRECISION, peak_s DOUBLE PRECISION,
            start_at TEXT NOT NULL, end_at TEXT,
            PRIMARY KEY (run_id, hit))""",
        """CREATE TABLE evidence (
            run_id TEXT NOT NULL, hit BIGINT NOT NULL, pair BIGINT NOT NULL, verb TEXT NOT NULL,
            start_s DOUBLE PRECISION NOT NULL, rule TEXT NOT NULL, snapshot TEXT, clip TEXT,
            clip_start_s DOUBLE PRECISION, clip_end_s DOUBLE PRECISION, reencoded BIGINT NOT NULL,
            recorded_at TEXT NOT NULL,
            PRIMARY KEY (run_id, hit, pair, verb, start_s))""",
        "CREATE INDEX events_by_time ON events (start_at)",
        "CREATE INDEX rule_hits_by_time ON rule_hits (start_at)",
        "CREATE INDEX pairs_by_time ON pairs (last_at)",
        "CREATE INDEX tracks_by_time ON tracks (last_at)",
        "CREATE INDEX evidence_by_time ON evidence (recorded_at)",
    ),
    ("CREATE INDEX evidence_by_snapshot ON evidence (snapshot)",),
)
"""Statements that lead from version n to n + 1, for n = 0, 1, ...; only ever added to."""

CREATE_VERSION = ("CREATE TABLE schema_version (version BIGINT NOT NULL)", "INSERT INTO schema_version VALUES (0)")
READ_VERSION = "SELECT MAX(version) FROM schema_version"
SET_VERSION = "UPDATE schema_version SET version = :version"

_SPAN = """
    first_s = CASE WHEN excluded.first_s < {0}.first_s THEN excluded.first_s ELSE {0}.first_s END,
    first_at = CASE WHEN excluded.first_at < {0}.first_at THEN excluded.first_at ELSE {0}.first_at END,
    last_s = CASE WHEN excluded.last_s > {0}.last_s THEN excluded.last_s ELSE {0}.last_s END,
    last_at = CASE WHEN excluded.last_at > {0}.last_at THEN excluded.last_at ELSE {0}.last_at END,
    label = excluded.label"""

# Table: columns, of which the key comes first; its length; what becomes of an earlier row with that key.
# An event or hit that has ended stays ended, though its start or an update be written once more.
_WRITES: dict[str, tuple[str, int, str]] = {
    "sources": (
        "source first_at last_at",
        1,
        "last_at = CASE WHEN excluded.last_at > sources.last_at THEN excluded.last_at ELSE sources.last_at END",
    ),
    "runs": (
        "run_id source model model_sha256 vocabulary backend precision policy width_px height_px started_at last_at"
        " ended_at first_s decoded detected dropped reconnects interrupted",
        1,
        """last_at = excluded.last_at, ended_at = excluded.ended_at, first_s = excluded.first_s,
        decoded = excluded.decoded, detected = excluded.detected, dropped = excluded.dropped,
        reconnects = excluded.reconnects, interrupted = excluded.interrupted
        WHERE runs.ended_at IS NULL OR excluded.ended_at IS NOT NULL""",
    ),
    "tracks": ("run_id track kind label first_s last_s first_at last_at", 3, _SPAN.format("tracks")),
    "pairs": ("run_id pair human object label first_s last_s first_at last_at", 2, _SPAN.format("pairs")),
    "events": (
        "run_id pair verb start_s number human object label end_s peak_score evidence_s start_at end_at",
        4,
        """end_s = excluded.end_s, peak_score = excluded.peak_score, evidence_s = excluded.evidence_s,
        end_at = excluded.end_at
        WHERE events.end_s IS NULL OR excluded.end_s IS NOT NULL""",
    ),
    "rule_hits": (
        "run_id hit rule pair human object verb label start_s last_s end_s peak_score peak_s start_at end_at",
        2,
        """last_s = excluded.last_s, end_s = excluded.end_s, peak_score = excluded.peak_score,
        peak_s = excluded.peak_s, end_at = excluded.end_at
        WHERE rule_hits.end_s IS NULL OR excluded.end_s IS NOT NULL""",
    ),
    "evidence": (
        "run_id hit pair verb start_s rule snapshot clip clip_start_s clip_end_s reencoded recorded_at",
        5,
        """snapshot = excluded.snapshot, clip = excluded.clip, clip_start_s = excluded.clip_start_s,
        clip_end_s = excluded.clip_end_s, reencoded = excluded.reencoded""",
    ),
}
COLUMNS = {table: tuple(columns.split()) for table, (columns, _, _) in _WRITES.items()}


def _insert(table: str) -> str:
    columns, (_, key, update) = COLUMNS[table], _WRITES[table]
    values = ", ".join(f":{column}" for column in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) "
        f"ON CONFLICT ({', '.join(columns[:key])}) DO UPDATE SET {update}"
    )


INSERTS = {table: _insert(table) for table in _WRITES}

RELEASE_FILES = """UPDATE evidence SET snapshot = NULL, clip = NULL WHERE snapshot = :snapshot
    AND NOT (run_id = :run_id AND hit = :hit AND pair = :pair AND verb = :verb AND start_s = :start_s)"""
"""Comes before a row of evidence is inserted: a name is only given again once its files were removed for the limits."""

_EVENTS = """SELECT 'event' AS kind, t.number AS number, t.run_id AS run_id, COALESCE(r.source, '') AS source,
    '' AS rule, t.verb AS verb, t.label AS label, t.pair AS pair, t.human AS human, t.object AS object,
    t.start_at AS start_at, t.end_at AS end_at, t.start_s AS start_s, t.end_s AS end_s, t.peak_score AS peak_score,
    t.evidence_s AS evidence_s, v.snapshot AS snapshot, v.clip AS clip
    FROM events t LEFT JOIN runs r ON r.run_id = t.run_id
    LEFT JOIN evidence v ON v.run_id = t.run_id AND v.hit = -1 AND v.pair = t.pair AND v.verb = t.verb
    AND v.start_s = t.start_s"""
_HITS = """SELECT 'rule' AS kind, t.hit AS number, t.run_id AS run_id, COALESCE(r.source, '') AS source,
    t.rule AS rule, t.verb AS verb, t.label AS label, t.pair AS pair, t.human AS human, t.object AS object,
    t.start_at AS start_at, t.end_at AS end_at, t.start_s AS start_s, t.end_s AS end_s, t.peak_score AS peak_score,
    CAST(NULL AS TEXT) AS evidence_s, v.snapshot AS snapshot, v.clip AS clip
    FROM rule_hits t LEFT JOIN runs r ON r.run_id = t.run_id
    LEFT JOIN evidence v ON v.run_id = t.run_id AND v.hit = t.hit"""

CONDITIONS = {
    "since": "t.start_at >= :since",
    "until": "t.start_at < :until",
    # Contains it. LIKE differs in whether case counts, and would need an escape.
    "source": "REPLACE(r.source, :source, '') <> r.source",
    "source_name": "r.source = :source_name",
    "verb": "REPLACE(t.verb, '_', ' ') = :verb",
    "object": "REPLACE(t.label, '_', ' ') = :object",
    "rule": "t.rule = :rule",
    "human": "t.human = :human",
    "run": "SUBSTR(t.run_id, 1, :run_length) = :run",
}
"""Restrictions of what is found, by the name of their parameter."""
_NUMBER = {"event": "t.number = :number", "rule": "t.hit = :number"}


def found(kinds: Iterable[Literal["event", "rule"]], names: Iterable[str]) -> str:
    """Events and rule hits as rows of one form, unordered.

    Args:
        names: the restrictions that hold, of CONDITIONS, or "number".
    """
    selects = []
    for kind in kinds:
        conditions = [_NUMBER[kind] if name == "number" else CONDITIONS[name] for name in names]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        selects.append((_EVENTS if kind == "event" else _HITS) + where)
    return " UNION ALL ".join(selects)


NEWEST_FIRST = " ORDER BY start_at DESC, run_id, kind, number"
OLDEST_FIRST = " ORDER BY start_at, run_id, kind, number"
PAGE = " LIMIT :limit OFFSET :offset"
RUN_STARTS = "SELECT run_id, first_s FROM runs WHERE SUBSTR(run_id, 1, :run_length) = :run"

GROUPS = {"rule": "rule", "verb": "verb", "source": "source", "hour": "SUBSTR(start_at, 1, 13)"}
"""Columns that totals are made by."""


def totals(by: str, rows: str) -> str:
    """Number of events and hits and their seconds, per value of a column; of rules the seconds of hits.

    Args:
        by: a name of GROUPS.
        rows: as `found` has it.
    """
    timed = "rule" if by == "rule" else "event"
    return f"""SELECT {GROUPS[by]} AS name, SUM(CASE WHEN kind = 'event' THEN 1 ELSE 0 END) AS events,
        SUM(CASE WHEN kind = 'rule' THEN 1 ELSE 0 END) AS hits,
        SUM(CASE WHEN kind = '{timed}' THEN COALESCE(end_s - start_s, 0.0) ELSE 0.0 END) AS seconds
        FROM ({rows}) AS found GROUP BY {GROUPS[by]} ORDER BY 1"""


def count(rows: str) -> str:
    """Number of rows, counted up to `most`. Args: rows: as `found` has it."""
    return f"SELECT COUNT(*) FROM (SELECT 1 FROM ({rows}) AS found LIMIT :most) AS counted"


_EXPIRED = {
    "events": "start_at < :before AND COALESCE(end_at, start_at) < :before",
    "rule_hits": "start_at < :before AND COALESCE(end_at, start_at) < :before",
    "evidence": "recorded_at < :before",
    "pairs": "last_at < :before",
    "tracks": "last_at < :before",
    "runs": "last_at < :before",
    "sources": "last_at < :before",
}


def _delete(table: str) -> str:
    key = ", ".join(COLUMNS[table][: _WRITES[table][1]])
    return f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {_EXPIRED[table]} LIMIT :limit)"


DELETES = {table: _delete(table) for table in _EXPIRED}
"""What removes some rows of before a time, by table."""
