"""hoiclip run: sources through the engine into sinks.

Files come one after the other, cameras and streams all at once; what becomes of one source is no matter of the others.
"""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import PARTIAL, HoiclipError, UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, table, working
from hoiclip_engine.cli.distinct_files import model_inputs, source_inputs
from hoiclip_engine.cli.signals import stopping_on_signals

if TYPE_CHECKING:
    from hoiclip_engine.cli.outputs import Outputs
    from hoiclip_engine.engine import Engine
    from hoiclip_engine.sources.base import FrameSource, SourceConfig
    from hoiclip_engine.sources.uri import SourceAddress
    from hoiclip_engine.streaming.sink_writer import Meter
    from hoiclip_engine.streaming.stream import Stream, StreamConfig
    from hoiclip_engine.types.results import RunSummary, Sink


EXAMPLES = """\
  hoiclip run clip.mp4                                    events as lines, for reading
  hoiclip run clip.mp4 -o annotated.mp4 --jsonl pairs.jsonl
  hoiclip run clip.mp4 --jsonl - --detect-every 5 | jq .
  hoiclip run rtsp://camera/stream --live 127.0.0.1:8080  the newest frame, on a page
  hoiclip run cameras.txt --jsonl results/ --webhook https://host/hook
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SRC",
        help="video or image file, folder, glob, list (.txt), -, camera (0) or stream (rtsp://, http://, ...)",
    )
    _add_outputs(parser)
    _add_delivery(parser)
    options.add_model(parser, folders=True)
    options.add_backend(parser)
    parser.add_argument(
        "--policy",
        default="auto",
        choices=("auto", "lossless", "latest"),
        help="lossless: every frame (files); latest: the newest frame, never behind (live; plays a file in real time)",
    )
    parser.add_argument(
        "--detect-every",
        default=1,
        type=options.detect_every,
        metavar="auto|N",
        help="detect in every Nth frame (default: 1); auto: live, whenever the model is free",
    )
    parser.add_argument(
        "--batch",
        default=1,
        type=options.concurrency,
        metavar="N",
        help="frames of N sources in one inference, where the backend can (default: 1)",
    )
    parser.add_argument("--min-score", type=options.real, metavar="X", help="report pairs from this score on")
    parser.add_argument("--camera-motion", action="store_true", help="compensate for a camera that shakes or turns")
    options.add_short_side(parser)
    parser.add_argument("--start", type=options.real, default=0.0, metavar="S", help="seconds after the first frame")
    parser.add_argument("--duration", type=options.real, metavar="S", help="seconds from the start on (default: all)")
    parser.add_argument("--max-frames", type=options.integer, metavar="N", help="end after N frames")
    parser.add_argument("--transport", default="tcp", choices=("tcp", "udp"), help="transport of RTSP (default: tcp)")
    parser.add_argument(
        "--timeout",
        type=options.real,
        default=5.0,
        metavar="S",
        help="seconds without data until a stream counts as lost (default: 5)",
    )
    options.add_hwaccel(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("outputs", "files; with several sources, folders with a file for each")
    files.add_argument(
        "-o", "--output", metavar="OUT.mp4|URL", help="annotated video; or rtmp://, rtsp://, udp://, tcp://"
    )
    files.add_argument("--jsonl", metavar="PATH|-", help="every pair of every frame as JSON lines, schema hoiclip/1")
    files.add_argument("--csv", type=Path, metavar="PATH", help="a row per pair, frame and verb")
    files.add_argument("--mot", type=Path, metavar="PATH", help="MOTChallenge text")
    files.add_argument("--vtt", type=Path, metavar="PATH", help="interactions as WebVTT cues")
    files.add_argument("--coco", type=Path, metavar="PATH", help="humans and objects with their tracks as COCO JSON")
    files.add_argument("--hico", type=Path, metavar="DIR", help="detections in the form HICO-DET's evaluation reads")
    files.add_argument("--live", metavar="HOST:PORT", help="a page to watch, with metrics (default host: 127.0.0.1)")
    files.add_argument(
        "--live-token", metavar="TOKEN", help="better in HOICLIP_LIVE_TOKEN, which other users cannot list"
    )


def _add_delivery(parser: argparse.ArgumentParser) -> None:
    delivery = parser.add_argument_group("delivery", "events to other programs, again until they are acknowledged")
    delivery.add_argument(
        "--webhook",
        metavar="URL",
        help="post events there; token in HOICLIP_WEBHOOK_TOKEN, signing secret in HOICLIP_WEBHOOK_SECRET",
    )
    delivery.add_argument(
        "--webhook-format",
        default="plain",
        choices=("plain", "cloudevents", "cloudevents-batch"),
        help="body of the requests (default: plain, hoiclip-events/1); cloudevents: an event a request",
    )
    delivery.add_argument(
        "--mqtt",
        metavar="URL",
        help="publish events and states: mqtt[s]://user@host[:port]/prefix; password in HOICLIP_MQTT_PASSWORD",
    )
    delivery.add_argument("--mqtt-ca", type=Path, metavar="FILE", help="certificates of a private authority (mqtts)")
    delivery.add_argument(
        "--mqtt-discovery",
        nargs="?",
        default="",
        const="homeassistant",
        metavar="PREFIX",
        help="announce sensors to Home Assistant (default prefix: homeassistant)",
    )
    delivery.add_argument(
        "--outbox", type=Path, metavar="FILE", help="keep what is not acknowledged there, also after a kill"
    )


def run(args: argparse.Namespace) -> int:
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.sources.base import SourceConfig
    from hoiclip_engine.sources.source_list import expand_sources
    from hoiclip_engine.streaming.stream import StreamConfig

    try:
        source = SourceConfig(
            start_s=args.start,
            duration_s=args.duration,
            max_frames=args.max_frames,
            transport=args.transport,
            timeout_s=args.timeout,
            hwaccel=args.hwaccel,
        )
        stream = StreamConfig(policy=args.policy, detect_every=args.detect_every)
        track = replace(options.track_config(args.min_score), camera_motion=args.camera_motion)
    except ValueError as error:
        raise UsageError(str(error)) from error
    outputs = _outputs(args)
    config = EngineConfig(backend=args.backend, precision=args.precision, short_side_px=args.short_side, track=track)
    addresses = expand_sources(args.source)
    model = find_model(args.model)
    read = [*source_inputs(args.source, addresses), *model_inputs(model, args.vocabulary)]
    outputs.require_distinct(addresses, read, args.source)
    with Engine.load(model, config, args.vocabulary) as engine:
        return run_sources(engine, addresses, outputs, RunConfig(stream=stream, source=source, batch=args.batch))


def _outputs(args: argparse.Namespace) -> Outputs:
    from hoiclip_engine.cli.outputs import Outputs
    from hoiclip_engine.live.address import LiveAddress

    if args.live_token and not args.live:
        raise UsageError("--live-token is for --live; say where the page is to be, such as --live 127.0.0.1:8080")
    return Outputs(
        video=args.output,
        jsonl=args.jsonl,
        mot=args.mot,
        vtt=args.vtt,
        csv=args.csv,
        coco=args.coco,
        hico=args.hico,
        webhook=args.webhook,
        webhook_format=args.webhook_format,
        mqtt=args.mqtt,
        mqtt_ca=args.mqtt_ca,
        mqtt_discovery=args.mqtt_discovery,
        outbox=args.outbox,
        live=LiveAddress.parse(args.live, args.live_token) if args.live else None,
    )


MOST_OPENING = 16
"""Sources that are opened at a time; a camera that is off takes seconds to say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How sources are read and detected in."""

    stream: StreamConfig
    source: SourceConfig
    batch: int = 1
    """Frames of several sources in one inference; also how many files are read at a time."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")


