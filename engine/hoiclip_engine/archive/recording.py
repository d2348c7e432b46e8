"""A file whose frames were looked at before, played to a stream: times and sizes without pictures, and the looks."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from hoiclip_engine.archive.looks_file import about_looks, read_looks
from hoiclip_engine.frame import Frame
from hoiclip_engine.looker import RGB, Look
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo


class Recording:
    """The looks at all units of a file, as a source and as what looks at it. To be gone through once."""

    is_live = False

    def __init__(self, info: SourceInfo, looks: Sequence[Path]) -> None:
        """
        Args:
            info: of the file as a whole.
            looks: of its units, in order.
        """
        self.info = info
        self._paths = looks
        told = [about_looks(path).counters for path in looks]
        self.counters = SourceCounters(
            decoded=sum(one.decoded for one in told),
            decode_errors=sum(one.decode_errors for one in told),
            pts_missing=sum(one.pts_missing for one in told),
            pts_repaired=sum(one.pts_repaired for one in told),
            notes=tuple(note for one in told for note in one.notes),
        )
        self._looks: queue.SimpleQueue[Look] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        for path in self._paths:
            for seen in read_looks(path):
                if seen.pairs is not None:
                    self._looks.put(Look(seen.pairs, {}))
                # One byte of memory: nobody asks a frame of a recording for more than its size.
                blank: RGB = np.broadcast_to(np.uint8(0), (seen.height_px, seen.width_px, 3))
                yield Frame(blank, seen.pts_s, index, time.monotonic())
                index += 1

    def look(self, _rgb: RGB) -> Future[Look]:
        """What was seen in the next frame that is due: whoever looks has taken that frame before."""
        answer: Future[Look] = Future()
        answer.set_result(self._looks.get())
        return answer

    def stop(self) -> None:
        """Nobody waits for a recording."""

    def close(self) -> None:
        """Files are closed where they were read."""
