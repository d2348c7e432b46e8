"""Outputs of a run, and the sinks that write them.

Of one source, an output is a file. Of several it is a folder with a file for each, named for the source; the table of
HICO-DET detections, the folder of evidence, the record, the outbox (webhook, broker) and the live page are shared.
Where sources come and go, it is a folder with a file for each pass over one. Impossible combinations are refused before
anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from hoiclip.core.errors import BackendMissing, UsageError
from hoiclip.core.wall_time import utc_file_name
from hoiclip_engine.cli.console import messages
from hoiclip_engine.cli.distinct_files import Name, existing, require_distinct

if TYPE_CHECKING:
    from hoiclip_engine.events.evidence import EvidenceConfig
    from hoiclip_engine.events.evidence_folder import EvidenceFolder, EvidenceLimits
    from hoiclip_engine.events.outbox import Outbox
    from hoiclip_engine.events.record import Recorder
    from hoiclip_engine.live.address import LiveAddress
    from hoiclip_engine.live.server import LiveServer
    from hoiclip_engine.sinks.hico_sink import HicoDetections
    from hoiclip_engine.sinks.mqtt import MqttBroker
    from hoiclip_engine.sinks.webhook import Webhook, WebhookFormat
    from hoiclip_engine.sources.packet_ring import PacketRing
    from hoiclip_engine.sources.uri import SourceAddress
    from hoiclip_engine.types.results import Sink
    from hoiclip_engine.types.rule_hits import Evidence


STDOUT = "-"
T = TypeVar("T")
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
    db: str | None = field(default=None, repr=False)
    """SQLite file or address of PostgreSQL, which may hold a password."""
    db_keep_s: float | None = None
    """Age from which recorded rows are deleted."""
    webhook_format: WebhookFormat = "plain"
    mqtt: str | None = field(default=None, repr=False)
    """May hold a password."""
    mqtt_ca: Path | None = None
    mqtt_discovery: str = ""
    """Prefix of Home Assistant's discovery."""
    rules: tuple[str, ...] = ()
    """Names of the run's rules, for discovery before they first hold."""
    outbox: Path | None = None
    """File of messages that the webhook and the broker have not acknowledged; None: they are in memory."""
    live: LiveAddress | None = None
    evidence: Path | None = None
    """A folder, which all sources share."""
    evidence_config: EvidenceConfig | None = None
    evidence_limits: EvidenceLimits | None = None
    _shared: list[LiveServer | HicoDetections | EvidenceFolder | Recorder | Outbox] = field(
        default_factory=list, init=False, repr=False, compare=False
    )
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What all sources share and the first of them makes."""
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

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
        from hoiclip_engine.sources.uri import file_names

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
        names = file_names([address.name for address in addresses])
        for own, name in zip(sinks, names, strict=True):
            own += self._delivering_sinks(name, self.rules)
        if self.live:
            server = self.server(self.live)
            for own, address in zip(sinks, addresses, strict=True):
                own.append(server.sink_for(address.name))
        if self.db:
            for own in sinks:
                own.append(self._recorder(self.db).sink())
        if self.evidence:
            for own, name in zip(sinks, names, strict=True):
                own.append(self._evidence_sink(self.evidence, name, self.packet_ring()))
        several = len(addresses) > 1
        return [
            own or [EventLines(address.name if several else "")] for own, address in zip(sinks, addresses, strict=True)
        ]

    def require_folders(self) -> None:
        """Checks that these outputs can be those of a run whose sources come and go; opens nothing.

        Raises:
            UsageError: an output cannot be shared, or is no folder.
        """
        for target in self._named().values():
            _check_folder(target, 0)
        if self.hico:
            raise UsageError("--hico is for sources that are known from the start; leave it or --state out")

    def sinks_for_pass(
        self,
        source_id: int,
        name: str,
        started_at: datetime,
        packets: PacketRing | None = None,
        on_evidence: Callable[[Evidence], None] = lambda evidence: None,
        rules: Sequence[str] = (),
    ) -> list[Sink]:
        """Sinks of one pass over a source of a run whose sources come and go; makes the folders.

        Files are named for the source, its id and the time, and never go over an existing one.

        Args:
            packets: the `packet_ring` that keeps the source's packets.
            rules: names of the source's rules, as far as they are known.

        Raises:
            SinkError: a folder cannot be made.
        """
        from hoiclip.core.atomic_write import make_folder
        from hoiclip_engine.sources.uri import file_names

        file_name = f"{file_names([name])[0]}_{source_id}"
        stem = f"{file_name}_{utc_file_name(started_at)}"
        sinks = []
        for kind, folder in self._named().items():
            make_folder(Path(folder))
            sinks.append(_sink(kind, _unused(Path(folder), stem, _ENDINGS[kind])))
        sinks += self._delivering_sinks(file_name, rules, held=True)
        if self.db:
            sinks.append(self._recorder(self.db).sink())
        if self.evidence:
            sinks.append(self._evidence_sink(self.evidence, file_name, packets, on_evidence))
        return sinks

    def packet_ring(self) -> PacketRing | None:
        """Where a source keeps the packets that its evidence needs; None without evidence."""
        from hoiclip_engine.events.evidence import EvidenceConfig
        from hoiclip_engine.sources.packet_ring import PacketRing

        return PacketRing((self.evidence_config or EvidenceConfig()).kept_s) if self.evidence else None

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
        if self.db:
            from hoiclip_engine.events.databases import parse_database

            database = parse_database(self.db)
            files += [*database.files, database.spool]
        files += [self.outbox] if self.outbox else []
        if not files and self.hico is None:
            files.append(STDOUT)  # event lines
        if self.evidence:
            from hoiclip_engine.events.evidence_folder import own_files

            files += own_files(self.evidence)  # the oldest of which are removed
        shared = list(self._named().values()) if len(addresses) > 1 else []
        sources = [address.location for address in addresses if address.kind in ("file", "stdin")]
        require_distinct([*sources, *inputs], files, [*shared, self.hico, self.evidence], texts)

    def close(self) -> None:
        """Ends shared outputs, also where a source never began.

        Raises:
            SinkError: as the last of the shared sinks.
        """
        with ExitStack() as stack:  # the last one first, and each of them, even where another one fails
            while self._shared:
                stack.callback(self._shared.pop(0).close)

    def _make_once(self, kind: str, make: Callable[[], T]) -> T:
        """What all sources share."""
        with self._lock:
            if kind not in self._made:
                self._made[kind] = make()
            made: T = self._made[kind]
            return made

    def recorder(self) -> Recorder | None:
        """The record, which is opened where it is not yet; None without one.

        Raises:
            UsageError, BackendMissing, SinkError: as of Recorder.
        """
        return self._recorder(self.db) if self.db else None

    def _recorder(self, where: str) -> Recorder:
        from hoiclip_engine.events.record import RecordConfig, Recorder

        def make() -> Recorder:
            recorder = Recorder(where, RecordConfig(keep_s=self.db_keep_s))
            self._shared.insert(0, recorder)  # closed after the others, which may still have something to record
            return recorder

        return self._make_once("recorder", make)

    def _targets_of_delivery(self) -> list[Webhook | MqttBroker]:
        from hoiclip_engine.sinks.mqtt import MqttBroker, MqttConfig
        from hoiclip_engine.sinks.webhook import Webhook, WebhookConfig

        targets: list[Webhook | MqttBroker] = []
        if self.webhook:
            targets.append(Webhook(self.webhook, config=WebhookConfig(format=self.webhook_format)))
        if self.mqtt:
            targets.append(MqttBroker(self.mqtt, MqttConfig(ca=self.mqtt_ca, discovery=self.mqtt_discovery)))
        return targets

    def _delivery(self) -> tuple[Outbox, list[MqttBroker]]:
        """The outbox for the webhook and the broker, and the broker, if there is one."""
        from hoiclip_engine.events.outbox import Outbox
        from hoiclip_engine.sinks.mqtt import MqttBroker

        def make() -> tuple[Outbox, list[MqttBroker]]:
            targets = self._targets_of_delivery()
            outbox = Outbox(targets, self.outbox)
            self._shared.append(outbox)
            return outbox, [target for target in targets if isinstance(target, MqttBroker)]

        return self._make_once("delivery", make)

    def _delivering_sinks(self, name: str, rules: Sequence[str], *, held: bool = False) -> list[Sink]:
        """Sinks of a source that fill the outbox, if there is one.

        Args:
            rules: names of the source's rules, for discovery before they first hold.
            held: keep it open until `close`, also while no source runs.
        """
        if not (self.webhook or self.mqtt):
            return []
        outbox, brokers = self._delivery()
        if held:
            self._make_once("held outbox", outbox.opened)
        # States come first: the outbox's sink ends the connection after the last source.
        return [*(broker.state_sink(name, rules) for broker in brokers), outbox.sink(name)]

    def server(self, address: LiveAddress) -> LiveServer:
        try:
            from hoiclip_engine.live.server import LiveServer
        except ImportError as error:
            raise BackendMissing(f"--live needs {error.name}; pip install 'hoiclip[serve]'") from error

        def report_url(url: str) -> None:
            messages.print(f"Live page: {url}" + ("?token=... (the token of this run)" if address.token else ""))

        server = LiveServer(address, report_url)
        if self.webhook or self.mqtt:
            server.metrics.watch_outbox(self._delivery()[0].counters)
        self._shared.append(server)
        return server

    def _evidence_sink(
        self,
        path: Path,
        name: str,
        packets: PacketRing | None,
        on_evidence: Callable[[Evidence], None] = lambda evidence: None,
    ) -> Sink:
        """Args: name: of the source, in names of files."""
        from hoiclip_engine.events.evidence import EvidenceConfig, EvidenceSink
        from hoiclip_engine.events.evidence_folder import EvidenceFolder

        def make() -> EvidenceFolder:
            folder = EvidenceFolder(path, self.evidence_limits, _warn)
            self._shared.append(folder)
            return folder

        calls = [on_evidence, *([self._recorder(self.db).put_evidence] if self.db else [])]
        config = self.evidence_config or EvidenceConfig()
        return EvidenceSink(self._make_once("evidence", make), config, packets, calls, name)

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


def _warn(line: str) -> None:
    messages.print(f"Warning: {line}")


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


def _unused(folder: Path, stem: str, ending: str) -> Path:
    path, number = folder / f"{stem}{ending}", 1
    while path.exists():  # the clock was set back
        number += 1
        path = folder / f"{stem}-{number}{ending}"
    return path


def _check_folder(target: str | Path, number: int) -> None:
    """Raises UsageError: several sources cannot share this target. Args: number: of sources; 0 where it changes."""
    from hoiclip_engine.sinks.stream_sink import is_stream

    count = number or "several"
    if str(target) == STDOUT:
        raise UsageError(f"{count} sources cannot share standard output; name a folder for their results")
    if is_stream(str(target)):
        raise UsageError(f"{count} sources cannot share an address to send to; start a run for each")
    path = Path(target)
    if path.suffix and not path.is_dir():
        raise UsageError(f"expected a folder for the results of {count} sources, found {path}; leave the ending out")
