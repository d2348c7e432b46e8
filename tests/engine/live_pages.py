"""A running live page with made-up results, and clients for its tests."""

from __future__ import annotations

import dataclasses
import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.live.server import LiveServer
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult, RunHeader, Sink
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.frame_results import Row, frame_result, header, summary

TOKEN = "a-token-of-some-length"
SIZE_PX = (160, 120)
RIDES = Row(pair=1, human=1, object=2, human_box_xyxy=(10, 10, 60, 110), object_box_xyxy=(40, 60, 120, 110))
"""Rides, with 0.88, and no other verb."""


def run_header(policy: Any = "latest") -> RunHeader:
    return dataclasses.replace(header(size_px=SIZE_PX), policy=policy)


def result(index: int, *rows: Row, events: tuple[Event, ...] = (), **more: Any) -> FrameResult:
    rgb = np.full((SIZE_PX[1], SIZE_PX[0], 3), 40 + index % 100, np.uint8)
    return dataclasses.replace(frame_result(Frame(rgb, index / 25, index), *rows, events=events), **more)


@dataclass
class RunningPage:
    """A running server and the sinks of its sources."""

    server: LiveServer
    sinks: list[Sink]

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Response:
        """Sends a request and returns the whole response; redirects are not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            response = connection.getresponse()
            return Response(response.status, dict(response.getheaders()), response.read().decode())
        finally:
            connection.close()


@dataclass(frozen=True)
class Response:
    """HTTP response, read completely."""

    status: int
    headers: dict[str, str]
    text: str


@contextmanager
def live(
    sources: int = 1, token: str = "", policy: Any = "latest", *, port: int = 0, headers: Sequence[RunHeader] = ()
) -> Iterator[RunningPage]:
    """Args: headers: of the first sources; by default each begins a pass of its own."""
    server = LiveServer(LiveAddress(port=port, token=token))
    sinks = [server.sink_for(f"camera-{number}") for number in range(sources)]
    for number, sink in enumerate(sinks):
        sink.start(headers[number] if number < len(headers) else run_header(policy))
    running = RunningPage(server, list(sinks))
    try:
        yield running
    finally:
        for sink in running.sinks:
            sink.finish(summary())


async def receive_messages(host: str, count: int, headers: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Receives the first messages of the events socket."""
    async with aiohttp.ClientSession() as client, client.ws_connect(f"http://{host}/events", headers=headers) as socket:
        return [json.loads((await socket.receive(timeout=10)).data) for _ in range(count)]


async def receive_images(
    host: str, query: str, count: int, between: Callable[[int], None] = lambda seen: None
) -> list[bytes]:
    """Receives JPEGs of the stream; `between` is called after each."""
    found: list[bytes] = []
    async with aiohttp.ClientSession() as client, client.get(f"http://{host}/stream.mjpg?{query}") as response:
        assert response.status == 200, await response.text()
        reader = aiohttp.MultipartReader.from_response(response)
        while len(found) < count and (part := await reader.next()) is not None:
            assert isinstance(part, aiohttp.BodyPartReader)
            found.append(bytes(await part.read()))
            between(len(found))
    return found
