"""Events as lines for a person to read, on standard output; what a run without other outputs shows."""

from __future__ import annotations

from collections.abc import Iterable

from hoiclip_engine.pairs import Event
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.sinks.sentences import sentence
from hoiclip_engine.sinks.text_file import TextFile


class EventLines(Sink):
    def __init__(self, source: str = "") -> None:
        """Args: source: told in each line, where lines of several mix."""
        self._source = f"  {source}" if source else ""

    def start(self, header: RunHeader) -> None:
        self._vocabulary = header.vocabulary
        self._file = TextFile("-")

    def write(self, result: FrameResult) -> None:
        self._tell(result.events)

    def finish(self, summary: RunSummary) -> None:
        self._tell(summary.closing_events)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            said = sentence(event, self._vocabulary)
            self._file.write(f"{event.pts_s:9.3f} s  {event.event:<5}  {said}  (pair {event.pair}){self._source}\n")
