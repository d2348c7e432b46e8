"""A run over sources that are known from the start: opened, iterated into their sinks, and reported.

Files come one after the other, cameras and streams all at once; what becomes of one source is no matter of the others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import PARTIAL, HoiclipError
from hoiclip_engine.cli.console import messages, progress, table, working
from hoiclip_engine.cli.signals import stopping_on_signals

if TYPE_CHECKING:
    from hoiclip_engine.cli.outputs import Outputs
    from hoiclip_engine.engine import Engine
    from hoiclip_engine.sources.base import FrameSource, SourceConfig
    from hoiclip_engine.sources.packet_ring import PacketRing
    from hoiclip_engine.sources.uri import SourceAddress
    from hoiclip_engine.streaming.sink_writer import Meter
    from hoiclip_engine.streaming.stream import Stream, StreamConfig
    from hoiclip_engine.types.results import RunSummary, Sink

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

    @property
    def packets(self) -> PacketRing | None:
        """Keeps the source's packets, where a sink needs them."""
        from hoiclip_engine.events.evidence import EvidenceSink

        return next((sink.packets for sink in self.sinks if isinstance(sink, EvidenceSink)), None)


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

    with ExitStack() as stack, stopping_on_signals(stop) as signalled:
        stack.callback(_close, outputs, jobs)
        for group in _groups(jobs, config):
            if signalled:
                break
            _run_group(engine, group, config, shown_notices, signalled)
    return 128 + signalled[0] if signalled else _conclusion(jobs)


def _close(outputs: Outputs, jobs: Sequence[_Job]) -> None:
    """Ends shared outputs. Their failure becomes the run's, so those of sources are printed before it."""
    try:
        outputs.close()
    except HoiclipError:
        for job in jobs:
            if job.error is not None:
                messages.print(f"hoiclip: {job.error}")
        raise


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
            totals = [row for sink in job.sinks for row in sink.totals]
            messages.print(summary_table(job.address.name, job.summary, totals), source=job.address.name)
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
            job.source = open_source(job.address, replace(config, packets=job.packets))
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


def summary_table(name: str, summary: RunSummary, totals: Sequence[tuple[str, str]] = ()) -> Any:
    """Counts, and where the time went. Args: totals: further rows, those of sinks."""
    processed = summary.decoded - summary.dropped
    rate = processed / summary.wall_s if summary.wall_s else 0.0
    rows: list[tuple[object, ...]] = [
        ("frames", f"{summary.decoded} decoded, {summary.detected} detected, {summary.dropped} dropped"),
        ("damage", f"{summary.decode_errors} decode errors, {summary.pts_repaired} timestamps repaired"),
        ("found", f"{summary.pairs} pairs, {summary.events} events"),
        ("time", f"{summary.wall_s:.1f} s, {rate:.1f} frames/s" + (", interrupted" if summary.interrupted else "")),
    ]
    if summary.hits is not None:
        rows.append(("rules", f"{summary.hits} hits"))
    if summary.reconnects:
        rows.append(("source", f"came back {summary.reconnects} times"))
    rows += totals
    rows += [
        (stage, f"p50 {ms['p50']:.1f} ms, p90 {ms['p90']:.1f} ms, p99 {ms['p99']:.1f} ms")
        for stage, ms in summary.stage_ms.items()
    ]
    return table(f"Summary of {name}", ("what", "value"), rows)
