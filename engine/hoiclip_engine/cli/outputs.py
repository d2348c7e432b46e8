"""Outputs of a run, and the sinks that write them.

Of one source, an output is a file. Of several it is a folder with a file for each, named for the source; the table of
HICO-DET detections, the outbox (webhook, broker) and the live page are shared. Impossible combinations are refused
before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.core.errors import BackendMissing, UsageError
from hoiclip_engine.cli.console import messages
from hoiclip_engine.cli.distinct_files import Name, existing, require_distinct

if TYPE_CHECKING:
    from hoiclip_engine.events.outbox import Outbox
    from hoiclip_engine.live.address import LiveAddress
    from hoiclip_engine.live.server import LiveServer
    from hoiclip_engine.sinks.hico_sink import HicoDetections
    from hoiclip_engine.sinks.webhook import WebhookFormat
    from hoiclip_engine.sources.uri import SourceAddress
    from hoiclip_engine.types.results import Sink


STDOUT = "-"
_ENDINGS = {
    "video": ".mp4",
    "jsonl": ".jsonl",
    "mot": ".txt",
    "vtt": ".vtt",
    "csv": ".csv",
    "coco": ".json",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Targets of results; without any, event lines go to standard output. Close it after the run."""

    video: str | Path | None = None
    """A file, or an address to send to."""
    jsonl: str | Path | None = None
    """A file, or "-" for standard output."""
    mot: Path | None = None
    vtt: Path | None = None
    csv: Path | None = None
    coco: Path | None = None
    hico: Path | None = None
    """A folder."""
    webhook: str | None = field(default=None, repr=False)
    """May hold a password."""
    webhook_format: WebhookFormat = "plain"
    mqtt: str | None = field(default=None, repr=False)
    """May hold a password."""
    mqtt_ca: Path | None = None
    mqtt_discovery: str = ""
    """Prefix of Home Assistant's discovery."""
    outbox: Path | None = None
    """File of messages that the webhook and the broker have not acknowledged; None: they are in memory."""
    live: LiveAddress | None = None
    _shared: list[LiveServer | HicoDetections | Outbox] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Raises UsageError: an option changes nothing without another one."""
        if self.webhook_format != "plain" and not self.webhook:
            raise UsageError("--webhook-format is for --webhook; name its address too")
        if (self.mqtt_ca or self.mqtt_discovery) and not self.mqtt:
            raise UsageError("--mqtt-ca and --mqtt-discovery are for --mqtt; name its address too")
        if self.outbox and not (self.webhook or self.mqtt):
            raise UsageError("--outbox is for --webhook and --mqtt; name an address to deliver to")

    def sinks_for(self, addresses: Sequence[SourceAddress]) -> list[list[Sink]]:
        """Sinks of each source, not started yet; with several sources, makes the folders.

        Raises:
            UsageError: two results, or a result and a source, would share one file; or several sources would
                share an output that only one can have.
            BackendMissing: a package for an output is not installed.
            SinkError: a folder cannot be made.
        """
        from hoiclip.core.atomic_write import make_folder
        from hoiclip_engine.sinks.hico_sink import HicoDetections
        from hoiclip_engine.sinks.text_sinks import EventLines

        self.require_distinct(addresses)
        targets = self._targets(addresses)
        if len(addresses) > 1:
            for folder in self._named().values():
                make_folder(Path(folder))
        sinks = [[_sink(kind, target) for kind, target in own.items()] for own in targets]
        if self.hico:
            detections = HicoDetections(self.hico, [address.name for address in addresses])
            self._shared.append(detections)
            for number, own in enumerate(sinks):
                own.append(detections.sink(number))
        outbox = None
        if self.webhook or self.mqtt:
            outbox, delivering = self._delivery(addresses)
            for own, more in zip(sinks, delivering, strict=True):
                own += more
        if self.live:
            server = self._server(self.live)
            if outbox is not None:
                server.metrics.watch_outbox(outbox.counters)
            for own, address in zip(sinks, addresses, strict=True):
                own.append(server.sink_for(address.name))
        several = len(addresses) > 1
        return [
            own or [EventLines(address.name if several else "")] for own, address in zip(sinks, addresses, strict=True)
        ]

    def require_distinct(
        self, addresses: Sequence[SourceAddress], inputs: Iterable[Name] = (), texts: Sequence[str] = ()
    ) -> None:
        """Checks that no result goes over a source, another input or another result; opens nothing.

        Args:
            inputs: files that are read besides the sources.
            texts: sources as written by the user.

        Raises:
            UsageError: one would; or several sources would share an output that only one can have.
        """
        from hoiclip_engine.sinks.stream_sink import is_stream
        from hoiclip_engine.sinks.video_sink import SUFFIXES as VIDEO_SUFFIXES
        from hoiclip_engine.sinks.video_sink import unfinished_name

        files = [target for own in self._targets(addresses) for target in own.values() if not is_stream(str(target))]
        files += [unfinished_name(Path(name)) for name in files if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        files += existing(self.hico, "detections_*.mat")
        files += [self.outbox] if self.outbox else []
        if not files and self.hico is None:
            files.append(STDOUT)  # event lines
        shared = list(self._named().values()) if len(addresses) > 1 else []
        sources = [address.location for address in addresses if address.kind in ("file", "stdin")]
        require_distinct([*sources, *inputs], files, [*shared, self.hico], texts)

    def close(self) -> None:
        """Ends shared outputs, also where a source never began.

        Raises:
            SinkError: as the last of the shared sinks.
        """
        while self._shared:
            self._shared.pop().close()

    def _delivery(self, addresses: Sequence[SourceAddress]) -> tuple[Outbox, list[list[Sink]]]:
        """The outbox for the webhook and the broker, and the sinks of each source that fill it."""
        from hoiclip_engine.events.outbox import Outbox
        from hoiclip_engine.sinks.mqtt import MqttBroker, MqttConfig
        from hoiclip_engine.sinks.webhook import Webhook, WebhookConfig
        from hoiclip_engine.sources.uri import file_names

        targets: list[Webhook | MqttBroker] = []
        if self.webhook:
            targets.append(Webhook(self.webhook, config=WebhookConfig(format=self.webhook_format)))
        if self.mqtt:
            targets.append(MqttBroker(self.mqtt, MqttConfig(ca=self.mqtt_ca, discovery=self.mqtt_discovery)))
        outbox = Outbox(targets, self.outbox)
        self._shared.append(outbox)
        brokers = [target for target in targets if isinstance(target, MqttBroker)]
        # States come first: the outbox's sink ends the connection after the last source.
        return outbox, [
            [*(broker.state_sink(name) for broker in brokers), outbox.sink(name)]
            for name in file_names([address.name for address in addresses])
        ]

    def _server(self, address: LiveAddress) -> LiveServer:
        try:
            from hoiclip_engine.live.server import LiveServer
        except ImportError as error:
            raise BackendMissing(f"--live needs {error.name}; pip install 'hoiclip[serve]'") from error

        def report_url(url: str) -> None:
            messages.print(f"Live page: {url}" + ("?token=... (the token of this run)" if address.token else ""))

        server = LiveServer(address, report_url)
        self._shared.append(server)
        return server

    def _named(self) -> dict[str, str | Path]:
        """Outputs that are files, by kind, in the order they are written."""
        return {kind: target for kind in _ENDINGS if (target := getattr(self, kind))}

    def _targets(self, addresses: Sequence[SourceAddress]) -> list[dict[str, str | Path]]:
        """Target of each kind, per source."""
        from hoiclip_engine.sources.uri import file_names

        named = self._named()
        if len(addresses) == 1:
            return [named]
        for target in named.values():
            _check_folder(target, len(addresses))
        return [
            {kind: Path(folder) / f"{name}{_ENDINGS[kind]}" for kind, folder in named.items()}
            for name in file_names([address.name for address in addresses])
        ]


def _sink(kind: str, target: str | Path) -> Sink:
    from hoiclip_engine.sinks.coco_sink import CocoSink
    from hoiclip_engine.sinks.jsonl_sink import JsonlSink
    from hoiclip_engine.sinks.stream_sink import StreamSink, is_stream
    from hoiclip_engine.sinks.text_sinks import CsvSink, MotSink, VttSink
    from hoiclip_engine.sinks.video_sink import VideoSink

    match kind:
        case "video":
            return StreamSink(str(target)) if is_stream(str(target)) else VideoSink(target)
        case "jsonl":
            return JsonlSink(target)
        case "mot":
            return MotSink(Path(target))
        case "vtt":
            return VttSink(Path(target))
        case "csv":
            return CsvSink(Path(target))
        case _:
            return CocoSink(Path(target))


def _check_folder(target: str | Path, count: int) -> None:
    """Raises UsageError: several sources cannot share this target."""
    from hoiclip_engine.sinks.stream_sink import is_stream

    if str(target) == STDOUT:
        raise UsageError(f"{count} sources cannot share standard output; name a folder for their results")
    if is_stream(str(target)):
        raise UsageError(f"{count} sources cannot share an address to send to; start a run for each")
    path = Path(target)
    if path.suffix and not path.is_dir():
        raise UsageError(f"expected a folder for the results of {count} sources, found {path}; leave the ending out")
