"""Webhook: delivery, retries, and a receiver that hangs."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import runpy
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.events.outbox import Outbox, OutboxConfig, TargetCounters
from hoiclip_engine.sinks.webhook import SECRET_VARIABLE, SIGNATURE_HEADER, TOKEN_VARIABLE, Webhook, WebhookConfig, sign
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import FrameResult
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.frame_results import frame_result, header, summary
from tests.engine.run_processes import ROOT

RGB = np.zeros((48, 64, 3), np.uint8)
TOKEN, PASSWORD, SECRET = "t0ken-secret", "s3cret", "s1gning-s3cret-of-tests"
FAST = WebhookConfig(collect_s=0.01, timeout_s=0.5)
PACE = OutboxConfig(first_pause_s=0.01, drain_s=1.0)


def event(pts_s: float, kind: Any = "start") -> Event:
    return Event(event=kind, pair=7, human=3, object=5, label_index=0, verb_index=0, pts_s=pts_s)


def at(index: int, *events: Event) -> FrameResult:
    return frame_result(Frame(RGB, index / 25, index), events=events)


class Received(list[tuple[dict[str, str], Any]]):
    """Headers and body of each request."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, body in self for event in body["events"]]


@contextmanager
def receiver(*answers: int, location: str = "") -> Iterator[tuple[str, Received]]:
    """Answers with these codes, then with 204."""
    received, left = Received(), list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.raw.append(body)
            received.append((dict(self.headers), json.loads(body)))
            self.send_response(left.pop(0) if left else 204)
            if location:
                self.send_header("Location", location)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def outbox(webhook: Webhook) -> Outbox:
    return Outbox([webhook], config=PACE)


def counters(box: Outbox) -> TargetCounters:
    return box.counters()[0]


def run(webhook: Webhook, *results: FrameResult) -> None:
    sink = outbox(webhook).sink()
    sink.start(header())
    for result in results:
        sink.write(result)
    sink.finish(summary(closing_events=(event(9.0, "end"),)))


def test_webhook_delivers_events_in_order_with_the_token() -> None:
    with receiver() as (host, received):
        box = outbox(Webhook(f"http://{host}/hook?a=1", TOKEN, FAST))
        sink = box.sink()
        sink.start(header(source="rtsp://camera/1"))
        sink.write(at(0))
        sink.write(at(1, event(0.04)))
        sink.source_event(SourceEvent(event="source_lost", pts_s=0.04, reason="connection reset"))
        sink.finish(summary(closing_events=(event(0.04, "end"),)))
    assert [event["event"] for event in received.events] == ["start", "source_lost", "end"]
    first = received.events[0]
    assert {
        "pair": 7,
        "verb": "ride",
        "label": "bicycle",
        "pts_s": 0.04,
        "source": "rtsp://camera/1",
    }.items() <= first.items()
    headers, body = received[0]
    assert body["schema"] == "hoiclip-events/1"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert (counters(box).delivered, counters(box).waiting) == (3, 0)


def test_webhook_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with receiver() as (host, received):
        run(Webhook(f"http://{host}", config=FAST), at(0, event(0.0)))
    assert received[0][0]["Authorization"] == f"Bearer {TOKEN}"


def test_webhook_credentials_of_the_address_go_only_into_the_header() -> None:
    with receiver(400, 400) as (host, received):
        webhook = Webhook(f"http://us%40er:{PASSWORD}@{host}/hook", config=FAST)
        with pytest.raises(SinkError, match="answers 400") as caught:
            run(webhook, at(0, event(0.0)))
    assert received[0][0]["Authorization"] == "Basic " + base64.b64encode(f"us@er:{PASSWORD}".encode()).decode()
    assert PASSWORD not in str(caught.value)
    assert received[0][0]["Host"] == host


def test_webhook_retries_busy_receivers() -> None:
    with receiver(503, 429) as (host, received):
        box = outbox(Webhook(f"http://{host}", config=FAST))
        sink = box.sink()
        sink.start(header())
        sink.write(at(0, event(0.0)))
        deadline_s = time.monotonic() + 10
        while not counters(box).delivered and time.monotonic() < deadline_s:
            time.sleep(0.01)
        sink.finish(summary())
    assert [body["batch"] for _, body in received] == [1, 1, 1]
    assert (counters(box).delivered, counters(box).retried, counters(box).waiting) == (1, 2, 0)


