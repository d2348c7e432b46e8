"""A supervised run with made-up cameras: addresses say how a camera behaves; and its live page, with a client."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hoiclip.core.errors import SourceError
from hoiclip_engine.events.event_store import EventStore
from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.live.control import LiveControl
from hoiclip_engine.live.recent_events import RecentEvents, StoredEvents
from hoiclip_engine.live.server import LiveServer
from hoiclip_engine.live.state_folder import StateFolder
from hoiclip_engine.sources.uri import SourceAddress
from hoiclip_engine.streaming.stream import Stream
from hoiclip_engine.streaming.supervisor import Supervisor, SupervisorConfig
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import Sink
from tests.engine.fake_source import FakeSource
from tests.engine.frame_results import VOCABULARY
from tests.engine.test_stream import stream_of

TOKEN = "a-token-of-some-length"
QUICK = SupervisorConfig(
    wedged_after_s=0.6, stalled_after_s=2.0, first_retry_s=0.2, max_retry_s=1.0, stop_s=0.4, finish_s=2.0
)
PERIOD_S = 0.02
SIZE_PX = (160, 120)
FOREVER = 10**9


class HangingSource(FakeSource):
    """Delivers some frames, then hangs until it is stopped, or for good."""

    def __init__(self, frames: int, *, ends_when_stopped: bool) -> None:
        super().__init__(frames, period_s=PERIOD_S, size_px=lambda index: SIZE_PX)
        self._ends_when_stopped = ends_when_stopped
        self.released = threading.Event()

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        yield from super().__iter__()
        self.released.wait()

    def stop(self) -> None:
        super().stop()
        if self._ends_when_stopped:
            self.released.set()


class FakeCameras:
    """Opens sources; the path of an address says how they behave: live, off, short, silent, stuck, lost."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.sources: list[FakeSource] = []

    def open(self, address: SourceAddress, source_id: int, name: str) -> Stream:
        self.opened.append(address.location)
        source = self._source(address.location.rsplit("/", 1)[-1])
        self.sources.append(source)
        stream, _ = stream_of(source)
        stream.header = replace(stream.header, source=name, width_px=SIZE_PX[0], height_px=SIZE_PX[1])
        return stream

    def release(self) -> None:
        """Ends the threads that hang."""
        for source in self.sources:
            if isinstance(source, HangingSource):
                source.released.set()

    def _source(self, kind: str) -> FakeSource:
        size = {"size_px": lambda index: SIZE_PX}
        match kind:
            case "off" | "nowhere.mp4":
                raise SourceError("expected video, found none: connection refused; check the camera")
            case "short":
                return FakeSource(5, period_s=PERIOD_S, **size)
            case "silent":
                return HangingSource(3, ends_when_stopped=True)
            case "stuck":
                return HangingSource(3, ends_when_stopped=False)
            case "lost":
                event = SourceEvent(event="source_lost", pts_s=0.1, reason="no route")
                source = HangingSource(4, ends_when_stopped=True)
                source._events = {3: event}
                return source
            case _:
                return FakeSource(FOREVER, period_s=PERIOD_S, **size)


class NoOutputs:
    """Counts what a supervisor asks of outputs."""

    def __init__(self) -> None:
        self.released = 0
        self.forgotten: list[str] = []

    def sinks_for(self, source_id: int, name: str, stream: Stream) -> list[Sink]:
        return []

    def release(self, sinks: Sequence[Sink]) -> None:
        self.released += 1

    def forget(self, source_id: int, name: str) -> None:
        self.forgotten.append(name)


class PageOutputs:
    """The live page and the list of events, as a run with --state has them."""

    def __init__(self, server: LiveServer, events: RecentEvents) -> None:
        self._server, self._events = server, events

    def sinks_for(self, source_id: int, name: str, stream: Stream) -> list[Sink]:
        return [self._events.sink(source_id, name), self._server.sink_for(name, source_id)]

    def release(self, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            self._server.remove(sink)

    def forget(self, source_id: int, name: str) -> None:
        self._server.metrics.forget(name)


@dataclass(frozen=True)
class Answer:
    """HTTP response, read completely."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert list(self.json) == ["error"], self.json
        text: str = self.json["error"]
        assert text
        assert "\n" not in text
        return text


@dataclass
class SupervisedPage:
    """A running server with what controls it."""

    server: LiveServer
    control: LiveControl
    events: RecentEvents
    cameras: FakeCameras

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, *, token: str = TOKEN
    ) -> Answer:
        """Sends a request with the token; a body that is no bytes is sent as JSON."""
        own = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        if data is not None:
            own["Content-Type"] = "application/json"
        return ask(self.server.port, method, path, data, {**own, **(headers or {})})

    def add(self, address: str, **more: str) -> int:
        answer = self.request("POST", "/api/sources", {"address": address, **more})
        assert answer.status == 201, answer.body
        return int(answer.json["id"])

    def state_of(self, source_id: int) -> str:
        return str(self.control.source(source_id).state)


def ask(port: int, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=data, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


@contextmanager
def supervised(
    folder: Path, *, read_token: str = "", allowed: Sequence[Path] = (), database: str | Path = ""
) -> Iterator[SupervisedPage]:
    """A live run without sources; its evidence lies in the folder `evidence`.

    Args:
        database: a record that events are listed from, if given.
    """
    cameras, events = FakeCameras(), RecentEvents()
    server = LiveServer(LiveAddress(port=0, token=read_token))
    supervisor = Supervisor(cameras.open, PageOutputs(server, events), QUICK)
    stored = StoredEvents(events, EventStore(database), supervisor.sources) if database else events
    supervisor.on_change = events.on_change = stored.on_change = server.notify
    control = LiveControl(
        supervisor=supervisor,
        state=StateFolder(folder / "state"),
        vocabulary=VOCABULARY,
        events=stored,
        token=TOKEN,
        allowed_folders=allowed,
        evidence_folder=folder / "evidence",
    )
    server.control = control
    server.metrics.supervise(supervisor.sources)
    try:
        with closing(server), closing(control):
            control.restore([])
            server.start()
            yield SupervisedPage(server, control, events, cameras)
    finally:
        cameras.release()


def wait_until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "never"
        time.sleep(0.01)
