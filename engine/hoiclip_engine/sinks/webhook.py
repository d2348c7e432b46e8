"""Posts messages of an outbox to a webhook: JSON over HTTP, in batches, signed where there is a secret.

    plain               {"schema": "hoiclip-events/1", "batch": 3, "events": [{"id": ..., "source": ..., ...}, ...]}
    cloudevents         {"specversion": "1.0", "id": ..., "source": ..., "type": "hoiclip.verb.start", "data": {...}}
    cloudevents-batch   a list of those

docs/delivery.md has examples of all of them, and of receivers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal
from urllib.parse import quote, urlunsplit

from hoiclip import __version__
from hoiclip.core.errors import UsageError
from hoiclip_engine.events.outbox import Receipt, Target
from hoiclip_engine.events.outbox_file import Message
from hoiclip_engine.sources.uri import failure_reason, is_url, split_receiver

TOKEN_VARIABLE = "HOICLIP_WEBHOOK_TOKEN"
SECRET_VARIABLE = "HOICLIP_WEBHOOK_SECRET"
SIGNATURE_HEADER = "X-Hoiclip-Signature"
SHORTEST_SECRET = 16
_AGAIN = (408, 425, 429)

WebhookFormat = Literal["plain", "cloudevents", "cloudevents-batch"]
_CONTENT_TYPES: dict[WebhookFormat, str] = {
    "plain": "application/json",
    "cloudevents": "application/cloudevents+json",
    "cloudevents-batch": "application/cloudevents-batch+json",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Body, batches and time limit of requests."""

    format: WebhookFormat = "plain"
    """cloudevents: an event per request, as every receiver of CloudEvents takes it."""
    batch: int = 100
    """Events of a request at most, except in format cloudevents."""
    collect_s: float = 0.2
    """Seconds over which events are collected into a batch."""
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.timeout_s <= 0 or self.format not in _CONTENT_TYPES:
            raise ValueError(f"expected a known format, a batch of at least 1 and a positive timeout, got {self}")


class Webhook(Target):
    """One receiver: a target of an outbox."""

    key = "webhook"
    idle_s = None

    def __init__(
        self, url: str, token: str | None = None, config: WebhookConfig | None = None, *, secret: str | None = None
    ) -> None:
        """Opens nothing.

        Args:
            token: sent as a bearer; None: HOICLIP_WEBHOOK_TOKEN, if it is set.
            secret: signs requests; None: HOICLIP_WEBHOOK_SECRET, if it is set.

        Raises:
            UsageError: not an http or https address, or a token or secret that cannot be used.
        """
        self._address, self.name, authorization = _parse_url(url)
        token = os.environ.get(TOKEN_VARIABLE) if token is None else token
        if token and not (token.isascii() and token.isprintable()):
            raise UsageError(f"expected a token of printable ASCII in {TOKEN_VARIABLE}; correct it")
        self._secret = (os.environ.get(SECRET_VARIABLE, "") if secret is None else secret).encode()
        if self._secret and len(self._secret) < SHORTEST_SECRET:
            raise UsageError(f"expected at least {SHORTEST_SECRET} characters in {SECRET_VARIABLE}; make it longer")
        self._config = config or WebhookConfig()
        self._headers = {
            "Content-Type": _CONTENT_TYPES[self._config.format],
            "User-Agent": f"hoiclip/{__version__}",
        }
        if token or authorization:
            self._headers["Authorization"] = f"Bearer {token}" if token else authorization
        self._batches = 0
        self._last_ids: list[str] = []

    @property
    def batch(self) -> int:
        return 1 if self._config.format == "cloudevents" else self._config.batch

    @property
    def collect_s(self) -> float:
        return self._config.collect_s

    def deliver(self, messages: Sequence[Message]) -> Receipt:
        """Posts the messages. Any answer but 2xx, 408, 425, 429 and 5xx is final; redirects are not followed."""
        ids = [message.id for message in messages]
        if ids != self._last_ids:  # the same number marks a repetition
            self._last_ids, self._batches = ids, self._batches + 1
        status, failure = self._post(self._body(messages))
        if failure:
            return Receipt(failure=failure)
        if 200 <= status < 300:
            return Receipt(acknowledged=frozenset(ids))
        return Receipt(failure=f"it answers {status}", is_final=status < 500 and status not in _AGAIN)

    def close(self) -> None:
        return

    def _body(self, messages: Sequence[Message]) -> bytes:
        body: Any
        match self._config.format:
            case "plain":
                events = [{"id": message.id, "told_at": message.time, **message.payload} for message in messages]
                body = {"schema": "hoiclip-events/1", "batch": self._batches, "events": events}
            case "cloudevents":
                body = cloud_event(messages[0])
            case "cloudevents-batch":
                body = [cloud_event(message) for message in messages]
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        # Not urllib's own handlers: following a redirect would carry the token to another host.
        opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), _HttpHandler(), _HttpsHandler()):
            opener.add_handler(handler)
        return opener

    def _post(self, body: bytes) -> tuple[int, str]:
        """Status of the answer, and the failure where there was none."""
        headers = {**self._headers, SIGNATURE_HEADER: sign(self._secret, body)} if self._secret else self._headers
        request, seconds = _TimedRequest(self._address, body, headers, method="POST"), self._config.timeout_s
        status, failure = 0, ""
        try:
            with request.limited_to(seconds), self._opener.open(request, timeout=seconds) as response:
                status = int(response.status)
        except (OSError, http.client.HTTPException) as error:
            failure = failure_reason(error)
        if request.is_late:  # then the answer may have been truncated, too
            failure = f"it takes longer than {seconds:g} s"
        return status, failure


def sign(secret: bytes, body: bytes, now_s: float | None = None) -> str:
    """Header that proves who sent a body and when: HMAC-SHA256 of time and body, as Stripe's webhooks have it."""
    sent_s = int(time.time() if now_s is None else now_s)
    return f"t={sent_s},v1={hmac.new(secret, f'{sent_s}.'.encode() + body, hashlib.sha256).hexdigest()}"


def cloud_event(message: Message) -> dict[str, Any]:
    """The message as JSON of CloudEvents 1.0."""
    subject = message.payload.get("rule") or message.payload.get("verb")
    return {
        "specversion": "1.0",
        "id": message.id,
        "source": _uri_reference(str(message.payload["source"])),
        "type": f"hoiclip.{message.kind}",
        "time": message.time,
        **({"subject": subject} if subject else {}),
        "datacontenttype": "application/json",
        "data": dict(message.payload),
    }


def _uri_reference(source: str) -> str:
    """The printable name of a source with everything escaped that RFC 3986 allows only as escapes."""
    scheme, separator, rest = source.partition("://")
    if not is_url(source) or not separator:
        return quote(source)
    host, slash, path = rest.partition("/")
    escaped = quote(slash + path, safe="/?:@!$&'()*+,;=-._~%#")
    return f"{scheme}://{quote(host, safe=':[]@!$&()*+,;=-._~%')}" + re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", escaped)


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


def _parse_url(url: str) -> tuple[str, str, str]:
    """Address without credentials, its printable name, and the credentials as a header, perhaps empty."""
    receiver = split_receiver(url, ("http", "https"), "webhook", "https://host/path")
    address = urlunsplit((receiver.scheme, receiver.netloc, receiver.path or "/", receiver.query, ""))
    name = f"{receiver.scheme}://{receiver.netloc}"
    if receiver.user is None:
        return address, name, ""
    secret = f"{receiver.user}:{receiver.password}".encode()
    return address, name, f"Basic {base64.b64encode(secret).decode()}"
