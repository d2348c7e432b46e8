"""hoiclip run: a source through the engine into sinks, and the signals that end it early."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from hoiclip.errors import HoiclipError
from hoiclip_engine.commands.console import messages, progress, table, working
from hoiclip_engine.commands.outputs import Outputs
from hoiclip_engine.engine import Engine
from hoiclip_engine.pipeline import Stream, StreamConfig
from hoiclip_engine.results import RunSummary, Sink
from hoiclip_engine.video.source import SourceConfig

PARTIAL = 7


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
    with stopping_on_signals(stream) as signalled:
        summary = feed(stream, sinks, part.max_frames)
    messages.print(summary_table(summary))
    return 128 + signalled[0] if signalled else 0


def feed(stream: Stream, sinks: Sequence[Sink], expected_frames: int | None = None) -> RunSummary:
    """Every result into every sink; each sink that was started is finished, whatever happens.

    Raises:
        HoiclipError: the source or a sink failed; with exit code 7 if some results were written before.
    """
    started: list[Sink] = []
    frames = 0
    try:
        for sink in sinks:
            sink.start(stream.header)
            started.append(sink)
        with progress() as bar:
            task = bar.add_task("frames", total=expected_frames or stream.frames_expected, rate="")
            begun = time.perf_counter()
            for result in stream:
                with stream.times.measure("write"):
                    for sink in sinks:
                        sink.write(result)
                frames += 1
                bar.update(task, advance=1, rate=f"{frames / (time.perf_counter() - begun):.1f} fps")
    except HoiclipError as error:
        if frames:
            error.exit_code = PARTIAL
        raise
    finally:
        stream.close()
        summary = stream.summary
        finish_all(started, summary)
    return summary


def finish_all(sinks: Sequence[Sink], summary: RunSummary) -> None:
    """Finishes each sink even where another one fails; the first failure is raised at the end."""
    failure: HoiclipError | None = None
    for sink in sinks:
        try:
            sink.finish(summary)
        except HoiclipError as error:
            failure = failure or error
    if failure is not None:
        raise failure


@contextmanager
def stopping_on_signals(stream: Stream) -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM ends the stream cleanly, the second ends the process.

    Yields:
        The list of signals that came.
    """
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        came.append(number)
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
