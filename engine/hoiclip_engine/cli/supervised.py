"""hoiclip run --state: a live run whose sources and rules are changed on its page, until a signal ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.core.errors import BackendMissing, UsageError
from hoiclip_engine.cli.console import messages
from hoiclip_engine.cli.signals import stopping_on_signals

if TYPE_CHECKING:
    from hoiclip_engine.cli.outputs import Outputs
    from hoiclip_engine.cli.run_sources import RunConfig
    from hoiclip_engine.engine import Engine
    from hoiclip_engine.live.control import LiveControl
    from hoiclip_engine.live.recent_events import EventList, RecentEvents
    from hoiclip_engine.live.server import LiveServer
    from hoiclip_engine.sources.packet_ring import PacketRing
    from hoiclip_engine.sources.uri import SourceAddress
    from hoiclip_engine.streaming.stream import Stream
    from hoiclip_engine.types.frame import SupervisedSource
    from hoiclip_engine.types.results import Sink

CONCURRENT = 2
"""Inference requests are made for several streams, even where a run begins with none."""
_POLL_S = 0.1


def run_supervised(
    engine: Engine,
    addresses: Sequence[SourceAddress],
    outputs: Outputs,
    config: RunConfig,
    state_folder: Path,
    allowed_folders: Sequence[Path],
) -> int:
    """Runs the sources of the state folder, and those named now, until a signal.

    Returns:
        The exit code: 130, 143 ... after a signal.

    Raises:
        UsageError: another run has the folder, its state is damaged, or standard input is a source.
        SinkError: the page cannot listen, or the folder cannot be written.
    """
    try:
        from hoiclip_engine.live.control import LiveControl
        from hoiclip_engine.live.recent_events import RecentEvents
        from hoiclip_engine.live.state_folder import StateFolder
        from hoiclip_engine.streaming.supervisor import Supervisor
    except ImportError as error:
        raise BackendMissing(f"--state needs {error.name}; pip install 'hoiclip[serve]'") from error

    if any(address.kind == "stdin" for address in addresses):
        raise UsageError("expected files, streams and cameras with --state, found standard input; leave it out")
    assert outputs.live is not None
    with closing(StateFolder(state_folder)) as state, closing(outputs), stopping_on_signals(lambda: None) as signalled:
        server, events = outputs.server(outputs.live), RecentEvents()
        opener = _Opener(engine, config, outputs)
        supervisor = Supervisor(opener.open, _PassOutputs(outputs, server, events, opener.rings))
        listed = _listed(events, outputs, supervisor.sources, server.notify)
        token = outputs.live.token or state.token()
        control = opener.control = LiveControl(
            supervisor=supervisor,
            state=state,
            vocabulary=engine.vocabulary,
            events=listed,
            token=token,
            allowed_folders=allowed_folders,
            evidence_folder=outputs.evidence,
        )
        with closing(control):
            server.metrics.supervise(supervisor.sources)
            supervisor.on_change = events.on_change = server.notify
            server.control = control
            control.restore(addresses)
            if config.stream.rules is not None:
                control.replace_rules(config.stream.rules.as_dict())
            server.start()
            if not outputs.live.token:
                messages.print(f"Changes need the token in {state.token_path}")
            while not signalled:
                time.sleep(_POLL_S)
    return 128 + signalled[0]


def _listed(
    events: RecentEvents,
    outputs: Outputs,
    sources: Callable[[], Sequence[SupervisedSource]],
    notify: Callable[[], None],
) -> EventList:
    """The list of events that is shown: of the record, where there is one."""
    from hoiclip_engine.events.event_store import EventStore
    from hoiclip_engine.live.recent_events import StoredEvents

    recorder = outputs.recorder()
    if recorder is None or outputs.db is None:
        return events
    stored = StoredEvents(events, EventStore(outputs.db), sources, lambda: recorder.is_connected)
    stored.on_change, recorder.on_written = notify, stored.written
    return stored


class _Opener:
    """Opens sources for the supervisor."""

    def __init__(self, engine: Engine, config: RunConfig, outputs: Outputs) -> None:
        self._engine, self._config, self._outputs = engine, config, outputs
        self.control: LiveControl | None = None
        self.rings: dict[int, PacketRing | None] = {}
        """Packets of each source that runs, for its evidence."""

    def open(self, address: SourceAddress, source_id: int, name: str) -> Stream:
        """The stream of a source, with its rules. A source that was named has that name in all outputs."""
        from hoiclip_engine.sources.open_source import open_source

        config = self._config
        ring = self.rings[source_id] = self._outputs.packet_ring()
        source = open_source(address, replace(config.source, packets=ring))
        (stream,) = self._engine.streams([source], config.stream, config.batch, concurrent=CONCURRENT)
        stream.header = replace(stream.header, source=name)
        if self.control is not None:
            self.control.apply_rules(source_id, stream)
        return stream


class _PassOutputs:
    """Sinks of each pass over a source: files, the webhook, record, evidence, the page and its list of events."""

    def __init__(
        self,
        outputs: Outputs,
        server: LiveServer,
        events: RecentEvents,
        rings: Mapping[int, PacketRing | None],
    ) -> None:
        self._outputs, self._server, self._events, self._rings = outputs, server, events, rings

    def sinks_for(self, source_id: int, name: str, stream: Stream) -> list[Sink]:
        files = self._outputs.sinks_for_pass(
            source_id,
            name,
            datetime.now(timezone.utc),
            self._rings.get(source_id),
            self._events.put_evidence,
            stream.rules.names,
        )
        return [*files, self._events.sink(source_id, name), self._server.sink_for(name, source_id)]

    def release(self, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            self._server.remove(sink)

    def forget(self, source_id: int, name: str) -> None:
        self._server.metrics.forget(name)