@pytest.mark.parametrize("code", [400, 404, 302])
def test_webhook_refusal_is_not_retried_and_reported_at_the_end(code: int) -> None:
    with receiver() as (elsewhere, stolen), receiver(code, code, location=f"http://{elsewhere}/") as (host, received):
        webhook = Webhook(f"http://{host}", TOKEN, FAST)
        with pytest.raises(SinkError, match=rf"2 events could not be delivered .*answers {code}"):
            run(webhook, at(0, event(0.0)))
    assert stolen == []
    assert len(received) <= 2  # the end of the run may be a batch of its own


def test_webhook_without_receiver_is_one_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SinkError, match=r"2 events could not be delivered to http://127\.0\.0\.1.*refused") as caught:
        run(Webhook(f"http://u:{PASSWORD}@127.0.0.1:{port}/{PASSWORD}", config=FAST), at(0, event(0.0)))
    assert PASSWORD not in str(caught.value)


def test_webhook_receiver_that_hangs_does_not_delay_the_run() -> None:
    config = WebhookConfig(collect_s=0.01, timeout_s=30)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        webhook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}", config=config)
        box = Outbox([webhook], config=OutboxConfig(capacity=50, drain_s=0.3))
        sink = box.sink()
        sink.start(header())
        took_s = []
        for index in range(1000):
            begun_s = time.perf_counter()
            sink.write(at(index, event(index / 25)))
            took_s.append(time.perf_counter() - begun_s)
        begun_s = time.monotonic()
        with pytest.raises(SinkError, match="could not be delivered") as caught:
            sink.finish(summary())
        assert time.monotonic() - begun_s < 1.0
    assert np.median(took_s) < 1e-3
    undelivered = int(str(caught.value).split()[0])
    assert undelivered + counters(box).delivered == 1000


def test_webhook_serves_several_sources() -> None:
    with receiver() as (host, received):
        box = outbox(Webhook(f"http://{host}", config=FAST))
        sinks = [box.sink(), box.sink()]
        for name, sink in zip("ab", sinks, strict=True):
            sink.start(header(source=name))
        for sink in sinks:
            sink.write(at(0, event(0.0)))
        for sink in sinks:
            sink.finish(summary(closing_events=(event(0.0, "end"),)))
    assert sorted((event["source"], event["event"]) for event in received.events) == [
        ("a", "end"),
        ("a", "start"),
        ("b", "end"),
        ("b", "start"),
    ]


@pytest.mark.parametrize(
    "url",
    ["ftp://host", "host", "http://", "http://host:port", "http://ho st/", "http://host/\n", "file:///etc/passwd"],
)
def test_webhook_invalid_address_is_a_usage_error_without_the_address(url: str) -> None:
    with pytest.raises(UsageError, match="https://host/path"):
        Webhook(url)


@contextmanager
def dripping(answer: bytes) -> Iterator[tuple[str, list[float]]]:
    """A server that begins its answer like this and continues byte by byte. Yields how long the client listened."""
    listened_s: list[float] = []

    def serve(connection: socket.socket) -> None:
        begun_s = time.monotonic()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(answer)
            while time.monotonic() - begun_s < 20:
                time.sleep(0.1)
                connection.sendall(b"x")
        listened_s.append(time.monotonic() - begun_s)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", listened_s


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nX-Long: "])
def test_webhook_timeout_includes_an_answer_that_comes_byte_by_byte(answer: bytes) -> None:
    with dripping(answer) as (url, listened_s):
        sink = Outbox([Webhook(url, config=FAST)], config=OutboxConfig(first_pause_s=0.01, drain_s=3.0)).sink()
        sink.start(header())
        sink.write(at(0, event(0.0)))
        begun_s = time.monotonic()
        with pytest.raises(SinkError, match=r"longer than 0\.5 s"):
            sink.finish(summary())
        assert time.monotonic() - begun_s < 6
        while not listened_s and time.monotonic() - begun_s < 15:
            time.sleep(0.05)
        assert listened_s
        assert listened_s[0] < 10


