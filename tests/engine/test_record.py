"""The record: rows of a run in SQLite and PostgreSQL, written once however often the database or the process dies."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import HoiclipError, SinkError, SourceError, UsageError
from hoiclip_engine.events import databases, schema
from hoiclip_engine.events.databases import parse_database, stored_time
from hoiclip_engine.events.event_store import EventFilter, EventStore
from hoiclip_engine.events.record import RecordConfig, Recorder
from hoiclip_engine.events.spool import Spool
from hoiclip_engine.types.results import RunHeader
from hoiclip_engine.types.rule_hits import Evidence
from tests.docs.documents import blocks
from tests.engine.command_output import PYTHONPATH, ROOT
from tests.engine.frame_results import Row, header, summary
from tests.engine.postgres_server import PASSWORD, USER, PostgresServer
from tests.engine.recorded import hit_at, result, verb_event

QUICK = RecordConfig(collect_s=0.01, first_pause_s=0.02, last_pause_s=0.1, drain_s=10.0)
STARTED = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class Place:
    """A database that a test can take away and give back."""

    def __init__(self, where: str, server: PostgresServer | None = None) -> None:
        self.where, self._server = where, server
        self._locker: sqlite3.Connection | None = None

    def lose(self) -> None:
        if self._server is not None:
            self._server.kill()
            return
        self._locker = sqlite3.connect(self.where, isolation_level=None)
        self._locker.execute("BEGIN IMMEDIATE")

    def restore(self) -> None:
        if self._server is not None:
            self._server.start()
        elif self._locker is not None:
            self._locker.close()
            self._locker = None

    @property
    def store(self) -> EventStore:
        return EventStore(self.where)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(parse_database(self.where).connect(write=False)) as connection:
            return list(connection.select(statement, {}))

    def execute(self, statement: str) -> None:
        """SQL that writes."""
        if self._server is not None:
            name = self.where.rpartition("/")[2]
            self._server.execute(name, f"SET search_path TO hoiclip; {statement}")
            return
        with closing(sqlite3.connect(self.where)) as connection:
            connection.execute(statement)
            connection.commit()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.thorough)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(databases, "BUSY_S", 0.05)
    if request.param == "sqlite":
        made = Place(str(tmp_path / "events.sqlite"))
        yield made
        made.restore()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    where = server.new_database()
    yield Place(where, server)
    if server._process is None:
        server.start()
    server.drop(where)


def run_header(run_id: str = "ab" * 16, **changes: Any) -> RunHeader:
    return dataclasses.replace(header(), run_id=run_id, started_at=STARTED, **changes)


def record_hits(
    recorder: Recorder, count: int, *, first: int = 0, pause_s: float = 0.0, run_id: str = "ab" * 16
) -> None:
    sink = recorder.sink()
    sink.start(run_header(run_id))
    for number in range(first, first + count):
        sink.write(result(number / 100, hits=[hit_at("start", number), hit_at("end", number, lasted_s=0.5)]))
        time.sleep(pause_s)
    sink.finish(summary())


def wait_until(condition: Any, timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_run_is_recorded_with_events_hits_pairs_and_tracks(place: Place) -> None:
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header())
    rider, other = Row(), Row(pair=4, human=7, object=-1, label=-1)
    sink.write(result(2.0, rider))
    sink.write(result(2.5, rider, other, events=[verb_event("start", 2.25)], hits=[hit_at("start", 0)]))
    sink.write(result(3.0, other, events=[verb_event("end", 2.25, 2.75)], hits=[hit_at("update", 0, lasted_s=3.0)]))
    closing_event = verb_event("end", 2.875, 3.0, verb=1)
    sink.finish(
        dataclasses.replace(summary(), closing_events=(closing_event,), closing_hits=(hit_at("end", 0, lasted_s=4.0),))
    )
    recorder.close()
    ride, sit, hit = place.store.query(EventFilter(newest_first=False, kind="event")) + place.store.query(
        EventFilter(kind="rule")
    )
    assert (ride.verb, ride.label, ride.pair, ride.human, ride.object) == ("ride", "bicycle", 1, 1, 2)
    assert (ride.start_s, ride.end_s, ride.peak_score, ride.evidence_s) == (2.25, 2.75, 0.75, "[2.25, 2.75]")
    assert (ride.source, ride.run_id, ride.id) == ("clip.mp4", "ab" * 16, "abababab-e0")
    assert (ride.start_at, ride.end_at) == ("2026-01-31T12:00:00.250000Z", "2026-01-31T12:00:00.750000Z")
    assert (sit.verb, sit.id, sit.end_s) == ("sit_on", "abababab-e1", 3.0)
    assert (hit.rule, hit.id, hit.start_s, hit.end_s) == ("rides here", "abababab-r0", 0.0, 4.0)
    assert place.rows("SELECT pair, human, object, first_s, last_s FROM pairs ORDER BY pair") == [
        (1, 1, 2, 2.0, 2.5),
        (4, 7, None, 2.5, 3.0),
    ]
    assert place.rows("SELECT track, kind, label, first_s, last_s FROM tracks ORDER BY track") == [
        (1, "human", "person", 2.0, 2.5),
        (2, "object", "bicycle", 2.0, 2.5),
        (7, "human", "person", 2.5, 3.0),
    ]
    assert place.rows("SELECT source, policy, first_s, decoded, interrupted FROM runs WHERE ended_at IS NOT NULL") == [
        ("clip.mp4", "lossless", 2.0, 2, 0)
    ]
    assert place.rows("SELECT source FROM sources") == [("clip.mp4",)]


def test_pair_that_does_nothing_is_recorded_once_it_lasts(place: Place) -> None:
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header())
    blinking, lasting = Row(pair=5, human=7, object=8, active=()), Row(pair=6, human=7, object=9, active=())
    acting = Row(pair=7, human=3, object=4)
    for pts_s, rows in ((2.0, [lasting, blinking]), (2.5, [blinking, acting]), (2.9, [blinking]), (3.0, [lasting])):
        sink.write(result(pts_s, *rows))
    sink.finish(summary())
    recorder.close()
    assert place.rows("SELECT pair, first_s, last_s FROM pairs ORDER BY pair") == [(6, 2.0, 3.0), (7, 2.5, 2.5)]
    assert place.rows("SELECT track FROM tracks ORDER BY track") == [(3,), (4,), (7,), (9,)]


def test_checkpoint_writes_when_pairs_were_last_seen(place: Place) -> None:
    recorder = Recorder(place.where, RecordConfig(collect_s=0.01, checkpoint_s=0.0))
    sink = recorder.sink()
    sink.start(run_header())
    first, second = Row(), Row(pair=4, human=7, object=-1, label=-1)
    for pts_s, rows in ((2.0, [first]), (2.5, [first, second]), (3.0, [second])):
        sink.write(result(pts_s, *rows))
    wait_until(lambda: place.rows("SELECT last_s FROM pairs WHERE pair = 4") == [(3.0,)])
    assert place.rows("SELECT pair, first_s, last_s FROM pairs ORDER BY pair") == [(1, 2.0, 2.5), (4, 2.5, 3.0)]
    sink.finish(summary())
    recorder.close()


def test_rows_written_twice_are_there_once(place: Place) -> None:
    for _ in range(2):
        recorder = Recorder(place.where, QUICK)
        record_hits(recorder, 5)
        recorder.close()
    assert [hit.number for hit in place.store.query(EventFilter(newest_first=False))] == [0, 1, 2, 3, 4]


def test_start_or_update_written_again_does_not_reopen_what_has_ended(place: Place) -> None:
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header())
    again = [hit_at("start", 0), hit_at("update", 0, lasted_s=1.0)]
    events = [verb_event("start", 1.0), verb_event("end", 1.0, 2.0), verb_event("start", 1.0)]
    sink.write(result(1.0, events=events, hits=[hit_at("end", 0, lasted_s=2.0), *again]))
    sink.finish(summary())
    recorder.close()
    assert {(event.kind, event.end_s) for event in place.store.query()} == {("event", 2.0), ("rule", 2.0)}


def test_lost_database_loses_nothing_and_writes_nothing_twice(place: Place) -> None:
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header())
    chosen = random.Random(5)
    for number in range(600):
        sink.write(result(number / 100, hits=[hit_at("start", number), hit_at("end", number, lasted_s=0.5)]))
        if number in (150, 300, 450):
            time.sleep(chosen.random() * 0.02)  # in the middle of a batch, or not
            place.lose()
        if number in (200, 350, 500):
            wait_until(lambda: recorder.counts.spooled and not recorder.is_connected)
            place.restore()
            wait_until(lambda: recorder.is_connected)
        time.sleep(0.0005)
    sink.finish(summary())
    recorder.close()
    counts = recorder.counts
    assert (counts.dropped, counts.refused, recorder.waiting) == (0, 0, 0)
    assert counts.losses == 3
    assert [hit.number for hit in place.store.query(EventFilter(newest_first=False))] == list(range(600))
    assert all(hit.end_s is not None for hit in place.store.query())
    spool = parse_database(place.where).spool
    assert not list(spool.parent.glob(f"{spool.name}*"))


def test_database_lost_to_the_end_leaves_a_spool_that_the_next_run_writes(place: Place) -> None:
    Recorder(place.where, QUICK).close()
    place.lose()
    recorder = Recorder(place.where, QUICK)  # one that may come back is no error
    record_hits(recorder, 20)
    with pytest.raises(SinkError, match="the next run with the same --db writes them") as raised:
        recorder.close()
    assert str(recorder._spool.path) in str(raised.value)
    assert PASSWORD not in str(raised.value)
    place.restore()
    assert place.store.query() == []
    Recorder(place.where, QUICK).close()
    assert len(place.store.query()) == 20
    assert not recorder._spool.path.exists()


@pytest.mark.thorough
def test_server_that_hangs_holds_up_neither_the_run_nor_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setattr(databases, "CONNECT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/events"
        recorder = Recorder(where, dataclasses.replace(QUICK, drain_s=0.2))
        wait_until(lambda: time.monotonic() > recorder._retry_at)
        time.sleep(0.1)  # it is in the next try
        started_s = time.monotonic()
        record_hits(recorder, 20)
        with pytest.raises(SinkError, match="44 rows are not recorded"):
            recorder.close()
        assert time.monotonic() - started_s < 1.5
        assert recorder._spool.path.read_bytes().count(b"\n") == 44
        recorder._thread.join()
        recorder._spool.path.unlink()


def test_row_that_cannot_be_stored_is_counted_and_holds_up_no_other(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header())
    wrong = [
        dataclasses.replace(hit_at("start", 1), human=2**70),
        dataclasses.replace(hit_at("start", 2), start_s=float("nan")),
    ]
    sink.write(result(0.0, hits=[hit_at("start", 0), *wrong, hit_at("start", 3)]))
    sink.finish(summary())
    with caplog.at_level(logging.WARNING), pytest.raises(SinkError, match="2 rows could not be recorded"):
        recorder.close()
    assert recorder.counts.refused == 2
    assert [hit.number for hit in place.store.query(EventFilter(newest_first=False))] == [0, 3]


TEXTS = st.text(st.characters(categories=None, exclude_categories=()), max_size=40) | st.sampled_from(
    ["\0", "\\u0000", "\\\\u0041", "\ud83d", "'; DROP TABLE events; --", "%s %(x)s :since", "日本\n\t\x1b[31m"]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=TEXTS, rule=TEXTS, word=TEXTS)
def test_any_text_comes_back_as_it_was(place: Place, source: str, rule: str, word: str) -> None:
    run_id = os.urandom(8).hex()
    recorder = Recorder(place.where, dataclasses.replace(QUICK, collect_s=0.0))
    sink = recorder.sink()
    sink.start(run_header(run_id, source=source))
    sink.write(result(0.0, hits=[dataclasses.replace(hit_at("start", 0), rule=rule, verb=word, label=word)]))
    sink.finish(summary())
    recorder.close()
    (hit,) = place.store.query(EventFilter(run=run_id, rule=rule, source=source, verb=word, object=word))
    assert (hit.source, hit.rule, hit.verb, hit.label) == (source, rule, word, word)


@given(rows=st.lists(st.tuples(st.just("sources"), st.dictionaries(st.just("source"), TEXTS)), min_size=1))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spool_returns_rows_in_order_and_as_they_were(tmp_path: Path, rows: list[schema.Row]) -> None:
    spool = Spool(tmp_path / "rows.spool", 1 << 20)
    for row in rows:
        assert spool.append([row]) == 1
    read: list[schema.Row] = []
    while spool.rows:
        some, damaged = spool.read(3)
        read += some
        assert damaged == 0
        spool.done()
    spool.close()
    assert read == rows


def test_evidence_is_found_with_its_event_or_hit(place: Place, tmp_path: Path) -> None:
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header())
    sink.write(result(1.0, events=[verb_event("start", 1.0), verb_event("end", 1.0, 2.0)], hits=[hit_at("start", 100)]))
    sink.finish(summary())
    of_hit = Evidence(
        run_id="ab" * 16, source="clip.mp4", hit=100, rule="rides here", pair=1, verb="ride", start_s=1.0,
        snapshot=tmp_path / "hit.jpg", clip=tmp_path / "hit.mp4", clip_start_s=0.0, clip_end_s=3.0,
    )  # fmt: skip
    for evidence in (
        of_hit,
        dataclasses.replace(of_hit, hit=None, rule="", snapshot=tmp_path / "event.jpg", clip=None),
    ):
        recorder.put_evidence(evidence)
        recorder.put_evidence(evidence)
    recorder.close()
    found = {event.kind: (event.snapshot, event.clip) for event in place.store.query()}
    assert found == {
        "event": (str(tmp_path / "event.jpg"), None),
        "rule": (str(tmp_path / "hit.jpg"), str(tmp_path / "hit.mp4")),
    }


def test_evidence_whose_name_was_given_again_is_not_found_with_the_earlier_hit(place: Place, tmp_path: Path) -> None:
    """A second run over a file gives the same names, once limits have removed the files of the first."""
    recorder = Recorder(place.where, QUICK)
    for run_id, name in (("ab" * 16, "hit"), ("cd" * 16, "other"), ("ef" * 16, "hit")):
        record_hits(recorder, 1, run_id=run_id)
        recorder.put_evidence(
            Evidence(
                run_id=run_id, source="clip.mp4", hit=0, rule="rides here", pair=1, verb="ride", start_s=0.0,
                snapshot=tmp_path / f"{name}.jpg", clip=tmp_path / f"{name}.mp4", clip_start_s=0.0, clip_end_s=3.0,
            )
        )  # fmt: skip
        wait_until(lambda: not recorder.waiting)
    recorder.close()
    assert {event.run_id[:2]: (event.snapshot, event.clip) for event in place.store.query()} == {
        "ab": (None, None),
        "cd": (str(tmp_path / "other.jpg"), str(tmp_path / "other.mp4")),
        "ef": (str(tmp_path / "hit.jpg"), str(tmp_path / "hit.mp4")),
    }


@pytest.fixture
def several(place: Place) -> Place:
    """Three runs of two sources: rides by person 1 at 0 and 1 s, one by person 5 an hour later; and a hit."""
    recorder = Recorder(place.where, QUICK)
    for number, (source, human) in enumerate(
        [("rtsp://cam1/live", 1), ("rtsp://cam2/live", 1), ("rtsp://cam1/live", 5)]
    ):
        sink = recorder.sink()
        sink.start(
            dataclasses.replace(
                header(source=source), run_id=f"{number:032x}", started_at=STARTED + timedelta(hours=number // 2)
            )
        )
        sink.write(result(0.0))
        events = [verb_event(e, number * 1.0, number + 2.0, human=human, verb=number % 2) for e in ("start", "end")]  # type: ignore[arg-type]
        sink.write(result(1.0, events=events, hits=[hit_at("start", 7)] if number == 0 else []))
        sink.finish(summary())
    recorder.close()
    return place


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (EventFilter(), ["00000000-e0"] * 3 + ["00000000-r7"]),
        (EventFilter(verb="sit on"), ["00000000-e0"]),
        (EventFilter(verb="sit_on", object="bicycle"), ["00000000-e0"]),
        (EventFilter(object="sports ball"), []),
        (EventFilter(source="cam2"), ["00000000-e0"]),
        (EventFilter(source="CAM2"), []),
        (EventFilter(human=5), ["00000000-e0"]),
        (EventFilter(rule="rides here"), ["00000000-r7"]),
        (EventFilter(kind="event", human=1), ["00000000-e0"] * 2),
        (EventFilter(since=STARTED + timedelta(minutes=30)), ["00000000-e0"]),
        (EventFilter(until=STARTED), []),
        (EventFilter(until=STARTED + timedelta(seconds=0.5), kind="event"), ["00000000-e0"]),
        (EventFilter(run="0" * 31 + "1"), ["00000000-e0"]),
        (EventFilter(limit=2), ["00000000-e0"] * 2),
        (EventFilter(offset=3), ["00000000-e0"]),
        (EventFilter(limit=0), []),
    ],
)  # fmt: skip
def test_filters_select(several: Place, wanted: EventFilter, ids: list[str]) -> None:
    assert sorted(event.id for event in several.store.query(wanted)) == ids


def test_query_is_sorted_by_time(several: Place) -> None:
    newest = [event.start_at for event in several.store.query()]
    assert newest == sorted(newest, reverse=True)
    assert newest[::-1] == [event.start_at for event in several.store.query(EventFilter(newest_first=False))]


def test_totals_are_by_rule_verb_source_and_hour(several: Place) -> None:
    totals = {by: [(t.name, t.events, t.hits, t.seconds) for t in several.store.totals(by)] for by in schema.GROUPS}
    assert totals == {
        "rule": [("rides here", 0, 1, 0.0)],
        "verb": [("ride", 2, 1, 4.0), ("sit_on", 1, 0, 2.0)],
        "source": [("rtsp://cam1/live", 2, 1, 4.0), ("rtsp://cam2/live", 1, 0, 2.0)],
        "hour": [("2026-01-31T12", 2, 1, 4.0), ("2026-01-31T13", 1, 0, 2.0)],
    }


def test_queries_of_the_guide_run(several: Place) -> None:
    (block,) = blocks((ROOT / "docs" / "record.md").read_text(encoding="utf-8"), "sql")
    dwell, hits, people = (several.rows(statement) for statement in block.split(";") if statement.strip())
    assert dwell == [("ride", 2, 4.0), ("sit_on", 1, 2.0)]
    assert hits == [("2026-01-31T12", "rides here", 1)]
    assert people == []


def test_get_finds_one_by_its_id_and_refuses_what_is_ambiguous_or_missing(several: Place) -> None:
    assert several.store.get("0" * 31 + "2-e0").human == 5
    assert several.store.get("00000000-r7").rule == "rides here"
    for wrong, why in (
        ("00000000-e0", "in 3 runs"),
        ("00000000-e9", "found no"),
        ("e0", "such as"),
        ("x-r1", "found no"),
    ):
        with pytest.raises(UsageError, match=why):
            several.store.get(wrong)


def test_prune_deletes_what_is_older_and_nothing_else(several: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoiclip_engine.events.event_store.PRUNE_ROWS", 1)
    assert several.store.prune(STARTED) == 0
    assert several.store.prune(STARTED + timedelta(minutes=30)) > 0
    assert [event.human for event in several.store.query()] == [5]
    several.store.prune(datetime.now(timezone.utc) + timedelta(days=1))
    tables = ["events", "rule_hits", "pairs", "tracks", "runs", "sources", "evidence"]
    assert {table: several.rows(f"SELECT COUNT(*) FROM {table}") for table in tables} == {
        table: [(0,)] for table in tables
    }


def test_recorder_keeps_rows_for_the_given_age(several: Place) -> None:
    age_s = (datetime.now(timezone.utc) - STARTED).total_seconds() - 1800
    recorder = Recorder(several.where, dataclasses.replace(QUICK, keep_s=age_s, batch=1))
    wait_until(lambda: [event.human for event in several.store.query()] == [5])
    recorder.close()


def test_prune_does_not_hold_up_a_writer(place: Place) -> None:
    recorder = Recorder(place.where, QUICK)
    record_hits(recorder, 3000)
    wait_until(lambda: not recorder.waiting)
    sink = recorder.sink()
    sink.start(run_header("cd" * 16))
    place.store.prune(STARTED + timedelta(days=1))
    sink.write(result(1.0, hits=[hit_at("start", 1)]))
    recorder.close()
    assert recorder.counts.losses == 0
    assert len(place.store.query(EventFilter(run="cd" * 16))) == 1


def test_newer_record_is_refused_in_one_line(place: Place) -> None:
    Recorder(place.where, QUICK).close()
    place.execute("UPDATE schema_version SET version = 99")
    for opened in (lambda: Recorder(place.where, QUICK), lambda: place.store.query()):
        with pytest.raises(UsageError, match="found version 99; take a newer hoiclip") as raised:
            opened()
        assert "\n" not in str(raised.value)
        assert PASSWORD not in str(raised.value)
        assert USER not in str(raised.value)


def test_migration_keeps_rows_and_is_done_once(place: Place) -> None:
    recorder = Recorder(place.where, QUICK)
    record_hits(recorder, 3)
    recorder.close()
    added = ("ALTER TABLE rule_hits ADD COLUMN note TEXT", "UPDATE rule_hits SET note = 'kept'")
    version = len(schema.MIGRATIONS) + 1
    database = parse_database(place.where)
    with closing(database.connect(write=True)) as connection:
        for _ in range(2):
            connection.migrate((*schema.MIGRATIONS, added))
        assert list(connection.select("SELECT hit, note FROM rule_hits ORDER BY hit", {})) == [
            (0, "kept"), (1, "kept"), (2, "kept"),
        ]  # fmt: skip
        assert list(connection.select(schema.READ_VERSION, {})) == [(version,)]
        with pytest.raises(UsageError, match=f"found version {version}"):
            connection.migrate()


def test_migration_that_fails_changes_nothing(place: Place) -> None:
    Recorder(place.where, QUICK).close()
    broken = ("ALTER TABLE rule_hits ADD COLUMN note TEXT", "NO SQL")
    with closing(parse_database(place.where).connect(write=True)) as connection:
        with pytest.raises(databases.DatabaseLost):
            connection.migrate((*schema.MIGRATIONS, broken))
        assert list(connection.select(schema.READ_VERSION, {})) == [(len(schema.MIGRATIONS),)]
        with pytest.raises(databases.DatabaseLost):
            list(connection.select("SELECT note FROM rule_hits", {}))


def test_queue_that_is_full_drops_and_counts_without_waiting(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "events.sqlite", dataclasses.replace(QUICK, waiting=10, collect_s=5.0))
    started_s = time.monotonic()
    record_hits(recorder, 50)
    assert time.monotonic() - started_s < 2.0
    with pytest.raises(SinkError, match="rows could not be recorded"):
        recorder.close()
    counts = recorder.counts
    assert counts.written + counts.dropped == 2 * 2 + 2 * 50
    assert counts.written >= 10


def test_spool_that_is_full_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "BUSY_S", 0.05)
    place = Place(str(tmp_path / "events.sqlite"))
    Recorder(place.where, QUICK).close()
    place.lose()
    recorder = Recorder(place.where, dataclasses.replace(QUICK, spool_bytes=4000))
    record_hits(recorder, 50)
    with pytest.raises(SinkError, match=r"could not be recorded .* wait in"):
        recorder.close()
    assert recorder._spool.path.stat().st_size <= 4000
    counts = recorder.counts
    assert counts.spooled + counts.dropped == 2 * 2 + 2 * 50
    place.restore()
    Recorder(place.where, QUICK).close()
    assert 0 < len(place.store.query()) < 50


def test_spool_takes_over_what_a_killed_process_has_left_and_not_what_a_living_one_has(tmp_path: Path) -> None:
    living = Spool(tmp_path / "x.spool", 1000)
    living.append([("sources", {"source": "living"})])
    killed = tmp_path / "x.spool-7"
    killed.write_text('["sources",{"source":"killed"}]\n["sources",{"sou', encoding="utf-8")
    other = Spool(tmp_path / "x.spool", 1000)
    assert other.path.name == "x.spool-2"
    assert other.read(9) == ([("sources", {"source": "killed"})], 0)
    assert not killed.exists()
    assert living.rows == 1
    for spool in (living, other):
        spool.close()


def test_spool_refuses_a_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "events.sqlite.spool").write_text("my notes\n", encoding="utf-8")
    with pytest.raises(SinkError, match=r"cannot make .*events.sqlite.spool"):
        Recorder(tmp_path / "events.sqlite", QUICK)
    assert (tmp_path / "events.sqlite.spool").read_text(encoding="utf-8") == "my notes\n"


def test_damaged_line_of_a_spool_is_counted_and_the_others_are_written(tmp_path: Path) -> None:
    lines = [
        '["rule_hits",{"run_id":"a","hit":"no number',
        '["nonsense",{}]',
        '["events",[1,2]]',
        '["runs",{"run_id":1}]',
    ]
    lines.append('["sources",{"source":"x","first_at":"a","last_at":"b"}]')
    (tmp_path / "events.sqlite.spool").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    place = Place(str(tmp_path / "events.sqlite"))
    recorder = Recorder(place.where, QUICK)
    wait_until(lambda: not recorder.waiting)
    with pytest.raises(SinkError, match="4 rows could not be recorded"):
        recorder.close()
    assert place.rows("SELECT source FROM sources") == [("x",)]


def test_removed_sqlite_file_is_made_again_and_has_the_run_that_lasts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(str(tmp_path / "events.sqlite"))
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header())
    sink.write(result(0.0, hits=[hit_at("start", 0)]))
    wait_until(lambda: not recorder.waiting)
    Path(place.where).unlink()
    with caplog.at_level(logging.WARNING):
        sink.write(result(1.0, hits=[hit_at("start", 1)]))
        wait_until(lambda: "is back" in caplog.text and not recorder.waiting)
    assert [(hit.number, hit.source) for hit in place.store.query()] == [(1, "clip.mp4")]
    assert "the file was removed or replaced" in caplog.text
    assert recorder.counts.losses == 1
    sink.finish(summary())
    recorder.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all", b"SQLite format 3\0" + b"x" * 200], ids=["text", "damaged"]
)
def test_file_that_is_something_else_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    for opened in (lambda: Recorder(path), lambda: EventStore(path).query()):
        with pytest.raises(HoiclipError, match=r"found something else|cannot (read|record)"):
            opened()
    assert path.read_bytes() == content
    assert [other.name for other in tmp_path.iterdir()] == ["notes"]


def test_sqlite_file_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (mine TEXT)")
    before = path.read_bytes()
    for opened in (lambda: Recorder(path), lambda: EventStore(path).query()):
        with pytest.raises(UsageError, match="found something else"):
            opened()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("", UsageError),
        ("a\0b", UsageError),
        (".", UsageError),
        ("missing/events.sqlite", SinkError),
        ("mysql://user:s3cret@host/db", UsageError),
        ("postgresql://user:s3@cret@host/db", UsageError),
        ("postgresql://user:s3/cret@host/db", UsageError),
        ("postgresql://user:s3cret@host:port/db", UsageError),
        ("postgresql://user:s3cret@host/db?nonsense=1", UsageError),
        ("postgresql://user:s3cret@no.such.host.invalid/db?sslcert=%00", UsageError),
    ],
)
def test_address_that_makes_no_sense_is_one_line_without_credentials(
    where: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as raised:
        Recorder(where)
    text = f"{raised.value} {raised.value.__cause__}"
    assert "\n" not in text
    assert not any(secret in text for secret in ("s3", "cret"))


def test_missing_record_is_not_made_by_reading(tmp_path: Path) -> None:
    store = EventStore(tmp_path / "events.sqlite")
    for read in (lambda: store.query(), lambda: store.prune(STARTED), lambda: store.get("a-e1")):
        with pytest.raises(UsageError, match="no such file"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_record_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "events.sqlite"))
    recorder = Recorder(place.where, QUICK)
    record_hits(recorder, 2000)
    wait_until(lambda: not recorder.waiting)
    reading = place.store.iterate(EventFilter(kind="rule"))
    next(reading)
    record_hits(recorder, 100, first=2000)
    wait_until(lambda: not recorder.waiting)
    assert recorder.counts.losses == 0
    assert len(list(reading)) == 1999
    recorder.close()


def test_live_times_are_those_of_arrival_whatever_the_clock_of_the_camera(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "events.sqlite"))
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header(policy="latest"))
    arrived = datetime.now(timezone.utc) - timedelta(seconds=2)
    sink.write(result(86_400.0, events=[verb_event("start", 86_399.5)], read_s=time.monotonic() - 2.0))
    sink.finish(summary())
    recorder.close()
    (event,) = place.store.query()
    expected = arrived - timedelta(seconds=0.5)
    assert abs(datetime.fromisoformat(event.start_at.replace("Z", "+00:00")) - expected) < timedelta(seconds=0.5)


def test_time_that_no_calendar_has_is_recorded_all_the_same(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "events.sqlite"))
    recorder = Recorder(place.where, QUICK)
    sink = recorder.sink()
    sink.start(run_header())
    sink.write(result(0.0, events=[verb_event("start", 1e15)]))
    sink.finish(summary())
    recorder.close()
    assert [event.start_s for event in place.store.query()] == [1e15]


def test_wall_times_have_one_length() -> None:
    moments = [STARTED, STARTED.replace(microsecond=1), datetime(1, 1, 2, tzinfo=timezone(timedelta(hours=1)))]
    assert {len(stored_time(moment)) for moment in moments} == {27}


def start_recording(where: str, run_id: str, *limit: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.recording_process", where, run_id, *map(str, limit)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.thorough
def test_killed_process_leaves_a_consistent_record_that_the_next_continues(place: Place) -> None:
    """The database is lost half of the time, so that some die with rows in the spool, or while they write those."""
    chosen = random.Random(3)
    Recorder(place.where, QUICK).close()
    safe: dict[str, int] = {}
    for number in range(10):
        run_id = f"{number:08x}" + "0" * 24
        process = start_recording(place.where, run_id)
        assert process.stdout is not None
        assert process.stdout.readline()
        if number % 2:
            time.sleep(chosen.random() * 0.3)
            place.lose()
            time.sleep(0.3 + chosen.random() * 0.3)
            if number % 4 == 1:
                place.restore()
        time.sleep(chosen.random() * 0.5)
        process.kill()
        safe[run_id] = max((int(line) for line in process.communicate()[0].split()), default=0)
        with suppress(Exception):
            place.restore()
        check_integrity(place)
    recorder = Recorder(place.where, QUICK)
    wait_until(lambda: not recorder.waiting)
    recorder.close()
    assert recorder.counts.refused == recorder.counts.dropped == 0
    check_integrity(place)
    assert sum(safe.values()) > 500
    for run_id, count in safe.items():
        numbers = [hit.number for hit in place.store.query(EventFilter(run=run_id, newest_first=False))]
        assert numbers == list(range(len(numbers)))  # without a gap
        assert len(numbers) >= count


def check_integrity(place: Place) -> None:
    if place._server is None:
        with closing(sqlite3.connect(place.where)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    numbers = place.rows("SELECT run_id, hit, COUNT(*) FROM rule_hits GROUP BY run_id, hit HAVING COUNT(*) > 1")
    assert numbers == []


@pytest.mark.thorough
def test_full_disk_is_counted_and_leaves_a_consistent_record(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "events.sqlite"))
    process = start_recording(place.where, "ab" * 16, 100_000)
    _, err = process.communicate(timeout=120)
    assert "rows could not be recorded" in err, err
    assert "Traceback" not in err
    assert int(err.split()[-1]) > 0
    check_integrity(place)
    numbers = [hit.number for hit in place.store.query(EventFilter(newest_first=False))]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 20


@pytest.mark.thorough
@pytest.mark.parametrize("change", ["password", "database", "port", "user"])
def test_server_that_refuses_is_one_line_without_credentials(change: str, postgres: PostgresServer) -> None:
    where = postgres.new_database()
    wrong = {
        "password": where.replace(PASSWORD, "wr0ng-secret"),
        "database": f"{where}-missing",
        "port": where.replace(str(postgres.port), "1"),
        "user": where.replace(USER, "str4nger"),
    }[change]
    with pytest.raises(SourceError) as read:
        EventStore(wrong).query()
    texts = [str(read.value)]
    if change != "port":  # that may come back, so a run starts without it
        with pytest.raises(SinkError) as written:
            Recorder(wrong, QUICK)
        texts.append(str(written.value))
    for text in texts:
        assert "\n" not in text
        assert not any(secret in text for secret in (PASSWORD, USER, "wr0ng-secret", "str4nger"))


@pytest.mark.thorough
def test_password_may_come_from_the_environment(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    where = postgres.new_database().replace(f":{PASSWORD}", "")
    with pytest.raises(SinkError, match="it wants a password"):
        Recorder(where, QUICK)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    Recorder(where, QUICK).close()
    assert EventStore(where).query() == []


@pytest.mark.thorough
def test_user_who_may_only_read_can_list_and_not_record(postgres: PostgresServer) -> None:
    where = postgres.new_database()
    Recorder(where, QUICK).close()
    name = where.rpartition("/")[2]
    postgres.execute(name, f"CREATE ROLE reader_of_{name} LOGIN PASSWORD 'r'")
    postgres.execute(name, f"GRANT USAGE ON SCHEMA hoiclip TO reader_of_{name}")
    postgres.execute(name, f"GRANT SELECT ON ALL TABLES IN SCHEMA hoiclip TO reader_of_{name}")
    reader = where.replace(f"{USER}:{PASSWORD}", f"reader_of_{name}:r")
    assert EventStore(reader).query() == []
    with pytest.raises(SinkError, match="may not"):
        Recorder(reader, QUICK)


@pytest.mark.thorough
def test_database_that_turns_read_only_is_lost_until_it_is_writable(postgres: PostgresServer) -> None:
    where = postgres.new_database()
    name = where.rpartition("/")[2]
    recorder = Recorder(where, QUICK)
    postgres.execute("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.execute("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    record_hits(recorder, 20)
    wait_until(lambda: recorder.counts.spooled > 20)
    postgres.execute("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    wait_until(lambda: not recorder.waiting)
    recorder.close()
    assert len(EventStore(where).query()) == 20
