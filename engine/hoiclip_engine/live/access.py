"""Access to the live page: limits of connections, and every request checked before its handler.

Without a token the page is for this machine only, so a request must name it by a loopback name: a foreign name that
resolves to 127.0.0.1 (DNS rebinding) is refused. With a token any name is accepted. Requests from pages of other sites
are refused either way. Changes need the token in the Authorization header, also on this machine: what a browser adds by
itself, such as a cookie, never suffices.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import resource
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from hoiclip.core.printable import one_line
from hoiclip_engine.live.address import LiveAddress, is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
COOKIE = "hoiclip_live"
OPEN_PATHS = ("/health", "/health/live", "/health/ready")
"""Answered without a token: whether the server is healthy, and nothing else."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AccessControl:
    """Middleware that checks origin and token of requests."""

    def __init__(self, address: LiveAddress, write_token: str = "") -> None:
        """Args: write_token: for changes through the API; empty: there is no API."""
        self._address, self._write_token = address, write_token
        # Not the token itself: a cookie that leaks opens this run only.
        self._cookie = secrets.token_urlsafe(32)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses or handles a request; a refusal never says what was wrong with a token."""
        if not self._is_same_origin(request):
            return self._refusal(request, 403, "requests from other sites are refused")
        if request.path not in OPEN_PATHS and not self._is_authorized(request):
            return self._refusal(request, 401, "a token is needed: /?token=...")
        if self._is_api(request) and request.method not in ("GET", "HEAD") and not self._may_change(request):
            return self._refusal(request, 401, "changes need the header Authorization: Bearer TOKEN")
        if request.path == "/" and "token" in request.query:
            return self._with_cookie(request)
        try:
            return await handler(request)
        except web.HTTPException as error:
            if self._is_api(request):
                return error_response(error.status, error.text or error.reason, error.headers.get("Allow", ""))
            error.headers.update(HEADERS)
            raise

    def _is_same_origin(self, request: web.Request) -> bool:
        host = request.headers.get("Host", "")
        try:
            hostname = urlsplit(f"//{host}").hostname or ""
            origin = urlsplit(request.headers.get("Origin", f"http://{host}")).netloc
        except ValueError:
            return False
        if not (self._address.token or is_loopback(hostname)):
            return False
        # A link on another site may lead to the page, but nothing of it may be embedded there.
        fetch_site = request.headers.get("Sec-Fetch-Site", "none")
        is_link = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.path == "/"
        return origin == host and (fetch_site in ("none", "same-origin") or is_link)

    def _is_authorized(self, request: web.Request) -> bool:
        if not self._address.token:
            return True
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._address.accepts(bearer.strip()):
            return True
        if self._address.accepts(request.query.get("token", "")):
            return True
        return secrets.compare_digest(request.cookies.get(COOKIE, "").encode(), self._cookie.encode())

    def _may_change(self, request: web.Request) -> bool:
        """Whether the request holds the token in its header. Neither cookie nor query count: links have those too."""
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = bearer.strip().encode("utf-8", "surrogateescape")
        return scheme.lower() == "bearer" and secrets.compare_digest(given, self._write_token.encode())

    def _is_api(self, request: web.Request) -> bool:
        """Whether the request is for the API, whose errors are JSON."""
        return bool(self._write_token) and request.path.startswith("/api/")

    def _refusal(self, request: web.Request, status: int, reason: str) -> web.Response:
        if self._is_api(request):
            return error_response(status, reason)
        headers = {**HEADERS, "WWW-Authenticate": "Bearer"} if status == 401 else HEADERS
        return web.Response(status=status, text=f"{reason}\n", headers=headers)

    def _with_cookie(self, request: web.Request) -> web.Response:
        """Redirects to the page without the token, which then is in no history and no copied address."""
        rest = urlencode([(key, value) for key, value in request.query.items() if key != "token"])
        response = web.Response(status=303, headers={**HEADERS, "Location": f"/?{rest}" if rest else "/"})
        if self._address.token:
            response.set_cookie(COOKIE, self._cookie, httponly=True, samesite="Strict", path="/")
        return response


def error_response(status: int, reason: str, allow: str = "") -> web.Response:
    """An error of the API, in one line."""
    headers = {**HEADERS, **({"Allow": allow} if allow else {})}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    text = json.dumps({"error": one_line(reason)})
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


MAX_CONNECTIONS = 320
"""More than all viewers together (routes.py)."""
MIN_CONNECTIONS = 8
REQUEST_S = 10.0
"""Time limit from the connection to the last byte of the response, which is small."""
_RESOURCE_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("hoiclip")


class ConnectionLimiter:
    """Protocol factory of a listening socket, with a maximum number of connections."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Creates a limiter for the connections of a protocol, which `make` creates."""
        self._make = make
        self._limit = max_connections()
        self._admitted: dict[LimitedConnection, None] = {}

    def __call__(self) -> LimitedConnection:
        return LimitedConnection(self, self._make())

    def admit(self, connection: LimitedConnection) -> bool:
        """Whether the connection is admitted; at the limit, the oldest unfinished request is closed for it."""
        if len(self._admitted) >= self._limit:
            oldest = next((admitted for admitted in self._admitted if not admitted.is_unlimited), None)
            if oldest is None:
                return False
            oldest.close_now()
        self._admitted[connection] = None
        return True

    def remove(self, connection: LimitedConnection) -> None:
        """Forgets a closed connection."""
        self._admitted.pop(connection, None)


