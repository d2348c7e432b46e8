"""MOTChallenge text: one line per visible human and object per frame.

Columns: frame (from 1), id, left, top, width, height (pixels), score, -1, -1, -1. Which pairs they form is not in the
format; JSONL has that.
"""

from __future__ import annotations

from pathlib import Path

from hoiclip_engine.pairs import TrackedPairs
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.sinks.text_file import TextFile


class MotSink(Sink):
    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, header: RunHeader) -> None:
        self._file = TextFile(self._path)

    def write(self, result: FrameResult) -> None:
        lines = [
            f"{result.index + 1},{entity},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f},-1,-1,-1\n"
            for entity, ((x1, y1, x2, y2), score) in sorted(entities(result.pairs).items())
        ]
        self._file.write("".join(lines))

    def finish(self, summary: RunSummary) -> None:
        self._file.close()


def entities(pairs: TrackedPairs) -> dict[int, tuple[list[float], float]]:
    """Box and best pair score of every human and object, by identity."""
    found: dict[int, tuple[list[float], float]] = {}
    for row in range(len(pairs)):
        score = float(pairs.score[row])
        for entity, boxes in ((pairs.human, pairs.human_boxes_xyxy), (pairs.object, pairs.object_boxes_xyxy)):
            identity = int(entity[row])
            if identity >= 0 and (identity not in found or found[identity][1] < score):
                found[identity] = (boxes[row].tolist(), score)
    return found
