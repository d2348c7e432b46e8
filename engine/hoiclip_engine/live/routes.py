"""HTTP handlers of the live page.

    /              the page                       /stream.mjpg?source=0&min_score=0.5&min_verb=0.3&verbs=ride,hold
    /events        WebSocket, JSON                /metrics   Prometheus
    /health        200 or 503                     /health/live, /health/ready   for a supervisor
    /api/...       sources, rules and events of a run that can be changed (api.py)

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

from hoiclip_engine.live.access import HEADERS, AccessControl, lift_time_limit
from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.live.api import MAX_BODY_BYTES, Api, source_list
from hoiclip_engine.live.channel import Channel, ViewSettings, WakeupEvent
from hoiclip_engine.live.control import LiveControl
from hoiclip_engine.live.metrics import CONTENT_TYPE, Metrics

MAX_VIEWERS = 128
"""Limit for each kind of viewers, images and events."""
MESSAGES_PER_S = 10.0
MAX_MESSAGE_BYTES = 1024
"""Limit for messages of a viewer; the page sends none."""
SLOW_VIEWER_S = 15.0
"""A viewer that receives nothing for so long is disconnected."""
STALLED_AFTER_S = 10.0
ENDED_VISIBLE_S = 30.0
_BOUNDARY = "frame"
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/api_client.js": ("api_client.js", "text/javascript"),
    "/source_list.js": ("source_list.js", "text/javascript"),
    "/zone_editor.js": ("zone_editor.js", "text/javascript"),
    "/polygon.js": ("polygon.js", "text/javascript"),
    "/event_list.js": ("event_list.js", "text/javascript"),
    "/source_view.js": ("source_view.js", "text/javascript"),
    "/timeline.js": ("timeline.js", "text/javascript"),
    "/verb_box.js": ("verb_box.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}


class Routes:
    """Handlers for the channels of one server; the list may grow while it runs."""

    def __init__(
        self, channels: Sequence[Channel], metrics: Metrics, wakeup: WakeupEvent, control: LiveControl | None = None
    ) -> None:
        """Args: control: changes to the run; None: the page only shows it."""
        self._channels, self._metrics, self._wakeup, self._control = channels, metrics, wakeup, control
        self._api: Api | None = None
        self._viewers = {"pictures": 0, "events": 0}
        folder = resources.files("hoiclip_engine.live")
        self._files = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}

    def application(self, address: LiveAddress) -> web.Application:
        access = AccessControl(address, self._control.token if self._control else "")
        max_bytes = MAX_BODY_BYTES if self._control else MAX_MESSAGE_BYTES
        application = web.Application(middlewares=[access.middleware], client_max_size=max_bytes)
        application.on_response_prepare.append(_only_one_request)
        for path in self._files:
            application.router.add_get(path, self._file)
        application.router.add_get("/stream.mjpg", self._stream)
        application.router.add_get("/events", self._events)
        application.router.add_get("/metrics", self._prometheus)
        application.router.add_get("/health", self._health)
        if self._control is not None:
            self._api = Api(self._control, token_for_reads=bool(address.token))
            self._api.add_to(application)
        application.router.add_get("/health/live", self._is_alive)
        application.router.add_get("/health/ready", self._is_ready)
        return application

    def close(self) -> None:
        """Ends the threads of the API."""
        if self._api is not None:
            self._api.close()

    async def _file(self, request: web.Request) -> web.Response:
        body, content_type = self._files[request.path]
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=HEADERS)

    async def _prometheus(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={**HEADERS, "Content-Type": CONTENT_TYPE})

    async def _health(self, _request: web.Request) -> web.Response:
        """Reports whether frames arrive or a lost source is being reconnected; otherwise it is stalled."""
        states = {_health_of(channel) for channel in list(self._channels) if channel.is_started and not channel.ended}
        worst = next((state for state in ("stalled", "reconnecting") if state in states), "ok")
        return web.json_response({"status": worst}, status=503 if worst == "stalled" else 200, headers=HEADERS)

    async def _is_alive(self, _request: web.Request) -> web.Response:
        """Liveness: a server that hangs does not answer."""
        return web.json_response({"status": "ok"}, headers=HEADERS)

    async def _is_ready(self, _request: web.Request) -> web.Response:
        """Readiness: sources run, which a model was loaded for, and each delivers frames or is known as lost."""
        running = [channel for channel in self._channels if channel.is_started and not channel.ended]
        ready = bool(running) and all(
            channel.lost_reason is not None or (channel.decoded and _health_of(channel) == "ok") for channel in running
        )
        status = "ok" if ready else "not ready"
        return web.json_response({"status": status}, status=200 if ready else 503, headers=HEADERS)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        channel = self._channel(request.query.get("source", "0"))
        try:
            view = ViewSettings.from_query(request.query, channel.header.vocabulary)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        with self._viewer("pictures", request):
            kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": kind})
            response.force_close()
            await response.prepare(request)
            # Chromium shows an image once it receives the head of the next, so each image ends with the boundary.
            await response.write(f"--{_BOUNDARY}\r\n".encode())
            async for jpeg in channel.images(view, self._wakeup):
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                chunk = head + jpeg + f"\r\n--{_BOUNDARY}\r\n".encode()
                try:
                    await asyncio.wait_for(response.write(chunk), SLOW_VIEWER_S)
                except (asyncio.TimeoutError, ConnectionError):
                    return response
            await response.write(f"\r\n\r\n--{_BOUNDARY}--\r\n".encode())
        return response

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=MAX_MESSAGE_BYTES, compress=False)
        with self._viewer("events", request):
            await socket.prepare(request)
            sending = asyncio.ensure_future(self._send_updates(socket))
            try:
                async for message in socket:  # also answers pings and sees the viewer leave
                    if message.type == WSMsgType.ERROR:
                        break
            finally:
                sending.cancel()
        return socket

    async def _send_updates(self, socket: web.WebSocketResponse) -> None:
        """Sends the description of sources, then every change; states between two messages are skipped."""
        known: list[Channel] | None = None if self._control else []
        control_text = ""
        sequences: dict[Channel, int] = {}
        event_numbers: dict[Channel, int] = {}
        try:
            while True:
                change = self._wakeup.next()
                visible = self._visible_channels()
                if visible != known:
                    known = visible
                    sources = [{"source": channel.number, **channel.description()} for channel in known]
                    await self._send(socket, json.dumps({"type": "hello", "sources": sources}, separators=(",", ":")))
                if self._control is not None and (text := _control_message(self._control)) != control_text:
                    control_text = text
                    await self._send(socket, text)
                for numbers in (sequences, event_numbers):  # of sources that are gone, nothing is kept
                    for channel in numbers.keys() - set(known):
                        del numbers[channel]
                for channel in known:
                    if channel.sequence == sequences.get(channel):
                        continue
                    sequences[channel] = channel.sequence
                    event_numbers[channel], events = channel.events_after(event_numbers.get(channel, 0))
                    events_json = json.dumps(events, allow_nan=False, separators=(",", ":"))
                    text = (
                        f'{{"type":"now","source":{channel.number},"events":{events_json},"now":{channel.message()}}}'
                    )
                    await self._send(socket, text)
                if self._control is None and known and all(channel.ended for channel in self._channels):
                    # An end that came meanwhile is a change that has not been sent yet.
                    if any(channel.sequence != sequences[channel] for channel in known):
                        continue
                    await socket.close()
                    return
                await asyncio.sleep(1 / MESSAGES_PER_S)
                await change.wait()
        except (asyncio.TimeoutError, ConnectionError):
            await socket.close()

    def _visible_channels(self) -> list[Channel]:
        """Sources to show: the running ones, those that have just ended, or else the one that was active last."""
        started = [channel for channel in list(self._channels) if channel.is_started]
        now_s = time.monotonic()
        visible = [
            channel for channel in started if not channel.ended or now_s - channel.last_activity_s < ENDED_VISIBLE_S
        ]
        return visible or sorted(started, key=lambda channel: channel.last_activity_s)[-1:]

    async def _send(self, socket: web.WebSocketResponse, text: str) -> None:
        await asyncio.wait_for(socket.send_str(text), SLOW_VIEWER_S)

    def _channel(self, number: str) -> Channel:
        channels = {str(channel.number): channel for channel in list(self._channels)}
        channel = channels.get(number)
        if channel is None:
            counted = ", counted from 0" if self._control is None else ""
            raise web.HTTPNotFound(text=f"there are {len(channels)} sources{counted}\n")
        if not channel.is_started:
            raise web.HTTPServiceUnavailable(text="the source has not begun yet\n")
        return channel

    @contextmanager
    def _viewer(self, kind: str, request: web.Request) -> Iterator[None]:
        if self._viewers[kind] >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_VIEWERS} viewers are connected already; try again later\n")
        lift_time_limit(request.transport)
        self._viewers[kind] += 1
        self._metrics.viewers.labels(kind).set(self._viewers[kind])
        try:
            with self._wakeup.listening():
                yield
        finally:
            self._viewers[kind] -= 1
            self._metrics.viewers.labels(kind).set(self._viewers[kind])


async def _only_one_request(_request: web.Request, response: web.StreamResponse) -> None:
    """Closes the connection after the response, as its time is limited (connections.py)."""
    response.force_close()


def _control_message(control: LiveControl) -> str:
    """States of all sources, and the version of the list of events, for the page."""
    message = {"type": "control", "sources": source_list(control), "events": control.events.version}
    return json.dumps(message, separators=(",", ":"))


def _health_of(channel: Channel) -> str:
    if channel.lost_reason is not None:
        return "reconnecting"
    return "stalled" if time.monotonic() - channel.last_activity_s > STALLED_AFTER_S else "ok"
