"""Detections in the form that HICO-DET's MATLAB evaluation reads: a folder of detections_01.mat, detections_02.mat, ...

The form is a table of all HOI classes by all pictures, made at the end and in memory. So it is for pictures and clips,
as many as MAX_FRAMES, and not for what never ends. Columns are frames in their order.
"""

from __future__ import annotations

from pathlib import Path

from hoiclip.errors import SinkError, UsageError
from hoiclip.evaluation.export import export_hico_columns
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.video.triplets import predicted_triplets
from hoiclip_engine.evaluate_films import film_frame
from hoiclip_engine.folder import make_folder
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary, Sink

MAX_FRAMES = 20_000
"""Twice HICO-DET's test set."""


class HicoSink(Sink):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: list[PredictedPairs] = []

    def start(self, header: RunHeader) -> None:
        """Makes the folder.

        Raises:
            UsageError: the run may never end.
            SinkError: the folder cannot be made.
        """
        if header.policy == "latest":
            raise UsageError("--hico is for pictures and clips, found a run that drops frames; take --jsonl instead")
        make_folder(self._folder)
        self._vocabulary = header.vocabulary

    def write(self, result: FrameResult) -> None:
        """Keeps the hundred best HOIs of a frame.

        Raises:
            SinkError: too many frames.
        """
        if len(self._found) == MAX_FRAMES:
            raise SinkError(f"--hico takes at most {MAX_FRAMES} frames; shorten the run with --max-frames")
        frame = film_frame(result.index, result.pts_s, result.pairs)
        self._found.append(predicted_triplets(frame, self._vocabulary))

    def finish(self, summary: RunSummary) -> None:
        """Writes what was found, however far the run got.

        Raises:
            SinkError: it cannot be written.
        """
        columns = range(len(self._found))
        export_hico_columns(self._folder, self._found, columns, len(columns), self._vocabulary)
        self._found.clear()
