"""Posts events to a webhook: JSON batches over HTTP, from a thread of its own.

A run never waits for the receiver: events go into a queue that drops the oldest when it is full. Undelivered events
are counted, and reported as an error at the end. One Webhook serves several sources.

    POST URL    {"schema": "hoiclip-events/1", "batch": 3, "events": [{"source": ..., "event": ..., ...}, ...]}
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from hoiclip import __version__
from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.sinks.jsonl_sink import event_fields, rule_event_fields, source_event_fields
from hoiclip_engine.sources.uri import redact
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event

TOKEN_VARIABLE = "HOICLIP_WEBHOOK_TOKEN"
_AGAIN = (408, 425, 429)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Queue, batches, timeouts and retries of a webhook."""

    waiting: int = 2000
    """Events that wait at most; then the oldest are dropped."""
    batch: int = 100
    collect_s: float = 0.2
    """Seconds over which events are collected into a batch."""
    timeout_s: float = 5.0
    first_pause_s: float = 0.5
    """Before a second try; doubled before each further one, with jitter."""
    last_pause_s: float = 30.0
    tries: int = 8
    drain_s: float = 0.5
    """Seconds after the end of a run in which events are still delivered: an interrupt ends a run within a second."""

    def __post_init__(self) -> None:
        if min(self.waiting, self.batch, self.tries) < 1 or self.timeout_s <= 0:
            raise ValueError(f"waiting, batch and tries must be at least 1 and the timeout positive, got {self}")


class Webhook:
    """One receiver. `sink()` makes a sink per source; the thread lives from the first start to the last finish."""

    def __init__(self, url: str, token: str | None = None, config: WebhookConfig | None = None) -> None:
        """Opens nothing. Args: token: sent as a bearer; None: HOICLIP_WEBHOOK_TOKEN, if it is set.

        Raises:
            UsageError: not an http or https address.
        """
        self._address, self.name, authorization = _parse_url(url)
        token = os.environ.get(TOKEN_VARIABLE) if token is None else token
        if token and not (token.isascii() and token.isprintable()):
            raise UsageError(f"expected a token of printable ASCII in {TOKEN_VARIABLE}; correct it")
        self._headers = {"Content-Type": "application/json", "User-Agent": f"hoiclip/{__version__}"}
        if token or authorization:
            self._headers["Authorization"] = f"Bearer {token}" if token else authorization
        self._config = config or WebhookConfig()
        self._waiting: deque[dict[str, Any]] = deque(maxlen=self._config.waiting)
        self._changed = threading.Condition()
        self._open_sinks = self._batches = 0
        self._ending = False
        self._thread: threading.Thread | None = None
        self._taken = 0
        self.delivered = 0
        self._last_failure = ""

    def sink(self) -> Sink:
        return _WebhookSink(self)

    @property
    def undelivered(self) -> int:
        """Events that wait, are being sent, or were given up."""
        with self._changed:
            return self._taken - self.delivered

    def opened(self) -> None:
        """Counts a source that begins."""
        with self._changed:
            self._open_sinks += 1
            if self._thread is None:
                self._ending = False
                self._thread = threading.Thread(target=self._deliver, name="hoiclip-webhook", daemon=True)
                self._thread.start()

    def put(self, events: list[dict[str, Any]]) -> None:
        """Queues events; never waits."""
        with self._changed:
            self._taken += len(events)
            self._waiting.extend(events)
            self._changed.notify()

    def closed(self) -> None:
        """Counts a source that has ended; after the last one, waiting events are delivered for a moment, then given up.

        Raises:
            SinkError: some events were not delivered.
        """
        with self._changed:
            self._open_sinks -= 1
            if self._open_sinks:
                return
            self._ending = True
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self._config.drain_s)
        with self._changed:
            self._waiting.clear()
        if self.undelivered:
            why = self._last_failure or "it is too slow"
            raise SinkError(
                f"{self.undelivered} events could not be delivered to {self.name}: {why}; JSON lines have them all"
            )

    def _deliver(self) -> None:
        # Not urllib's own handlers: following a redirect would carry the token to another host.
        opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), _HttpHandler(), _HttpsHandler()):
            opener.add_handler(handler)
        while batch := self._next_batch():
            pause_s = self._config.first_pause_s
            for attempt in range(1, self._config.tries + 1):
                if not self._post(opener, batch) or attempt == self._config.tries:
                    break
                if self._ended_after(pause_s * random.uniform(0.5, 1.0)):
                    self._post(opener, batch)
                    break
                pause_s = min(2 * pause_s, self._config.last_pause_s)

    def _next_batch(self) -> list[dict[str, Any]]:
        """Waits for events; empty once all sources have ended."""
        with self._changed:
            while not self._waiting:
                if self._ending:
                    return []
                self._changed.wait()
            if not self._ending:
                self._changed.wait(self._config.collect_s)
            self._batches += 1
            return [self._waiting.popleft() for _ in range(min(self._config.batch, len(self._waiting)))]

    def _ended_after(self, pause_s: float) -> bool:
        deadline_s = time.monotonic() + pause_s
        with self._changed:
            while not self._ending and (left_s := deadline_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return self._ending

    def _post(self, opener: urllib.request.OpenerDirector, batch: list[dict[str, Any]]) -> bool:
        """Sends a batch. Returns whether another try may help."""
        body = {"schema": "hoiclip-events/1", "batch": self._batches, "events": batch}
        data = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        request, seconds = _TimedRequest(self._address, data, self._headers, method="POST"), self._config.timeout_s
        try:
            with request.limited_to(seconds), opener.open(request, timeout=seconds) as response:
                status: int | None = int(response.status)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)  # its text may hold the address
            self._last_failure = getattr(reason, "strerror", None) or type(reason).__name__
            status = None
        if request.is_late:  # then the answer may have been truncated, too
            self._last_failure = f"it takes longer than {seconds:g} s"
            status = None
        if status is None:
            return True
        if 200 <= status < 300:
            with self._changed:
                self.delivered += len(batch)
            return False
        self._last_failure = f"it answers {status}"
        return status >= 500 or status in _AGAIN


