"""A sink of one's own: seconds that each person spent on each activity, as a table at the end.

    python examples/own_sink.py demo/clip.mp4

A sink takes results in order: `start` with the header, `write` per frame, `finish` once. It keeps no frames.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import closing

from hoiclip_engine import Engine, FrameResult, RunHeader, RunSummary, Sink


class TimeTable(Sink):
    """Seconds per person, verb and object, by the times of the frames."""

    def start(self, header: RunHeader) -> None:
        self._last_s: float | None = None
        self.seconds: defaultdict[tuple[int, str], float] = defaultdict(float)

    def write(self, result: FrameResult) -> None:
        lasted_s = 0.0 if self._last_s is None else result.pts_s - self._last_s
        self._last_s = result.pts_s
        # A set: a person who reads two books reads once.
        for human, activity in {(i.human_id, f"{i.verb} {i.object}".strip()) for i in result.interactions()}:
            self.seconds[human, activity] += lasted_s

    def finish(self, summary: RunSummary) -> None:
        for (human, activity), seconds in sorted(self.seconds.items(), key=lambda row: -row[1]):
            print(f"person {human:<3} {activity.replace('_', ' '):<24} {seconds:6.2f} s")
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