@dataclass(slots=True)
class _Job:
    """One source, and what became of it."""

    address: SourceAddress
    sinks: list[Sink]
    source: FrameSource | None = None
    stream: Stream | None = None
    summary: RunSummary | None = None
    error: HoiclipError | None = None


def run_sources(engine: Engine, addresses: Sequence[SourceAddress], outputs: Outputs, config: RunConfig) -> int:
    """All sources from first to last frame.

    Returns:
        The exit code: 0; 7 where some sources failed and others did not, else that of the failure; or 130/143 after a
        signal. What was found until then is written.

    Raises:
        HoiclipError: the only source failed.
    """
    sinks = outputs.sinks_for(addresses)
    jobs = [_Job(address, own) for address, own in zip(addresses, sinks, strict=True)]
    shown_notices: set[str] = set()

    def stop() -> None:
        for job in jobs:
            if job.stream is not None:
                job.stream.stop()

    with closing(outputs), stopping_on_signals(stop) as signalled:
        for group in _groups(jobs, config):
            if signalled:
                break
            _run_group(engine, group, config, shown_notices, signalled)
    return 128 + signalled[0] if signalled else _conclusion(jobs)


def _groups(jobs: Sequence[_Job], config: RunConfig) -> Iterator[Sequence[_Job]]:
    """Jobs that run at the same time."""
    together = config.stream.policy == "latest" or any(job.address.kind != "file" for job in jobs)
    size = len(jobs) if together else config.batch
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]