class _TimedRequest(urllib.request.Request):
    """A request with one time limit for all of it: connecting, sending, and an answer that may come byte by byte."""

    is_late = False
    _socket: socket.socket | None = None

    @contextmanager
    def limited_to(self, seconds: float) -> Iterator[None]:
        """Within the context, the connection is closed when time is over, and is_late set."""
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if self._socket is not None:
                self._socket.close()

    def set_connection(self, connection: socket.socket) -> None:
        """Takes the connection before TLS, which makes another object of the same socket."""
        self._socket = connection.dup()
        if self.is_late:
            self._end()

    def _end(self) -> None:
        self.is_late = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    request_of: _TimedRequest

    def connect(self) -> None:
        super().connect()
        self.request_of.set_connection(self.sock)


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """Its TLS handshake comes after _Connection.connect, by the order of the bases."""


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connecting(_Connection, req), req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connecting(_TlsConnection, req), req)


def _connecting(kind: type[_Connection], request: urllib.request.Request) -> Any:
    """Factory that urllib calls for a connection."""
    assert isinstance(request, _TimedRequest)

    def connection(host: str, **options: Any) -> _Connection:
        new = kind(host, **options)
        new.request_of = request
        return new

    return connection


class _WebhookSink(Sink):
    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    def start(self, header: RunHeader) -> None:
        self._vocabulary, self._source = header.vocabulary, header.source
        self._webhook.opened()

    def write(self, result: FrameResult) -> None:
        if events := self._fields(result.events, result.rule_hits):
            self._put(events)

    def source_event(self, event: SourceEvent) -> None:
        self._put([source_event_fields(event)])

    def finish(self, summary: RunSummary) -> None:
        if events := self._fields(summary.closing_events, summary.closing_hits):
            self._put(events)
        self._webhook.closed()

    def _fields(self, events: Iterable[Event], hits: Iterable[RuleHit]) -> list[dict[str, Any]]:
        return [*(event_fields(event, self._vocabulary) for event in events), *map(rule_event_fields, hits)]

    def _put(self, events: list[dict[str, Any]]) -> None:
        reported_at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._webhook.put([{"source": self._source, "told_at": reported_at, **event} for event in events])


def _parse_url(url: str) -> tuple[str, str, str]:
    """Address without credentials, its printable name, and the credentials as a header, perhaps empty."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        redacted_host = urlsplit(redact(url)).hostname
    except ValueError:
        raise UsageError("expected the address of a webhook, such as https://host/path; correct it") from None
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError("expected the address of a webhook, such as https://host/path; correct it")
    if redacted_host != parts.hostname:
        raise UsageError("expected no / ? # @ in the user or password of --webhook; write them as %2F %3F %23 %40")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    address = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
    if parts.username is None:
        return address, f"{parts.scheme}://{netloc}", ""
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return address, f"{parts.scheme}://{netloc}", f"Basic {base64.b64encode(secret).decode()}"
