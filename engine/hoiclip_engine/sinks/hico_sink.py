"""Detections in the format of HICO-DET's MATLAB evaluation: a folder of detections_01.mat, detections_02.mat, ...

The format is one table of all HOI classes by all images, whatever the number of sources, made at the end and in memory.
So it is for images and clips, as many as MAX_FRAMES, and not for endless sources. Columns are frames in the order of
the sources; where all sources are images with names of HICO-DET's test set, their official numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from hoiclip.core.atomic_write import make_folder
from hoiclip.core.errors import SinkError, UsageError
from hoiclip.evaluation.export import export_hico_columns, hico_columns
from hoiclip.evaluation.triplets import PredictedTriplets
from hoiclip.evaluation.video import VideoFrame
from hoiclip.evaluation.video.vidhoi import predicted_triplets
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.types.tracked_pairs import TrackedPairs

MAX_FRAMES = 20_000
"""Twice HICO-DET's test set."""


class HicoDetections:
    """The table of a run. `sink(0)`, `sink(1)` ... are for its sources; it is written when the last of them ends."""

    def __init__(self, folder: Path, sources: Sequence[str]) -> None:
        """Touches no file. Args: sources: their printable names, in order."""
        self._folder, self._sources = folder, sources
        self._found: list[list[PredictedTriplets]] = [[] for _ in sources]
        self._frames, self._left = 0, len(sources)
        self._lock = threading.Lock()
        self._header: RunHeader | None = None

    def sink(self, source: int) -> Sink:
        return _HicoSink(self, source)

    def begin(self, header: RunHeader) -> None:
        """Makes the folder.

        Raises:
            UsageError: the run may never end.
            SinkError: the folder cannot be made.
        """
        if header.policy == "latest":
            raise UsageError("--hico is for images and clips, found a run that drops frames; take --jsonl instead")
        make_folder(self._folder)
        self._header = header

    def add(self, source: int, result: FrameResult) -> None:
        """Keeps the hundred best HOIs of a frame.

        Raises:
            SinkError: too many frames.
        """
        assert self._header is not None
        frame = video_frame(result.index, result.pts_s, result.pairs)
        with self._lock:
            if self._frames == MAX_FRAMES:
                raise SinkError(f"--hico takes at most {MAX_FRAMES} frames; shorten the run with --max-frames")
            self._frames += 1
            self._found[source].append(predicted_triplets(frame, self._header.vocabulary))

    def end(self) -> None:
        """Ends one source."""
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self.close()

    def close(self) -> None:
        """Writes the detections so far, however far the run got; once.

        Raises:
            SinkError: it cannot be written.
        """
        with self._lock:
            found, self._found = self._found, [[] for _ in self._sources]
            header, self._header = self._header, None
        if header is None:
            return
        if all(len(frames) <= 1 for frames in found):
            names = [PurePath(name).name for name, frames in zip(self._sources, found, strict=True) if frames]
            columns, count = hico_columns(names)
        else:
            columns, count = list(range(sum(map(len, found)))), sum(map(len, found))
        flat = [triplets for frames in found for triplets in frames]
        export_hico_columns(self._folder, flat, columns, count, header.vocabulary)


class _HicoSink(Sink):
    def __init__(self, detections: HicoDetections, source: int) -> None:
        self._detections, self._source = detections, source

    def start(self, header: RunHeader) -> None:
        self._detections.begin(header)

    def write(self, result: FrameResult) -> None:
        self._detections.add(self._source, result)

    def finish(self, summary: RunSummary) -> None:
        self._detections.end()


def video_frame(index: int, pts_s: float, pairs: TrackedPairs) -> VideoFrame:
    """Converts a frame's tracked pairs to the form of the video metrics."""
    return VideoFrame(
        index=index,
        pts_s=pts_s,
        pair=pairs.pair,
        human=pairs.human,
        object=pairs.object,
        human_boxes_xyxy=pairs.human_boxes_xyxy.astype(np.float64),
        object_boxes_xyxy=pairs.object_boxes_xyxy.astype(np.float64),
        label=pairs.label,
        verb_scores=pairs.verb_scores.astype(np.float64),
        verb_active=pairs.verb_active,
    )
