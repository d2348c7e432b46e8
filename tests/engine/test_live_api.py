"""The API of a live run: every operation, its errors, who may change something, and what may be added."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hoiclip.core.errors import SinkError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.events.rules import RuleSet, parse_rules
from hoiclip_engine.live import control
from hoiclip_engine.live.api import MAX_BODY_BYTES
from hoiclip_engine.live.openapi import OPERATIONS
from hoiclip_engine.live.state_folder import StateFolder
from hoiclip_engine.streaming.stream import Stream
from hoiclip_engine.types.rule_hits import Evidence
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.frame_results import header, rule_hit
from tests.engine.supervised_runs import TOKEN, SupervisedPage, ask, supervised, wait_until

ZONE = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]
RULE = {"name": "rides here", "verbs": ["ride"], "zone": ZONE, "min_duration_s": 0.5}
HIT = rule_hit(pts_s=1.5, index=30, start_s=1.0, score=0.8, peak_score=0.9, peak_s=1.2)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[SupervisedPage]:
    with supervised(tmp_path) as running:
        yield running


# Sources.


def test_source_is_added_listed_paused_resumed_and_removed(page: SupervisedPage) -> None:
    assert page.request("GET", "/api/sources").json == {"sources": []}
    added = page.request("POST", "/api/sources", {"address": "rtsp://user:secret@host/live", "name": "door"})
    assert (added.status, added.headers["Location"]) == (201, "/api/sources/1")
    assert added.json["name"] == "door"
    assert added.json["address"] == "rtsp://host/live"
    wait_until(lambda: page.request("GET", "/api/sources/1").json["state"] == "running")
    assert page.request("POST", "/api/sources/1/pause").json["state"] == "paused"
    assert page.request("POST", "/api/sources/1/pause").json["state"] == "paused"  # once more changes nothing
    assert page.request("POST", "/api/sources/1/resume").json["state"] in ("starting", "running")
    removed = page.request("DELETE", "/api/sources/1")
    assert (removed.status, removed.body) == (204, b"")
    assert page.request("GET", "/api/sources").json == {"sources": []}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/sources/7"),
        ("DELETE", "/api/sources/7"),
        ("POST", "/api/sources/7/pause"),
        ("POST", "/api/sources/7/resume"),
        ("GET", "/api/sources/0"),
        ("GET", "/api/sources/x"),
        ("GET", "/api/sources/99999999999999999999"),
        ("GET", "/api/evidence/none/snapshot"),
        ("GET", "/api/evidence/..%2F..%2Fetc%2Fpasswd/clip"),
        ("GET", "/api/nothing"),
    ],
)
def test_unknown_id_is_not_found(page: SupervisedPage, method: str, path: str) -> None:
    answer = page.request(method, path)
    assert answer.status == 404
    assert answer.error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"rtsp://host/live"',
        b'{"address": "rtsp://host/live", "address": "rtsp://host/off"}',
        b'{"address": NaN}',
        b'{"address": "\\ud800"}',
        b"\xff\xfe",
        {},
        {"address": 1},
        {"address": ""},
        {"address": "rtsp://host/live", "more": 1},
        {"address": "rtsp://host/live", "name": "x" * 81},
        b'{"address": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_malformed_body_is_refused(page: SupervisedPage, body: object) -> None:
    answer = page.request("POST", "/api/sources", body)
    assert answer.status == 400
    assert answer.error
    assert page.control.sources() == []


def test_body_must_be_declared_as_json_and_small(page: SupervisedPage) -> None:
    body = json.dumps({"address": "rtsp://host/live"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = page.request("POST", "/api/sources", body, {"Content-Type": kind})
        assert answer.status == 415
        assert answer.error
    assert page.request("PUT", "/api/rules", b" " * (MAX_BODY_BYTES + 1)).status == 413
    assert page.control.sources() == []


def test_unsupported_method_names_the_supported_ones(page: SupervisedPage) -> None:
    answer = page.request("PATCH", "/api/sources")
    assert answer.status == 405
    assert answer.error
    assert answer.headers["Allow"] == "GET,POST"


def test_source_that_is_there_already_is_a_conflict(page: SupervisedPage) -> None:
    page.add("rtsp://user:secret@host/live")
    answer = page.request("POST", "/api/sources", {"address": "rtsp://user:secret@host/live"})
    assert answer.status == 409
    assert "secret" not in answer.error


# What may be added.


@pytest.mark.parametrize(
    "address",
    [
        *("rtsp://host/live", "rtsps://host/live", "rtmp://host/live", "http://host/live", "https://host/live"),
        *("0", "/dev/video3", "rtsp://host/live#transport=udp&timeout=3"),
    ],
)
def test_network_streams_and_cameras_may_be_added(page: SupervisedPage, address: str) -> None:
    page.add(address)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/etc/passwd", 403),
        ("clip.mp4", 403),
        ("../clip.mp4", 403),
        ("file:///etc/passwd", 422),
        ("-", 403),
        ("udp://0.0.0.0:1234", 403),
        ("tcp://10.0.0.1:22", 403),
        ("/dev/sda", 403),
        ("/dev/video../sda", 403),
        ("v4l2:///dev/mem", 403),
        ("concat:a|b", 403),
        ("gopher://host/", 422),
        ("rtsp://", 422),
        ("rtsp://host/a b", 422),
        ("rtsp://user:secret@host/live#nonsense=1", 422),
        ("\u0000", 422),
        ("rtsp:/host/live", 403),
    ],
)
def test_everything_else_is_refused(page: SupervisedPage, address: str, status: int) -> None:
    answer = page.request("POST", "/api/sources", {"address": address})
    assert answer.status == status, answer.body
    assert "secret" not in answer.error
    assert page.cameras.opened == []


def test_files_may_be_added_below_allowed_folders_only(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed, other):
        folder.mkdir()
        (folder / "clip.mp4").write_bytes(b"x")
    (allowed / "link.mp4").symlink_to(other / "clip.mp4")
    with supervised(tmp_path, allowed=[allowed]) as page:

        def status(path: object) -> int:
            return page.request("POST", "/api/sources", {"address": str(path)}).status

        assert status(allowed / "clip.mp4") == 201
        assert status(allowed / ".." / "allowed" / "clip.mp4") == 409  # the same file
        refused = [other / "clip.mp4", other / "none.mp4", allowed / "link.mp4", allowed / ".." / "other" / "clip.mp4"]
        # Whether a file exists elsewhere cannot be learned.
        assert {status(path) for path in refused} == {403}
        assert status(allowed / "none.mp4") == status(allowed) == 422


def test_state_that_cannot_be_written_changes_nothing(page: SupervisedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SinkError("cannot write state.json: No space left on device; free some space there")

    monkeypatch.setattr(StateFolder, "write", full)
    answer = page.request("POST", "/api/sources", {"address": "rtsp://host/live"})
    assert (answer.status, "No space left" in answer.error) == (503, True)
    assert page.request("PUT", "/api/rules", {"rule": [RULE]}).status == 503
    assert page.control.sources() == []
    assert page.request("GET", "/api/rules").json == {"rule": []}


# Rules.


def test_rules_are_replaced_as_a_whole(page: SupervisedPage) -> None:
    assert page.request("GET", "/api/rules").json == {"rule": []}
    source_id = page.add("rtsp://host/live")
    rules = {
        "rule": [RULE, {"name": "for one", "sources": [source_id]}, {"name": "for two", "sources": [source_id, 9]}]
    }
    assert page.request("PUT", "/api/rules", rules).json == rules
    assert page.request("GET", "/api/rules").json == rules
    page.request("DELETE", f"/api/sources/{source_id}")
    assert page.request("GET", "/api/rules").json == {"rule": [RULE, {"name": "for two", "sources": [9]}]}
    assert page.request("PUT", "/api/rules", {"rule": []}).json == {"rule": []}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"rule": {}}, 400),
        ({"rule": [], "more": 1}, 422),
        ({"rule": [1]}, 422),
        ({"rule": [{}]}, 422),
        ({"rule": [{"name": "a"}, {"name": "a"}]}, 422),
        ({"rule": [{"name": "a", "sources": ["1"]}]}, 422),
        ({"rule": [{"name": "a", "sources": [True]}]}, 422),
        ({"rule": [{"name": f"{number}"} for number in range(201)]}, 422),
        (b'{"rule": [{"name": "a", "min_duration_s": 1e999}]}', 400),
    ],
)
def test_rules_with_an_error_are_refused(page: SupervisedPage, body: object, status: int) -> None:
    page.request("PUT", "/api/rules", {"rule": [RULE]})
    answer = page.request("PUT", "/api/rules", body)
    assert answer.status == status
    assert answer.error
    assert page.request("GET", "/api/rules").json == {"rule": [RULE]}


def test_rules_reach_running_streams_without_the_key_of_a_live_run(
    page: SupervisedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[object] = []
    source_id = page.add("rtsp://host/live")
    wait_until(lambda: page.control.supervisor.streams())
    monkeypatch.setattr(Stream, "replace_rules", lambda stream, rules: applied.append(rules.as_dict()))
    for_others = {"name": "others", "sources": [source_id + 1]}
    page.request("PUT", "/api/rules", {"rule": [{**RULE, "sources": [source_id]}, for_others]})
    assert applied == [{"rule": [RULE]}]


def test_parser_of_rules_sees_them_as_in_a_file_and_may_refuse_them(
    page: SupervisedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def parse(rules: Mapping[str, Any], where: str, vocabulary: Vocabulary) -> RuleSet:
        seen.append(rules)
        return parse_rules(rules, where, vocabulary)

    monkeypatch.setattr(control, "parse_rules", parse)
    wrong = {**RULE, "verbs": ["rid"]}
    answer = page.request("PUT", "/api/rules", {"rule": [{**wrong, "sources": [1]}]})
    assert (answer.status, "did you mean" in answer.error) == (422, True)
    assert seen == [{"rule": [wrong]}]
    assert page.request("GET", "/api/rules").json == {"rule": []}


# Events and evidence.


def put_events(page: SupervisedPage, folder: Path) -> None:
    """A verb that has ended, and a hit with evidence."""
    ride = Event(
        event="start", pair=1, human=1, object=2, label_index=0, verb_index=0, verb="ride", label="bicycle", pts_s=0.5
    )
    run = header()
    page.events.put_event(run, (1, "door"), ride)
    page.events.put_event(
        run, (1, "door"), dataclasses.replace(ride, event="end", pts_s=2.0, start_s=0.5, peak_score=0.7)
    )
    page.events.put_hit(run, (2, "yard"), HIT)
    folder.mkdir()
    (folder / "hit.jpg").write_bytes(b"\xff\xd8 a snapshot")
    (folder / "hit.mp4").write_bytes(bytes(range(256)) * 40)
    page.events.put_evidence(
        Evidence(
            run_id=run.run_id,
            source="yard",
            hit=0,
            rule="rides here",
            pair=1,
            verb="ride",
            start_s=1.0,
            snapshot=folder / "hit.jpg",
            clip=folder / "hit.mp4",
            clip_start_s=0.0,
            clip_end_s=3.0,
        )
    )


def test_events_are_listed_newest_first_and_filtered(page: SupervisedPage, tmp_path: Path) -> None:
    put_events(page, tmp_path / "evidence")
    listed = page.request("GET", "/api/events").json
    assert (listed["total"], listed["limit"], listed["offset"]) == (2, 50, 0)
    hit, verb = listed["events"]
    assert (hit["kind"], hit["rule"], hit["source_name"], hit["end_s"]) == ("rule", "rides here", "yard", None)
    assert (verb["kind"], verb["verb"], verb["start_s"], verb["end_s"], verb["score"]) == (
        "verb",
        "ride",
        0.5,
        2.0,
        0.7,
    )
    assert verb["evidence"] is None
    assert str(tmp_path) not in json.dumps(listed)
    for query, count in [
        ("source=2", 1),
        ("source=3", 0),
        ("kind=verb", 1),
        ("verb=ride&object=bicycle", 2),
        ("verb=hold", 0),
        ("rule=rides%20here", 1),
        ("since=2000-01-01T00:00:00Z", 2),
        ("until=2000-01-01T00:00:00.123456%2B01:00", 0),
    ]:
        found = page.request("GET", f"/api/events?{query}").json
        assert found["total"] == len(found["events"]) == count, query
    second = page.request("GET", "/api/events?limit=1&offset=1").json
    assert (second["total"], [event["kind"] for event in second["events"]]) == (2, ["verb"])


def test_hit_is_one_row_until_it_ends(page: SupervisedPage) -> None:
    run = header()
    for event, pts_s in (("start", 1.5), ("update", 2.5), ("end", 3.0)):
        page.events.put_hit(run, (1, "door"), dataclasses.replace(HIT, event=event, pts_s=pts_s))
    (row,) = page.request("GET", "/api/events").json["events"]
    assert (row["start_s"], row["end_s"]) == (1.0, 3.0)


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=501", "limit=-1", "limit=x", "limit=%D9%A1", "offset=1000001", "source=0", "kind=hit"),
        *("verb=", "since=now", "since=2026-01-01T00:00:00", "since=2026-13-01T00:00:00Z", "more=1"),
        f"rule={'x' * 201}",
    ],
)
def test_wrong_filter_is_refused(page: SupervisedPage, query: str) -> None:
    answer = page.request("GET", f"/api/events?{query}")
    assert answer.status == 400
    assert answer.error


def test_evidence_is_served_by_id_with_ranges(page: SupervisedPage, tmp_path: Path) -> None:
    put_events(page, tmp_path / "evidence")
    links = page.request("GET", "/api/events?kind=rule").json["events"][0]["evidence"]
    snapshot = page.request("GET", links["snapshot"])
    assert (snapshot.status, snapshot.headers["Content-Type"], snapshot.body) == (
        200,
        "image/jpeg",
        b"\xff\xd8 a snapshot",
    )
    clip = page.request("GET", links["clip"])
    assert (clip.status, clip.headers["Content-Type"], len(clip.body)) == (200, "video/mp4", 10240)
    assert "default-src 'none'" in clip.headers["Content-Security-Policy"]
    part = page.request("GET", links["clip"], headers={"Range": "bytes=1000-1009"})
    assert (part.status, part.headers["Content-Range"]) == (206, "bytes 1000-1009/10240")
    assert part.body == clip.body[1000:1010]
    assert page.request("GET", links["clip"], headers={"Range": "bytes=99999-"}).status == 416


def test_evidence_outside_its_folder_or_removed_is_not_found(page: SupervisedPage, tmp_path: Path) -> None:
    put_events(page, tmp_path / "evidence")
    row = page.request("GET", "/api/events?kind=rule").json["events"][0]
    evidence = page.events.evidence(row["id"])
    assert evidence is not None
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    link = tmp_path / "evidence" / "link.mp4"
    link.symlink_to(tmp_path / "secret.mp4")
    for clip in (tmp_path / "secret.mp4", tmp_path / "evidence" / ".." / "secret.mp4", link, tmp_path / "evidence"):
        page.events.put_evidence(dataclasses.replace(evidence, clip=clip))
        assert page.request("GET", row["evidence"]["clip"]).status == 404
    (tmp_path / "evidence" / "hit.jpg").unlink()
    assert page.request("GET", row["evidence"]["snapshot"]).status == 404


# Access.

CHANGES = [
    (operation.method.upper(), operation.path.replace("{id}", "1")) for operation in OPERATIONS if operation.is_write
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_change_needs_the_token_in_the_header_also_on_this_machine(
    page: SupervisedPage, method: str, path: str
) -> None:
    page.add("rtsp://host/live")
    for headers in (
        {},
        {"Authorization": "Bearer wrong-token-of-some-length"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer "},
        {"Cookie": f"hoiclip_live={TOKEN}"},
        {"X-Token": TOKEN},
    ):
        answer = page.request(method, path, {"address": "rtsp://host/off", "rule": []}, headers, token="")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in answer.error
    assert page.request(method, f"{path}?token={TOKEN}", {"rule": []}, token="").status == 401
    assert [source.address for source in page.control.sources()] == ["rtsp://host/live"]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_cookie_of_the_page_never_suffices_for_a_change(tmp_path: Path, method: str, path: str) -> None:
    with supervised(tmp_path, read_token=TOKEN) as page:
        page.add("rtsp://host/live")
        link = ask(page.server.port, "GET", f"/?token={TOKEN}")
        cookie = {"Cookie": link.headers["Set-Cookie"].partition(";")[0]}
        assert page.request("GET", "/api/sources", headers=cookie, token="").status == 200
        assert page.request(method, path, {"rule": []}, cookie, token="").status == 401


@pytest.mark.parametrize(("method", "path"), [*CHANGES, ("GET", "/api/sources"), ("GET", "/api/events")])
def test_other_sites_and_foreign_names_are_refused_even_with_the_token(
    page: SupervisedPage, method: str, path: str
) -> None:
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": f"evil.example:{page.server.port}"},
    ):
        answer = page.request(method, path, {"rule": []}, headers)
        assert answer.status == 403
        assert answer.error
    preflight = page.request("OPTIONS", path, headers={"Origin": "http://evil.example"})
    assert preflight.status == 403
    assert not any(name.startswith("Access-Control") for name in preflight.headers)


def test_reading_needs_the_token_where_the_page_needs_it(tmp_path: Path, page: SupervisedPage) -> None:
    reads = ["/api/sources", "/api/rules", "/api/events", "/api/openapi.json", "/api/evidence/x/clip"]
    assert {page.request("GET", path, token="").status for path in reads} == {200, 404}
    with supervised(tmp_path / "protected", read_token=TOKEN) as protected:
        for path in reads:
            assert protected.request("GET", path, token="").status == 401
            assert protected.request("GET", path).status in (200, 404)


def test_no_answer_holds_a_password_or_the_token(page: SupervisedPage) -> None:
    page.add("rtsp://user:secret@host/off")
    wait_until(lambda: page.state_of(1) == "waiting")
    for path in ("/api/sources", "/api/sources/1", "/api/rules", "/api/events", "/metrics", "/", "/api/openapi.json"):
        answer = page.request("GET", path)
        assert answer.status == 200
        assert b"secret" not in answer.body
        assert TOKEN not in answer.body.decode() + str(answer.headers)


# The document and the metrics.


def test_document_describes_every_route(page: SupervisedPage) -> None:
    document = page.request("GET", "/api/openapi.json").json
    assert document["openapi"] == "3.1.0"
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(operation.method, operation.path) for operation in OPERATIONS}
    for methods in document["paths"].values():
        for method, operation in methods.items():
            assert ("401" in operation["responses"]) is True
            assert operation["security"] == ([] if method == "get" else [{"token": []}])


def test_metrics_count_sources_by_state_and_restarts(page: SupervisedPage) -> None:
    page.add("rtsp://host/live")
    page.add("rtsp://host/silent", name="wedged")
    paused = page.add("rtsp://host/live2")
    wait_until(lambda: page.state_of(paused) == "running")
    page.request("POST", f"/api/sources/{paused}/pause")
    wait_until(lambda: page.control.source(2).restarts >= 1)
    text = page.request("GET", "/metrics").body.decode()
    assert 'hoiclip_sources{state="paused"} 1.0' in text
    assert 'hoiclip_source_restarts_total{source="wedged"}' in text
    assert 'hoiclip_frames_decoded_total{source="rtsp://host/live"}' in text
    assert 'source="rtsp://host/live2"}' not in text.replace(
        'hoiclip_source_restarts_total{source="rtsp://host/live2"}', ""
    )
    page.request("DELETE", "/api/sources/1")
    assert 'source="rtsp://host/live"' not in page.request("GET", "/metrics").body.decode()
