"""Access to the live page: tokens, host names, other sites; and no token in any response."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from hoiclip.core.errors import UsageError
from hoiclip_engine.live import routes
from hoiclip_engine.live.address import TOKEN_VARIABLE, LiveAddress
from tests.engine.live_pages import TOKEN, RunningPage, live, receive_messages, result

PROTECTED_PATHS = ("/", "/page.js", "/metrics", "/stream.mjpg", "/events")


@pytest.fixture
def page() -> Iterator[RunningPage]:
    with live() as running:
        running.sinks[0].write(result(0))
        yield running


@pytest.fixture
def protected_page() -> Iterator[RunningPage]:
    with live(token=TOKEN) as running:
        running.sinks[0].write(result(0))
        yield running


# Addresses.


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("localhost:80", "localhost", 80),
        (":9000", "127.0.0.1", 9000),
        ("9000", "127.0.0.1", 9000),
        ("[::1]:9000", "::1", 9000),
        ("localhost", "localhost", 8080),
    ],
)
def test_live_address_defaults_to_loopback(text: str, host: str, port: int) -> None:
    address = LiveAddress.parse(text)
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize("text", ["0.0.0.0:80", "192.168.1.5:80", "[::]:80", "camera.example:80"])
def test_live_address_beyond_loopback_needs_a_token(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="needs a token"):
        LiveAddress.parse(text)
    assert LiveAddress.parse(text, TOKEN).token == TOKEN
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert LiveAddress.parse(text).token == TOKEN


@pytest.mark.parametrize(
    "token", ["short", "with a space in it, long", "umlaut-ä-umlaut-ä-umlaut", "line\nline\nline\nline"]
)
def test_weak_token_is_refused_and_not_printed(token: str) -> None:
    with pytest.raises(UsageError, match="16 letters and digits or more") as caught:
        LiveAddress.parse("127.0.0.1:80", token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("text", ["", "host:port", "127.0.0.1:80:80", "127.0.0.1:99999", "http://x:80", "a b:1", "::1"])
def test_malformed_live_address_is_a_usage_error(text: str) -> None:
    if text:
        with pytest.raises(UsageError):
            LiveAddress.parse(text, TOKEN)


def test_live_address_repr_hides_the_token() -> None:
    address = LiveAddress.parse("127.0.0.1:80", TOKEN)
    assert TOKEN not in repr(address)
    assert TOKEN not in address.url(80)


# Tokens.


@pytest.mark.parametrize("path", PROTECTED_PATHS)
def test_requests_without_token_are_refused(protected_page: RunningPage, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"hoiclip_live={TOKEN}"},
    ):
        answer = protected_page.get(path, headers)
        assert answer.status == 401
        assert TOKEN not in answer.text + str(answer.headers)
    assert protected_page.get(f"{path}?token={TOKEN[:-1]}").status == 401


def test_health_is_the_only_answer_without_token(protected_page: RunningPage) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert protected_page.get(path).text == '{"status": "ok"}'
    assert protected_page.get("/health/other").status == 401


def test_bearer_token_grants_access(protected_page: RunningPage) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert protected_page.get("/metrics", bearer).status == 200
    hello, _ = asyncio.run(receive_messages(protected_page.host, 2, bearer))
    assert hello["type"] == "hello"


def test_token_link_becomes_a_cookie(protected_page: RunningPage) -> None:
    answer = protected_page.get(f"/?token={TOKEN}&x=1")
    assert (answer.status, answer.headers["Location"]) == (303, "/?x=1")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    page = protected_page.get("/", {"Cookie": cookie.partition(";")[0]})
    assert page.status == 200
    assert TOKEN not in page.text


def test_query_token_opens_a_stream_without_cookies(protected_page: RunningPage) -> None:
    async def first() -> int:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://{protected_page.host}/stream.mjpg?token={TOKEN}") as answer,
        ):
            return answer.status

    assert asyncio.run(first()) == 200


# Host names and other sites.


@pytest.mark.parametrize("path", [*PROTECTED_PATHS, "/health", "/health/live", "/health/ready"])
def test_foreign_host_name_is_refused(page: RunningPage, path: str) -> None:
    """DNS rebinding: a page of evil.example whose name resolves to 127.0.0.1."""
    host = f"evil.example:{page.port}"
    assert page.get(path, {"Host": host, "Origin": f"http://{host}"}).status == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_loopback_host_names_are_accepted(page: RunningPage, name: str) -> None:
    assert page.get("/", {"Host": f"{name}:{page.port}"}).status == 200


def test_websocket_from_another_site_is_refused(page: RunningPage, protected_page: RunningPage) -> None:
    for live_page, headers in ((page, {}), (protected_page, {"Authorization": f"Bearer {TOKEN}"})):
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{live_page.port + 1}", "http://[bad"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                asyncio.run(receive_messages(live_page.host, 1, {**headers, "Origin": origin}))
            assert caught.value.status == 403
    assert asyncio.run(receive_messages(page.host, 1, {"Origin": f"http://{page.host}"}))


def test_page_may_be_linked_but_not_embedded(page: RunningPage) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert page.get("/", link).status == 200
    assert page.get("/stream.mjpg", link).status == 403
    assert page.get("/stream.mjpg", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status == 403


@pytest.mark.parametrize("path", ["/", "/page.js", "/metrics", "/health", "/none", "/stream.mjpg?source=9"])
def test_responses_have_security_headers(page: RunningPage, path: str) -> None:
    headers = page.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


# Limits.


def test_viewers_are_limited_in_number(page: RunningPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_VIEWERS", 2)

    async def three() -> list[int]:
        async with aiohttp.ClientSession() as client:
            responses = [await client.get(f"http://{page.host}/stream.mjpg") for _ in range(3)]
            codes = [answer.status for answer in responses]
            for answer in responses:
                answer.close()
            return codes

    assert asyncio.run(three()) == [200, 200, 503]


def test_websocket_closes_after_a_long_message(page: RunningPage) -> None:
    async def chatter() -> aiohttp.WSMsgType:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"http://{page.host}/events") as socket:
            await socket.send_str("x" * 10_000)
            while True:
                message = await socket.receive(timeout=10)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return message.type

    assert asyncio.run(chatter()) in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


def test_long_query_is_refused(page: RunningPage) -> None:
    assert page.get("/stream.mjpg?verbs=" + "x" * 3000).status == 400