class LimitedConnection(asyncio.Protocol):
    """Connection with a time limit; delegates everything to the inner protocol."""

    def __init__(self, limiter: ConnectionLimiter, inner: asyncio.Protocol) -> None:
        self._limiter, self._inner = limiter, inner
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._is_admitted = False
        self.is_unlimited = False
        """Whether it belongs to a viewer, to which other limits apply."""

    def lift_time_limit(self) -> None:
        """Removes the time limit."""
        self.is_unlimited = True
        if self._deadline is not None:
            self._deadline.cancel()

    def set_time_limit(self, limit_s: float) -> None:
        """Replaces the time limit by one that begins now."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = asyncio.get_running_loop().call_later(limit_s, self.close_now)

    def close_now(self) -> None:
        """Closes the connection at once."""
        self._limiter.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._is_admitted = self._limiter.admit(self)
        if not self._is_admitted:
            transport.abort()
            return
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_S, self.close_now)
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_admitted:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._limiter.remove(self)
        self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self._is_admitted:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._is_admitted else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


def lift_time_limit(transport: asyncio.BaseTransport | None) -> None:
    """Removes the time limit of requests from the connection of a viewer."""
    connection = transport.get_protocol() if isinstance(transport, asyncio.Transport) else None
    if isinstance(connection, LimitedConnection):
        connection.lift_time_limit()


def set_time_limit(transport: asyncio.BaseTransport | None, limit_s: float) -> None:
    """Replaces the time limit of the connection of a long response."""
    connection = transport.get_protocol() if isinstance(transport, asyncio.Transport) else None
    if isinstance(connection, LimitedConnection):
        connection.set_time_limit(limit_s)


def max_connections() -> int:
    """Maximum number of connections: at most half of the files that may still be opened, as the run needs some."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    try:
        opened = len(os.listdir("/proc/self/fd"))
    except OSError:  # not on Linux
        opened = limit // 2
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, (limit - opened) // 2))


class LoopErrorHandler:
    """Exception handler of the server's loop. The loop retries after a second; a lack of resources is reported once."""

    def __init__(self) -> None:
        self._reported = False
        self.is_closing = False
        """Set when the socket is closed; asyncio still retries to listen then, with a ValueError."""

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.is_closing and isinstance(error, ValueError):
            return
        if not isinstance(error, OSError):
            loop.default_exception_handler(context)
        elif error.errno in _RESOURCE_ERRNOS and not self._reported:
            self._reported = True
            _log.warning("the live page accepts no connections for now: %s", os.strerror(error.errno or 0))
