"""Tracks a file over the cached detections of its work items, and writes its results: whole, or not at all."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from rich.progress import Progress

from hoiclip.core.array_types import RGB
from hoiclip.core.atomic_write import atomic_write, make_folder
from hoiclip.core.errors import SinkError
from hoiclip_engine.archive.cached_detections import read_cached_frames, read_item_summary
from hoiclip_engine.archive.work_directory import SplitPlan, WorkDirectory
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.sinks.parquet_sink import ParquetSink
from hoiclip_engine.sources.base import SourceCounters, SourceInfo
from hoiclip_engine.streaming.inference_worker import ClipScene, Inference
from hoiclip_engine.streaming.sink_writer import Meter, feed
from hoiclip_engine.streaming.stream import Stream, StreamConfig, StreamFactory
from hoiclip_engine.types.frame import Frame, FrameImage
from hoiclip_engine.types.results import InferenceReason, RunSummary


class CachedVideo:
    """Cached detections of a file, in order, as a source, as the inference of its frames, and as the gate that decided
    about them. For a single pass.

    Frames have times and sizes but no pixels.
    """

    is_live = False

    def __init__(self, info: SourceInfo, paths: Sequence[Path]) -> None:
        """
        Args:
            info: of the file as a whole.
            paths: cached detections of its work items, in order.
        """
        self.info = info
        self._paths = paths
        counters = [read_item_summary(path).counters for path in paths]
        self.counters = SourceCounters(
            decoded=sum(item.decoded for item in counters),
            decode_errors=sum(item.decode_errors for item in counters),
            pts_missing=sum(item.pts_missing for item in counters),
            pts_repaired=sum(item.pts_repaired for item in counters),
            notes=tuple(note for item in counters for note in item.notes),
        )
        self._inferences: queue.SimpleQueue[Inference] = queue.SimpleQueue()
        self._reasons: queue.SimpleQueue[InferenceReason | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        for path in self._paths:
            for cached in read_cached_frames(path):
                if cached.detections is not None:
                    self._inferences.put(Inference(cached.detections, {}))
                self._reasons.put(cached.reason)
                # One byte of memory: only the size of such a frame is ever read.
                blank: RGB = np.broadcast_to(np.uint8(0), (cached.height_px, cached.width_px, 3))
                yield Frame(blank, cached.pts_s, index, time.monotonic())
                index += 1

    def infer(self, _image: FrameImage, _scene: ClipScene | None = None) -> Future[Inference]:
        """Cached detections of the next frame that is due, which the caller has taken from the iterator before."""
        answer: Future[Inference] = Future()
        answer.set_result(self._inferences.get())
        return answer

    def why_infer(self, _frame: Frame) -> InferenceReason | None:
        """The reason that the worker had, likewise in order."""
        return self._reasons.get()

    def stop(self) -> None:
        """Does nothing: reading does not block."""

    def close(self) -> None:
        """Does nothing: files are closed where they were read."""


class FileTracker:
    """Tracks one file after the other. `stop` may be called from a signal handler."""

    def __init__(self, streams: StreamFactory, config: StreamConfig, folder: Path, bar: Progress) -> None:
        """
        Args:
            streams: of the model; nothing is compiled.
            folder: of all results.
        """
        self._streams, self._config, self._folder, self._bar = streams, config, folder, bar
        self._stopped = False
        self._stream: Stream | None = None
        for kind in ("jsonl", "parquet"):
            make_folder(folder / kind)

    def stop(self) -> None:
        """Ends the current file; nothing is kept of it."""
        self._stopped = True
        if self._stream is not None:
            self._stream.stop()

    def track(self, name: str, plan: SplitPlan, directory: WorkDirectory) -> RunSummary | None:
        """Writes the results of a file whose work items are all inferred; None where it was stopped.

        Raises:
            SinkError: they cannot be written.
            SourceError: the cached detections are damaged.
        """
        video = CachedVideo(plan.info, [directory.detections(work_item) for work_item in plan.work_items])
        self._stream = stream = self._streams.open(video, video.infer, self._config, gate=video)
        meter = Meter(self._bar, f"tracking {name}", video.counters.decoded)
        try:
            with (
                atomic_write(self._folder / "jsonl" / f"{name}.jsonl") as jsonl,
                atomic_write(self._folder / "parquet" / f"{name}.parquet") as parquet,
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
    """The result is incomplete and must not be kept."""
