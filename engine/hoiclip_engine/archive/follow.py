"""Follows what was seen in a file through its whole length, and writes its results: whole, or not at all."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from hoiclip.errors import SinkError
from hoiclip_engine.archive.plan import Plan
from hoiclip_engine.archive.recording import Recording
from hoiclip_engine.archive.workplace import Workplace, whole_file
from hoiclip_engine.commands.feed import Meter, feed
from hoiclip_engine.engine import Engine
from hoiclip_engine.folder import make_folder
from hoiclip_engine.pipeline import Stream, StreamConfig
from hoiclip_engine.results import RunSummary
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.sinks.parquet_sink import ParquetSink


class Follower:
    """Of one file after the other. `stop` may be called from a signal handler."""

    def __init__(self, engine: Engine, config: StreamConfig, folder: Path, bar: Progress) -> None:
        """
        Args:
            engine: of which nothing is compiled; its model and configuration count.
            folder: of all results.
        """
        self._engine, self._config, self._folder, self._bar = engine, config, folder, bar
        self._stopped = False
        self._stream: Stream | None = None
        for kind in ("jsonl", "parquet"):
            make_folder(folder / kind)

    def stop(self) -> None:
        """Ends what is at hand; nothing is kept of it."""
        self._stopped = True
        if self._stream is not None:
            self._stream.stop()

    def follow(self, name: str, plan: Plan, place: Workplace) -> RunSummary | None:
        """Writes the results of a file all of whose looks are there; None where it was stopped.

        Raises:
            SinkError: they cannot be written.
            SourceError: the looks are damaged.
        """
        recording = Recording(plan.info, [place.looks(unit) for unit in plan.units])
        self._stream = stream = self._engine.replay(recording, recording.look, self._config)
        meter = Meter(self._bar, f"tracking {name}", recording.counters.decoded)
        try:
            with (
                whole_file(self._folder / "jsonl" / f"{name}.jsonl") as jsonl,
                whole_file(self._folder / "parquet" / f"{name}.parquet") as parquet,
            ):
                if self._stopped:
                    stream.stop()
                summary = feed(stream, [JsonlSink(jsonl), ParquetSink(parquet)], meter)
                if summary.interrupted:
                    raise _Stopped
        except _Stopped:
            return None
        except OSError as error:
            raise SinkError(f"cannot write to {self._folder}: {error.strerror or error}; make room") from None
        finally:
            meter.close()
            self._stream = None
        return summary


class _Stopped(Exception):
    """Half a result, which is not to be kept."""
