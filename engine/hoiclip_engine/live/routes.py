"""What the live page answers.

    /              the page                       /stream.mjpg?source=0&min_score=0.5&min_verb=0.3&verbs=ride,hold
    /events        WebSocket, JSON                /metrics   Prometheus          /health   200 or 503

Every viewer waits for the newest frame in a coroutine of its own; one that does not keep up skips frames.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources

from aiohttp import WSMsgType, web

from hoiclip_engine.live.bell import Bell
from hoiclip_engine.live.channel import Channel
from hoiclip_engine.live.door import stay
from hoiclip_engine.live.guard import HEADERS, Guard
from hoiclip_engine.live.metrics import CONTENT_TYPE, Metrics
from hoiclip_engine.live.shown import Shown

MAX_VIEWERS = 128
"""Of each kind, pictures and events."""
MESSAGES_PER_S = 10.0
MAX_MESSAGE_BYTES = 1024
"""That a viewer may send; the page sends none."""
SLOW_VIEWER_S = 15.0
"""A viewer that takes nothing for so long is sent away."""
STALLED_AFTER_S = 10.0
ENDED_SHOWN_S = 30.0
_BOUNDARY = "frame"
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/source_view.js": ("source_view.js", "text/javascript"),
    "/timeline.js": ("timeline.js", "text/javascript"),
    "/verb_box.js": ("verb_box.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}


class Routes:
    """Handlers for the channels of one server; the list may grow while it runs."""

    def __init__(self, channels: Sequence[Channel], metrics: Metrics, bell: Bell) -> None:
        self._channels, self._metrics, self._bell = channels, metrics, bell
        self._viewers = {"pictures": 0, "events": 0}
        folder = resources.files("hoiclip_engine.live")
        self._files = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}

    def application(self, guard: Guard) -> web.Application:
        application = web.Application(middlewares=[guard.middleware], client_max_size=MAX_MESSAGE_BYTES)
        application.on_response_prepare.append(_only_one_request)
        for path in self._files:
            application.router.add_get(path, self._file)
        application.router.add_get("/stream.mjpg", self._stream)
        application.router.add_get("/events", self._events)
        application.router.add_get("/metrics", self._prometheus)
        application.router.add_get("/health", self._health)
        return application

    async def _file(self, request: web.Request) -> web.Response:
        body, content_type = self._files[request.path]
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=HEADERS)

    async def _prometheus(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={**HEADERS, "Content-Type": CONTENT_TYPE})

    async def _health(self, _request: web.Request) -> web.Response:
        """Frames come, or a lost source is being looked for; anything else is a stall."""
        states = {_state(channel) for channel in self._channels if channel.is_started and not channel.ended}
        worst = next((state for state in ("stalled", "reconnecting") if state in states), "ok")
        return web.json_response({"status": worst}, status=503 if worst == "stalled" else 200, headers=HEADERS)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        channel = self._channel(request.query.get("source", "0"))
        try:
            shown = Shown.from_query(request.query, channel.header.vocabulary)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        with self._viewer("pictures", request):
            kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": kind})
            response.force_close()
            await response.prepare(request)
            # Chromium shows a part once it sees the head of the next, so each part ends with the boundary.
            await response.write(f"--{_BOUNDARY}\r\n".encode())
            async for jpeg in channel.pictures(shown, self._bell):
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                part = head + jpeg + f"\r\n--{_BOUNDARY}\r\n".encode()
                try:
                    await asyncio.wait_for(response.write(part), SLOW_VIEWER_S)
                except (asyncio.TimeoutError, ConnectionError):
                    return response
            await response.write(f"\r\n\r\n--{_BOUNDARY}--\r\n".encode())
        return response

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=MAX_MESSAGE_BYTES, compress=False)
        with self._viewer("events", request):
            await socket.prepare(request)
            telling = asyncio.ensure_future(self._tell(socket))
            try:
                async for message in socket:  # also answers pings and sees the viewer leave
                    if message.type == WSMsgType.ERROR:
                        break
            finally:
                telling.cancel()
        return socket

    async def _tell(self, socket: web.WebSocketResponse) -> None:
        """Greets, then tells whatever is new; states that come and go between two messages are skipped."""
        known: list[Channel] = []
        sequences: dict[Channel, int] = {}
        event_numbers: dict[Channel, int] = {}
        try:
            while True:
                change = self._bell.next()
                current = self._current()
                if current != known:
                    known = current
                    hello = [{"source": self._channels.index(channel), **channel.hello()} for channel in known]
                    await self._send(socket, json.dumps({"type": "hello", "sources": hello}, separators=(",", ":")))
                for channel in known:
                    if channel.sequence == sequences.get(channel):
                        continue
                    sequences[channel] = channel.sequence
                    event_numbers[channel], events = channel.events_after(event_numbers.get(channel, 0))
                    told = json.dumps(events, allow_nan=False, separators=(",", ":"))
                    number = self._channels.index(channel)
                    text = f'{{"type":"now","source":{number},"events":{told},"now":{channel.message()}}}'
                    await self._send(socket, text)
                if known and all(channel.ended for channel in self._channels):
                    await socket.close()
                    return
                await asyncio.sleep(1 / MESSAGES_PER_S)
                await change.wait()
        except (asyncio.TimeoutError, ConnectionError):
            await socket.close()

    def _current(self) -> list[Channel]:
        """Sources to show: those that go on, those that have just ended, and the last of all."""
        started = [channel for channel in self._channels if channel.is_started]
        now_s = time.monotonic()
        current = [one for one in started if not one.ended or now_s - one.last_sign_s < ENDED_SHOWN_S]
        return current or sorted(started, key=lambda one: one.last_sign_s)[-1:]

    async def _send(self, socket: web.WebSocketResponse, text: str) -> None:
        await asyncio.wait_for(socket.send_str(text), SLOW_VIEWER_S)

    def _channel(self, number: str) -> Channel:
        if not number.isdecimal() or len(number) > 4 or int(number) >= len(self._channels):
            raise web.HTTPNotFound(text=f"there are {len(self._channels)} sources, counted from 0\n")
        channel = self._channels[int(number)]
        if not channel.is_started:
            raise web.HTTPServiceUnavailable(text="the source has not begun yet\n")
        return channel

    @contextmanager
    def _viewer(self, kind: str, request: web.Request) -> Iterator[None]:
        if self._viewers[kind] >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_VIEWERS} viewers watch already; try again later\n")
        stay(request.transport)
        self._viewers[kind] += 1
        self._metrics.viewers.labels(kind).set(self._viewers[kind])
        try:
            with self._bell.listening():
                yield
        finally:
            self._viewers[kind] -= 1
            self._metrics.viewers.labels(kind).set(self._viewers[kind])


async def _only_one_request(_request: web.Request, response: web.StreamResponse) -> None:
    """Of a connection, whose time is limited (door.py)."""
    response.force_close()


def _state(channel: Channel) -> str:
    if channel.lost_reason is not None:
        return "reconnecting"
    return "stalled" if time.monotonic() - channel.last_sign_s > STALLED_AFTER_S else "ok"
