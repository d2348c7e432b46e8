"""An own sink: how long each person did what, as a table at the end.

    python examples/own_sink.py demo/clip.mp4

A sink takes results in order: `start` with the header, `write` per frame, `finish` once. It keeps no frames.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import closing

import numpy as np

from hoiclip_engine import Engine
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary, Sink


class TimeTable(Sink):
    """Seconds per person, verb and object, by the times of the frames."""

    def start(self, header: RunHeader) -> None:
        self._names = header.vocabulary
        self._last_s: float | None = None
        self.seconds: defaultdict[tuple[int, str], float] = defaultdict(float)

    def write(self, result: FrameResult) -> None:
        lasted_s = 0.0 if self._last_s is None else result.pts_s - self._last_s
        self._last_s = result.pts_s
        doing = set()  # somebody who reads two books reads once
        for row, verb in np.argwhere(result.pairs.verb_active):
            words = f"{self._names.verb_name(verb)} {self._names.object_name(int(result.pairs.label[row]))}"
            doing.add((int(result.pairs.human[row]), words.strip()))
        for key in doing:
            self.seconds[key] += lasted_s

    def finish(self, summary: RunSummary) -> None:
        for (human, words), seconds in sorted(self.seconds.items(), key=lambda row: -row[1]):
            print(f"person {human:<3} {words:<24} {seconds:6.2f} s")
        print(f"{summary.decoded} frames, {summary.dropped} dropped")


def main(source: str) -> None:
    sink = TimeTable()
    with Engine.load("drawn") as engine:
        stream = engine.open(source)
        sink.start(stream.header)
        try:
            with closing(iter(stream)) as results:
                for result in results:
                    sink.write(result)
        finally:
            sink.finish(stream.summary)  # also after control-C


if __name__ == "__main__":
    main(sys.argv[1])
