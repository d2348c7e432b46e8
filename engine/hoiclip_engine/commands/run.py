"""hoiclip run: a source through the engine into sinks, and the signals that end it early."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import Any

from rich.progress import Progress

from hoiclip.errors import HoiclipError
from hoiclip_engine.commands.console import messages, progress, table, working
from hoiclip_engine.commands.outputs import Outputs
from hoiclip_engine.engine import Engine
from hoiclip_engine.frame import SourceEvent
from hoiclip_engine.pipeline import Stream, StreamConfig
from hoiclip_engine.results import RunSummary, Sink
from hoiclip_engine.video.source import SourceConfig
from hoiclip_engine.writer import SinkWriter

PARTIAL = 7
SHOW_EVERY_S = 0.1


def run(engine: Engine, source: str, outputs: Outputs, config: StreamConfig, part: SourceConfig) -> int:
    """One source from first to last frame.

    Returns:
        The exit code: 0, or 130/143 after a signal; what was found until then is written.
    """
    sinks = outputs.sinks(source)
    with working(f"Preparing {engine.model.name} for {engine.backend_name} (the first time takes longer)"):
        stream = engine.open(source, config, part)
    if stream.header.notice:
        messages.print(f"Note: {stream.header.notice}", style="yellow")
    with stopping_on_signals([stream]) as signalled, progress() as bar:
        summary = feed(stream, sinks, Meter(bar, "frames", part.max_frames or stream.frames_expected))
    messages.print(summary_table(summary))
    return 128 + signalled[0] if signalled else 0


class Meter:
    """A line of a progress display: frames done, and how fast."""

    def __init__(self, bar: Progress, name: str, expected: int | None) -> None:
        self._bar, self._task = bar, bar.add_task(name, total=expected, rate="")
        self._frames, self._begun = 0, time.perf_counter()
        self._shown = 0.0

    def __call__(self) -> None:
        """One more. Drawing takes longer than some frames, so not each of them is shown."""
        self._frames += 1
        now = time.perf_counter()
        if now - self._shown >= SHOW_EVERY_S:
            self._shown = now
            rate = f"{self._frames / (now - self._begun):.1f} fps"
            self._bar.update(self._task, completed=self._frames, rate=rate)

    def tell(self, event: SourceEvent) -> None:
        """A line above the display."""
        words = "lost" if event.event == "source_lost" else "back"
        self._bar.console.print(f"Source {words} at {event.pts_s:.2f} s: {event.reason}", style="yellow")


def feed(stream: Stream, sinks: Sequence[Sink], meter: Meter) -> RunSummary:
    """Every result into every sink; each sink that was started is finished, whatever happens.

    Raises:
        HoiclipError: the source or a sink failed; with exit code 7 if some results were written before.
    """
    writer = SinkWriter(sinks, stream.times)

    def on_source_event(event: SourceEvent) -> None:
        meter.tell(event)
        writer.put(event)

    stream.on_source_event = on_source_event
    frames = 0
    try:
        writer.start(stream.header)
        with closing(iter(stream)) as results:
            for result in results:
                writer.put(result)
                frames += 1
                meter()
    except HoiclipError as error:
        if frames:
            error.exit_code = PARTIAL
        raise
    finally:
        stream.close()
        summary = stream.summary
        writer.finish(summary)
    return summary


@contextmanager
def stopping_on_signals(streams: Sequence[Stream]) -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM ends the streams cleanly, the second ends the process.

    Yields:
        The list of signals that came.
    """
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        for stream in streams:
            stream.stop()
        for known, handler in before.items():
            signal.signal(known, handler)

    set_handler: Callable[..., Any] = signal.signal
    with suppress(ValueError):  # not the main thread: whoever called us handles signals
        for known in (signal.SIGINT, signal.SIGTERM):
            before[known] = set_handler(known, handle)
    try:
        yield came
    finally:
        for known, handler in before.items():
            set_handler(known, handler)


def summary_table(summary: RunSummary) -> Any:
    """Counts, and where the time went."""
    rate = summary.decoded / summary.wall_s if summary.wall_s else 0.0
    rows: list[tuple[object, ...]] = [
        ("frames", f"{summary.decoded} decoded, {summary.detected} detected, {summary.dropped} dropped"),
        ("damage", f"{summary.decode_errors} decode errors, {summary.pts_repaired} timestamps repaired"),
        ("found", f"{summary.pairs} pairs, {summary.events} events"),
        ("time", f"{summary.wall_s:.1f} s, {rate:.1f} frames/s" + (", interrupted" if summary.interrupted else "")),
    ]
    rows += [
        (stage, f"p50 {ms['p50']:.1f} ms, p90 {ms['p90']:.1f} ms, p99 {ms['p99']:.1f} ms")
        for stage, ms in summary.stage_ms.items()
    ]
    return table("Summary", ("what", "value"), rows)
