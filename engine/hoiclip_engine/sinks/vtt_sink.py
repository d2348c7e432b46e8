"""WebVTT: one cue per interaction, from its start to its end, in order of the starts.

Times count from the first frame, as players do.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from hoiclip_engine.pairs import Event
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.sinks.sentences import sentence
from hoiclip_engine.sinks.text_file import TextFile

SHORTEST_CUE_S = 0.001
"""A cue must end after it starts."""


class VttSink(Sink):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._first_s: float | None = None
        self._open: dict[tuple[int, int], Event] = {}
        self._cues: list[tuple[float, float, str]] = []

    def start(self, header: RunHeader) -> None:
        self._vocabulary = header.vocabulary
        self._file = TextFile(self._path)
        self._file.write("WEBVTT\n\n")

    def write(self, result: FrameResult) -> None:
        if self._first_s is None:
            self._first_s = result.pts_s
        self._follow(result.events)

    def finish(self, summary: RunSummary) -> None:
        self._follow(summary.closing_events)
        for start_s, end_s, text in sorted(self._cues):
            self._file.write(f"{timestamp(start_s)} --> {timestamp(end_s)}\n{escape(text, quote=False)}\n\n")
        self._file.close()

    def _follow(self, events: Iterable[Event]) -> None:
        for event in events:
            key = (event.pair, event.verb)
            if event.event == "start":
                self._open[key] = event
            elif key in self._open:
                start_s = self._open.pop(key).pts_s - (self._first_s or 0.0)
                end_s = max(event.pts_s - (self._first_s or 0.0), start_s + SHORTEST_CUE_S)
                self._cues.append((start_s, end_s, sentence(event, self._vocabulary)))


def timestamp(time_s: float) -> str:
    """hh:mm:ss.mmm"""
    ms = round(max(time_s, 0.0) * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
