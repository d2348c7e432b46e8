"""One stream into its sinks, with a line of progress for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

from rich.progress import Progress

from hoiclip.errors import HoiclipError
from hoiclip_engine.frame import SourceEvent
from hoiclip_engine.pipeline import Stream
from hoiclip_engine.results import RunSummary, Sink
from hoiclip_engine.writer import SinkWriter

PARTIAL = 7
"""Exit code: some results were written before something failed."""
SHOW_EVERY_S = 0.1


class Meter:
    """A line of a progress display: frames done, and how fast."""

    def __init__(self, bar: Progress, name: str, expected: int | None) -> None:
        self._bar, self._task, self._name = bar, bar.add_task(name, total=expected, rate=""), name
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
        self._bar.console.print(f"{self._name} {words} at {event.pts_s:.2f} s: {event.reason}", style="yellow")

    def close(self) -> None:
        """Takes the line away."""
        self._bar.remove_task(self._task)


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
    except KeyboardInterrupt:
        writer.abandon()
        raise
    finally:
        stream.close()
        summary = stream.summary
        writer.finish(summary)
    return summary
