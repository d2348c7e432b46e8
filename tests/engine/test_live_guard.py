"""Who may see the live page: tokens, names, other sites; and that no token ever comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from hoiclip.errors import UsageError
from hoiclip_engine.live import routes
from hoiclip_engine.live.address import TOKEN_VARIABLE, LiveAddress
from tests.engine.watching import TOKEN, Live, live, result, told

CLOSED = ("/", "/page.js", "/metrics", "/stream.mjpg", "/events")


@pytest.fixture
def page() -> Iterator[Live]:
    with live() as running:
        running.sinks[0].write(result(0))
        yield running


@pytest.fixture
def closed() -> Iterator[Live]:
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
def test_addresses_are_of_this_machine_unless_told_otherwise(text: str, host: str, port: int) -> None:
    address = LiveAddress.parse(text)
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize("text", ["0.0.0.0:80", "192.168.1.5:80", "[::]:80", "camera.example:80"])
def test_any_other_address_needs_a_token(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="needs a token"):
        LiveAddress.parse(text)
    assert LiveAddress.parse(text, TOKEN).token == TOKEN
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert LiveAddress.parse(text).token == TOKEN


@pytest.mark.parametrize(
    "token", ["short", "with a space in it, long", "umlaut-ä-umlaut-ä-umlaut", "line\nline\nline\nline"]
)
def test_weak_tokens_are_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(UsageError, match="16 letters and digits or more") as caught:
        LiveAddress.parse("127.0.0.1:80", token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("text", ["", "host:port", "127.0.0.1:80:80", "127.0.0.1:99999", "http://x:80", "a b:1", "::1"])
def test_nonsense_is_a_usage_error(text: str) -> None:
    if text:
        with pytest.raises(UsageError):
            LiveAddress.parse(text, TOKEN)


def test_an_address_does_not_show_its_token() -> None:
    address = LiveAddress.parse("127.0.0.1:80", TOKEN)
    assert TOKEN not in repr(address)
    assert TOKEN not in address.url(80)


# Tokens.


@pytest.mark.parametrize("path", CLOSED)
def test_without_the_token_there_is_nothing_to_see(closed: Live, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"hoiclip_live={TOKEN}"},
    ):
        answer = closed.get(path, headers)
        assert answer.status == 401
        assert TOKEN not in answer.text + str(answer.headers)
    assert closed.get(f"{path}?token={TOKEN[:-1]}").status == 401


def test_health_is_told_to_everybody_and_is_all_they_are_told(closed: Live) -> None:
    assert closed.get("/health").text == '{"status": "ok"}'


def test_a_bearer_sees_everything(closed: Live) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert closed.get("/metrics", bearer).status == 200
    hello, _ = asyncio.run(told(closed.host, 2, bearer))
    assert hello["type"] == "hello"


def test_a_link_with_the_token_becomes_a_cookie(closed: Live) -> None:
    answer = closed.get(f"/?token={TOKEN}&x=1")
    assert (answer.status, answer.headers["Location"]) == (303, "/?x=1")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    page = closed.get("/", {"Cookie": cookie.partition(";")[0]})
    assert page.status == 200
    assert TOKEN not in page.text


def test_a_token_in_a_query_opens_a_stream_for_programs_without_cookies(closed: Live) -> None:
    async def first() -> int:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://{closed.host}/stream.mjpg?token={TOKEN}") as answer,
        ):
            return answer.status

    assert asyncio.run(first()) == 200


# Names and other sites.


@pytest.mark.parametrize("path", [*CLOSED, "/health"])
def test_a_foreign_name_for_this_machine_is_refused(page: Live, path: str) -> None:
    """DNS rebinding: a page of evil.example whose name now leads to 127.0.0.1."""
    host = f"evil.example:{page.port}"
    assert page.get(path, {"Host": host, "Origin": f"http://{host}"}).status == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_loopback_names_are_known(page: Live, name: str) -> None:
    assert page.get("/", {"Host": f"{name}:{page.port}"}).status == 200


def test_a_socket_from_another_site_is_refused(page: Live, closed: Live) -> None:
    for live_page, headers in ((page, {}), (closed, {"Authorization": f"Bearer {TOKEN}"})):
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{live_page.port + 1}", "http://[bad"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                asyncio.run(told(live_page.host, 1, {**headers, "Origin": origin}))
            assert caught.value.status == 403
    assert asyncio.run(told(page.host, 1, {"Origin": f"http://{page.host}"}))


def test_another_site_may_link_to_the_page_and_embed_nothing(page: Live) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert page.get("/", link).status == 200
    assert page.get("/stream.mjpg", link).status == 403
    assert page.get("/stream.mjpg", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status == 403


@pytest.mark.parametrize("path", ["/", "/page.js", "/metrics", "/health", "/none", "/stream.mjpg?source=9"])
def test_every_answer_keeps_browsers_safe(page: Live, path: str) -> None:
    headers = page.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


# Limits.


def test_viewers_are_limited(page: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_VIEWERS", 2)

    async def three() -> list[int]:
        async with aiohttp.ClientSession() as client:
            answers = [await client.get(f"http://{page.host}/stream.mjpg") for _ in range(3)]
            codes = [answer.status for answer in answers]
            for answer in answers:
                answer.close()
            return codes

    assert asyncio.run(three()) == [200, 200, 503]


def test_a_long_message_ends_the_socket(page: Live) -> None:
    async def chatter() -> aiohttp.WSMsgType:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"http://{page.host}/events") as socket:
            await socket.send_str("x" * 10_000)
            while True:
                message = await socket.receive(timeout=10)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return message.type

    assert asyncio.run(chatter()) in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


def test_a_long_query_is_refused(page: Live) -> None:
    assert page.get("/stream.mjpg?verbs=" + "x" * 3000).status == 400
