"""Who may see the live page: checks every request before a handler does, and adds the headers that keep browsers safe.

Without a token the page is for this machine only, so a request must name it by a loopback name: a foreign name that
resolves to 127.0.0.1 (DNS rebinding) is refused. With a token any name will do. Requests that another site's page makes
are refused either way.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from hoiclip_engine.live.address import LiveAddress, is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
COOKIE = "hoiclip_live"
OPEN_PATHS = ("/health",)
"""Told to everybody: whether it runs, and nothing else."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    def __init__(self, address: LiveAddress) -> None:
        self._address = address
        # Not the token itself: a cookie that leaks opens this run only.
        self._cookie = secrets.token_urlsafe(32)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """One answer for each kind of stranger; none of them says what was wrong with a token."""
        if not self._is_from_here(request):
            return web.Response(status=403, text="requests from other sites are refused\n", headers=HEADERS)
        if request.path not in OPEN_PATHS and not self._is_known(request):
            headers = {**HEADERS, "WWW-Authenticate": "Bearer"}
            return web.Response(status=401, text="a token is needed: /?token=...\n", headers=headers)
        if request.path == "/" and "token" in request.query:
            return self._with_cookie(request)
        try:
            return await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise

    def _is_from_here(self, request: web.Request) -> bool:
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

    def _is_known(self, request: web.Request) -> bool:
        if not self._address.token:
            return True
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._address.opened_by(bearer.strip()):
            return True
        if self._address.opened_by(request.query.get("token", "")):
            return True
        return secrets.compare_digest(request.cookies.get(COOKIE, "").encode(), self._cookie.encode())

    def _with_cookie(self, request: web.Request) -> web.Response:
        """The token leaves the address bar, and with it the history and what people copy from there."""
        rest = urlencode([(key, value) for key, value in request.query.items() if key != "token"])
        response = web.Response(status=303, headers={**HEADERS, "Location": f"/?{rest}" if rest else "/"})
        if self._address.token:
            response.set_cookie(COOKIE, self._cookie, httponly=True, samesite="Strict", path="/")
        return response
