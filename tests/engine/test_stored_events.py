"""Events of the live page from the record of --db: those of earlier runs too, filtered, paged, with their evidence."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from hoiclip.core.errors import SourceError
from hoiclip_engine.events.event_store import EventFilter, EventStore
from hoiclip_engine.events.record import RecordConfig, Recorder
from hoiclip_engine.live import recent_events
from hoiclip_engine.live.openapi import EVENT_ID_PATTERN, MAX_OFFSET
from hoiclip_engine.live.recent_events import EventQuery, RecentEvents, StoredEvents
from hoiclip_engine.types.frame import SupervisedSource
from hoiclip_engine.types.rule_hits import Evidence
from tests.engine.frame_results import header, summary
from tests.engine.postgres_server import PostgresServer
from tests.engine.recorded import hit_at, result, verb_event
from tests.engine.supervised_runs import SupervisedPage, supervised, wait_until
from tests.engine.test_live_api_schema import BEARER, EXCLUDED

BEFORE, KILLED = "be" * 16, "dd" * 16
NOW = datetime.now(timezone.utc)


def record(database: str | Path, evidence: Path) -> None:
    """An earlier run of the door with a ride and, with evidence, a hit; and one of the yard, killed during a ride."""
    recorder = Recorder(database)
    door, yard = recorder.sink(), recorder.sink()
    door.start(dataclasses.replace(header(source="door"), run_id=BEFORE, started_at=NOW - timedelta(hours=2)))
    door.write(result(0.5))
    events = [verb_event("start", 1.0), verb_event("end", 1.0, 2.0)]
    hits = [hit_at("start", 100, rule="rides here"), hit_at("end", 100, lasted_s=1.5, rule="rides here")]
    door.write(result(2.0, events=events, hits=hits))
    door.finish(summary())
    yard.start(dataclasses.replace(header(source="yard"), run_id=KILLED, started_at=NOW - timedelta(hours=1)))
    yard.write(result(0.5))
    yard.write(result(1.0, events=[verb_event("start", 1.0)]))
    evidence.mkdir()
    (evidence / "hit.jpg").write_bytes(b"\xff\xd8 a snapshot")
    (evidence / "hit.mp4").write_bytes(bytes(range(256)) * 40)
    recorder.put_evidence(
        Evidence(
            run_id=BEFORE,
            source="door",
            hit=100,
            rule="rides here",
            pair=1,
            verb="ride",
            start_s=1.0,
            snapshot=evidence / "hit.jpg",
            clip=evidence / "hit.mp4",
            clip_start_s=0.0,
            clip_end_s=3.0,
        )
    )
    recorder.close()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[SupervisedPage]:
    record(tmp_path / "events.sqlite", tmp_path / "evidence")
    with supervised(tmp_path, database=tmp_path / "events.sqlite") as running:
        yield running


def listed(page: SupervisedPage, query: str = "") -> Any:
    answer = page.request("GET", f"/api/events?{query}")
    assert answer.status == 200, answer.body
    return answer.json


def test_events_of_earlier_runs_are_listed_newest_first(page: SupervisedPage) -> None:
    page.add("rtsp://host/live", name="door")
    found = listed(page)
    assert (found["total"], found["stored"]) == (3, True)
    killed, *others = found["events"]
    assert (killed["source"], killed["source_name"], killed["verb"]) == (None, "yard", "ride")
    assert (killed["end_s"], killed["is_open"]) == (None, False), "its run was killed"
    hit, ride = sorted(others, key=lambda event: str(event["kind"]))
    assert (hit["kind"], hit["rule"], hit["source"], hit["source_name"]) == ("rule", "rides here", 1, "door")
    assert (ride["kind"], ride["start_s"], ride["end_s"], ride["is_open"]) == ("verb", 1.0, 2.0, False)
    assert ride["time"] < killed["time"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("source=1", 2),
        ("source=7", 0),
        ("kind=rule", 1),
        ("kind=verb", 2),
        ("kind=verb&rule=rides%20here", 0),
        ("rule=rides%20here", 1),
        ("verb=ride&object=bicycle", 3),
        ("verb=ride%00", 0),
        ("object=%5C", 0),
        ("since=2000-01-01T00:00:00Z", 3),
        ("until=0001-01-02T00:00:00-14:00", 0),
        (f"offset={MAX_OFFSET}", 0),
    ],
)
def test_filters_are_those_of_the_list_in_memory(page: SupervisedPage, query: str, count: int) -> None:
    page.add("rtsp://host/live", name="door")
    found = listed(page, query)
    assert (len(found["events"]), found["stored"]) == (count, True)


def test_pages_join_to_the_whole_list(page: SupervisedPage) -> None:
    whole = listed(page)["events"]
    pages = [listed(page, f"limit=1&offset={offset}") for offset in range(4)]
    assert [event for each in pages for event in each["events"]] == whole
    assert {each["total"] for each in pages} == {3}


def test_count_is_bounded(page: SupervisedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_events, "MAX_COUNTED", 1)
    assert listed(page, "limit=1")["total"] == 2
    assert listed(page, "limit=1&offset=1")["total"] == 3


def test_evidence_of_earlier_runs_is_served_by_id_with_ranges(page: SupervisedPage, tmp_path: Path) -> None:
    (hit,) = listed(page, "kind=rule")["events"]
    assert str(tmp_path) not in json.dumps(hit)
    snapshot = page.request("GET", hit["evidence"]["snapshot"])
    assert (snapshot.status, snapshot.body) == (200, b"\xff\xd8 a snapshot")
    part = page.request("GET", hit["evidence"]["clip"], headers={"Range": "bytes=1000-1009"})
    assert (part.status, part.headers["Content-Range"]) == (206, "bytes 1000-1009/10240")
    (tmp_path / "evidence" / "hit.mp4").unlink()
    assert page.request("GET", hit["evidence"]["clip"]).status == 404
    for event_id in (f"{BEFORE}-r101", f"{BEFORE}-e0", f"{'ab' * 16}-r0", "be-r100x", "r100"):
        assert page.request("GET", f"/api/evidence/{event_id}/snapshot").status == 404


def test_record_that_names_files_elsewhere_serves_none_of_them(tmp_path: Path) -> None:
    record(tmp_path / "events.sqlite", tmp_path / "other")
    with supervised(tmp_path, database=tmp_path / "events.sqlite") as page:
        (tmp_path / "evidence").mkdir()
        (hit,) = listed(page, "kind=rule")["events"]
        assert page.request("GET", hit["evidence"]["clip"]).status == 404


def test_record_that_cannot_be_read_leaves_the_list_of_this_run(tmp_path: Path) -> None:
    (tmp_path / "events.sqlite").write_bytes(b"no database" * 100)
    with supervised(tmp_path, database=tmp_path / "events.sqlite") as page:
        page.events.put_event(header(), (1, "door"), verb_event("start", 1.0))
        found = listed(page)
        assert (found["total"], found["stored"], found["events"][0]["source_name"]) == (1, False, "door")


class SlowStore(EventStore):
    """Answers when it is released; or fails."""

    def __init__(self, where: Path) -> None:
        super().__init__(where)
        self.is_asked, self.released, self.fails = threading.Event(), threading.Event(), False
        self.asked = 0

    def count(self, wanted: EventFilter | None = None, most: int = 0) -> int:
        self.asked += 1
        self.is_asked.set()
        if self.fails:
            raise SourceError("it does not answer")
        self.released.wait(10)
        return super().count(wanted, most)


def test_slow_record_holds_up_one_request_and_a_lost_one_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_events, "MAX_QUERY_WAIT_S", 0.05)
    record(tmp_path / "events.sqlite", tmp_path / "evidence")
    store = SlowStore(tmp_path / "events.sqlite")
    stored = StoredEvents(RecentEvents(), store, lambda: list[SupervisedSource]())
    first = threading.Thread(target=stored.query, args=(EventQuery(),))
    first.start()
    store.is_asked.wait(10)
    assert not stored.query(EventQuery()).is_stored
    store.released.set()
    first.join(10)
    assert stored.query(EventQuery()).is_stored
    store.fails = True
    asked = store.asked
    assert [stored.query(EventQuery()).is_stored for _ in range(3)] == [False, False, False]
    assert store.asked == asked + 1
    away = StoredEvents(RecentEvents(), store, lambda: list[SupervisedSource](), is_connected=lambda: False)
    assert not away.query(EventQuery()).is_stored
    assert store.asked == asked + 1


def test_page_is_notified_once_events_are_in_the_record(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "events.sqlite", RecordConfig(collect_s=0.01))
    events = RecentEvents()
    stored = StoredEvents(events, EventStore(tmp_path / "events.sqlite"), lambda: list[SupervisedSource]())
    changes: list[int] = []
    stored.on_change, recorder.on_written = (lambda: changes.append(stored.version)), stored.written
    sink = recorder.sink()
    sink.start(run := header(source="door"))
    sink.write(result(0.5, events=[start := verb_event("start", 0.5)]))
    events.put_event(run, (1, "door"), start)
    wait_until(lambda: changes)
    (ride,) = stored.query(EventQuery()).events
    assert ride["is_open"]
    assert stored.version == changes[-1]
    sink.finish(summary())
    recorder.close()


@pytest.mark.thorough
def test_list_of_postgresql_is_that_of_sqlite(page: SupervisedPage, tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        address = server.new_database()
        record(address, tmp_path / "again")
        stored = StoredEvents(RecentEvents(), EventStore(address), page.control.supervisor.sources)
        found = stored.query(EventQuery(limit=2, offset=1))
        expected = listed(page, "limit=2&offset=1")
        assert (found.total, found.events, found.is_stored) == (3, expected["events"], True)
        assert stored.evidence_file(f"{BEFORE}-r100", "clip") == tmp_path / "again" / "hit.mp4"
        server.kill()
        assert not stored.query(EventQuery()).is_stored
    finally:
        server.close()


@pytest.mark.thorough
@pytest.mark.parametrize("path", ["/api/events", "/api/evidence/{id}/clip"])
def test_answers_from_a_record_are_as_described(page: SupervisedPage, path: str) -> None:
    described = schemathesis.openapi.from_url(f"http://{page.host}/api/openapi.json")
    load_all_checks()
    excluded = CHECKS.get_by_names(EXCLUDED)

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=described[path]["GET"].as_strategy())
    def check(case: Any) -> None:
        response = case.call(headers=BEARER, timeout=10)
        case.validate_response(response, excluded_checks=excluded, headers=BEARER)

    check()


def test_ids_of_a_record_fit_the_api(page: SupervisedPage) -> None:
    assert all(re.fullmatch(EVENT_ID_PATTERN, event["id"]) for event in listed(page)["events"])