# CloudEvents.

CLOUD_EVENT = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
        "type": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "subject": {"type": "string", "minLength": 1},
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    "propertyNames": {"pattern": "^[a-z0-9]+$"},
    "additionalProperties": {"type": ["string", "boolean", "integer"]},
}
"""The attributes of CloudEvents 1.0, section 3.1, as in its JSON event format."""
IS_CLOUD_EVENT = jsonschema_rs.Draft7Validator(CLOUD_EVENT, validate_formats=True)
SOURCES = [
    "rtsp://camera/1",
    "rtsp://[::1]:554/live?token=***#***",
    "http://höst/100% [x]",
    "clips/a:b 1#2.mp4",
    "standard input",
    "/dev/video0",
]


def post(webhook: Webhook, source: str = "rtsp://camera/1") -> None:
    sink = outbox(webhook).sink()
    sink.start(header(source=source))
    sink.write(at(0, event(0.0), event(0.0, "end")))
    sink.source_event(SourceEvent(event="source_lost", pts_s=0.04, reason="reset"))
    sink.finish(summary())


@pytest.mark.parametrize("source", SOURCES)
def test_cloud_events_are_valid_one_in_a_request(source: str) -> None:
    with receiver(503) as (host, received):
        post(Webhook(f"http://{host}", config=replace(FAST, format="cloudevents")), source)
    assert {headers["Content-Type"] for headers, _ in received} == {"application/cloudevents+json"}
    for _, body in received:
        IS_CLOUD_EVENT.validate(body)
    first, *bodies = [body for _, body in received]
    assert first == bodies[0], "the same id and time in every attempt"
    assert [body["type"] for body in bodies] == ["hoiclip.verb.start", "hoiclip.verb.end", "hoiclip.source.lost"]
    assert [body.get("subject") for body in bodies] == ["ride", "ride", None]
    assert bodies[0]["data"]["source"] == source
    assert bodies[0]["data"]["pair"] == 7


def test_cloud_events_of_a_batch_are_valid() -> None:
    with receiver() as (host, received):
        post(Webhook(f"http://{host}", config=replace(FAST, format="cloudevents-batch", collect_s=0.3)))
    assert [len(body) for _, body in received] == [3]
    assert received[0][0]["Content-Type"] == "application/cloudevents-batch+json"
    for body in received[0][1]:
        IS_CLOUD_EVENT.validate(body)


# Signatures.


def test_signature_proves_sender_body_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    is_genuine = runpy.run_path(str(ROOT / "examples" / "webhook.py"))["is_genuine"]
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    with receiver() as (host, received):
        post(Webhook(f"http://{host}", config=FAST))
    headers, body = received[0][0], received.raw[0]
    signature = headers[SIGNATURE_HEADER]
    assert re.fullmatch(r"t=\d+,v1=[0-9a-f]{64}", signature)
    assert is_genuine(SECRET, signature, body)
    assert not is_genuine(SECRET, signature, body + b" ")
    assert not is_genuine(SECRET + "x", signature, body)
    assert not is_genuine(SECRET, sign(SECRET.encode(), body, time.time() - 1000), body), "an old request"
    later = f"t={int(time.time()) + 1},{signature.partition(',')[2]}"
    assert not is_genuine(SECRET, later, body)
    for wrong in ("", "t=1", "v1=1", "t=x,v1=é", signature.replace("v1", "v2")):
        assert not is_genuine(SECRET, wrong, body)


def test_signature_in_the_documents_is_that_of_the_example() -> None:
    page = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    function = (ROOT / "examples" / "webhook.py").read_text(encoding="utf-8").partition("def is_genuine")[2]
    assert function.partition("\n\n\n")[0] in page


def test_webhook_without_a_secret_is_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    with receiver() as (host, received):
        post(Webhook(f"http://{host}", config=FAST))
    assert SIGNATURE_HEADER not in received[0][0]


def test_webhook_secret_that_is_too_short_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="at least 16 characters") as caught:
        Webhook("http://host", secret="sh0rt")
    assert "sh0rt" not in str(caught.value)
