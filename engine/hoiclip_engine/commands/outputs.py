"""What a run was asked to write, and the sinks that write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hoiclip.errors import UsageError
from hoiclip_engine.results import Sink
from hoiclip_engine.sinks.event_lines import EventLines
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.sinks.mot_sink import MotSink
from hoiclip_engine.sinks.video_sink import VideoSink
from hoiclip_engine.sinks.vtt_sink import VttSink
from hoiclip_engine.video.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Where results go; nothing at all means event lines on standard output."""

    video: Path | None = None
    jsonl: str | None = None
    mot: Path | None = None
    vtt: Path | None = None

    def sinks_for(self, addresses: Sequence[Address]) -> list[list[Sink]]:
        return [self.sinks(address.location) for address in addresses]

    def sinks(self, source: str) -> list[Sink]:
        """Not started yet.

        Raises:
            UsageError: two results, or a result and the source, would share one file.
        """
        named = [p for p in (self.video, self.jsonl, self.mot, self.vtt) if p]
        paths = ["-" if str(p) == "-" else Path(p).resolve() for p in named]
        if len(set(paths)) < len(paths) or Path(source).resolve() in paths:
            raise UsageError("source and outputs must be different files; choose other names for the outputs")
        sinks: list[Sink] = []
        if self.video:
            sinks.append(VideoSink(self.video))
        if self.jsonl:
            sinks.append(JsonlSink(self.jsonl))
        if self.mot:
            sinks.append(MotSink(self.mot))
        if self.vtt:
            sinks.append(VttSink(self.vtt))
        return sinks or [EventLines()]
