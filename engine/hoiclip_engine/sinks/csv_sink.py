"""CSV for spreadsheets and data frames: a row per pair, frame and verb that is going on.

A pair that does nothing has one row without a verb. Text as in RFC 4180 with "\\n" at the ends of lines, numbers with a
point, nothing where there is no object or no number. Names that a spreadsheet would compute begin with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hoiclip_engine.pairs import TrackedPairs
from hoiclip_engine.printable import spreadsheet_text
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.sinks.text_file import TextFile

_BOX = ("x1", "y1", "x2", "y2")
COLUMNS = (
    *("frame", "pts_s", "detected", "pair", "human", "object", "label", "score", "verb", "verb_score"),
    *(f"human_{corner}_px" for corner in _BOX),
    *(f"object_{corner}_px" for corner in _BOX),
)
"""`frame` counts from 0; the score is the pair's, the verb's own stands beside it."""


class CsvSink(Sink):
    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, header: RunHeader) -> None:
        self._vocabulary = header.vocabulary
        self._file = TextFile(self._path)
        self._put([COLUMNS])

    def write(self, result: FrameResult) -> None:
        frame = (result.index, _number(result.pts_s, 6), int(result.detected))
        pairs = result.pairs
        self._put([(*frame, *row) for index in range(len(pairs)) for row in self._rows(pairs, index)])

    def finish(self, summary: RunSummary) -> None:
        self._file.close()

    def _rows(self, pairs: TrackedPairs, index: int) -> Iterator[tuple[object, ...]]:
        has_object = int(pairs.object[index]) >= 0
        names = (int(pairs.pair[index]), int(pairs.human[index]), int(pairs.object[index]) if has_object else "")
        label = spreadsheet_text(self._vocabulary.objects[int(pairs.label[index])]) if pairs.label[index] >= 0 else ""
        human = [_number(float(value), 1) for value in pairs.human_boxes_xyxy[index]]
        thing = [_number(float(value), 1) if has_object else "" for value in pairs.object_boxes_xyxy[index]]
        active = np.flatnonzero(pairs.verb_active[index])
        scores = pairs.verb_scores[index]
        best_first = active[np.argsort(-scores[active], kind="stable")]
        verbs = [
            (spreadsheet_text(self._vocabulary.verbs[verb]), _number(float(scores[verb]), 4)) for verb in best_first
        ]
        for verb in verbs or [("", "")]:
            yield (*names, label, _number(float(pairs.score[index]), 4), *verb, *human, *thing)

    def _put(self, rows: list[tuple[object, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue())


def _number(value: float, digits: int) -> float | str:
    return round(value, digits) + 0.0 if math.isfinite(value) else ""