def _run_group(
    engine: Engine, jobs: Sequence[_Job], config: RunConfig, shown_notices: set[str], signalled: Sequence[int]
) -> None:
    from hoiclip_engine.streaming.sink_writer import Meter

    with working(f"Preparing {engine.model.name} for {engine.backend_name} (the first time takes longer)"):
        _open(jobs, config.source)
        jobs = [job for job in jobs if job.source is not None]
        if not jobs:
            return
        sources = [job.source for job in jobs if job.source is not None]
        for job, stream in zip(jobs, engine.streams(sources, config.stream, config.batch), strict=True):
            job.stream = stream
            if signalled:  # before there was a stream to stop
                stream.stop()
            if stream.header.notice and stream.header.notice not in shown_notices:
                shown_notices.add(stream.header.notice)
                messages.print(f"Note: {stream.header.notice}", style="yellow")
            assert job.source is not None
            _report(job.address.name, job.source.info.notes)
    with progress() as bar:
        meters = [Meter(bar, job.address.name, _expected(job, config.source)) for job in jobs]
        if len(jobs) == 1:
            _feed(jobs[0], meters[0])
        else:
            _feed_all(jobs, meters)
    for job in jobs:
        if job.summary is not None:
            messages.print(summary_table(job.address.name, job.summary), source=job.address.name)
            assert job.source is not None
            _report(job.address.name, [note for note in job.summary.notes if note not in job.source.info.notes])
        for sink in job.sinks:
            _report(job.address.name, sink.notes)
        job.sinks.clear()  # they hold what they wrote last


def _report(name: str, notes: Sequence[str]) -> None:
    """A line for every choice that reading a source needed, and for every kind of repair."""
    for note in notes:
        messages.print(f"Note: {name}: {note}", style="yellow", source=name)


def _open(jobs: Sequence[_Job], config: SourceConfig) -> None:
    from hoiclip_engine.sources.open_source import open_source

    def open_one(job: _Job) -> None:
        try:
            job.source = open_source(job.address, config)
        except HoiclipError as error:
            job.error = error

    if len(jobs) == 1:
        open_one(jobs[0])
        return
    with ThreadPoolExecutor(min(MOST_OPENING, len(jobs))) as pool:
        list(pool.map(open_one, jobs))


def _expected(job: _Job, config: SourceConfig) -> int | None:
    assert job.stream is not None
    return config.max_frames or job.stream.frames_expected


def _feed(job: _Job, meter: Meter) -> None:
    from hoiclip_engine.streaming.sink_writer import feed

    assert job.stream is not None
    try:
        job.summary = feed(job.stream, job.sinks, meter)
    except HoiclipError as error:
        job.error = error
    finally:
        meter.close()


def _feed_all(jobs: Sequence[_Job], meters: Sequence[Meter]) -> None:
    """Each in a thread of its own; signals reach the main thread, which only waits."""
    broken: list[BaseException] = []

    def work(job: _Job, meter: Meter) -> None:
        try:
            _feed(job, meter)
        except BaseException as error:
            broken.append(error)

    threads = [
        threading.Thread(target=work, args=one, name="hoiclip-stream", daemon=True)
        for one in zip(jobs, meters, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]


def _conclusion(jobs: Sequence[_Job]) -> int:
    failed = [job.error for job in jobs if job.error is not None]
    if not failed:
        return 0
    if len(jobs) == 1:
        raise failed[0]
    for error in failed:
        messages.print(f"hoiclip: {' '.join(str(error).split())}", level=logging.ERROR)
    return failed[0].exit_code if len(failed) == len(jobs) else PARTIAL


def summary_table(name: str, summary: RunSummary) -> Any:
    """Counts, and where the time went."""
    processed = summary.decoded - summary.dropped
    rate = processed / summary.wall_s if summary.wall_s else 0.0
    rows: list[tuple[object, ...]] = [
        ("frames", f"{summary.decoded} decoded, {summary.detected} detected, {summary.dropped} dropped"),
        ("damage", f"{summary.decode_errors} decode errors, {summary.pts_repaired} timestamps repaired"),
        ("found", f"{summary.pairs} pairs, {summary.events} events"),
        ("time", f"{summary.wall_s:.1f} s, {rate:.1f} frames/s" + (", interrupted" if summary.interrupted else "")),
    ]
    if summary.reconnects:
        rows.append(("source", f"came back {summary.reconnects} times"))
    rows += [
        (stage, f"p50 {ms['p50']:.1f} ms, p90 {ms['p90']:.1f} ms, p99 {ms['p99']:.1f} ms")
        for stage, ms in summary.stage_ms.items()
    ]
    return table(f"Summary of {name}", ("what", "value"), rows)
