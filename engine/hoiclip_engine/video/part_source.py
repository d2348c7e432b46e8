"""Reads one part of a file: exactly the frames, times and numbers that reading the whole file would give it.

Frames before a cut in presentation may come behind it in decoding (open groups of pictures); so a part decodes on over
its end until it has seen the first frame of the next. Both parts keep a print of that frame: where the prints are one,
and every frame came that was announced, decoding anew from the cut has changed nothing. Whoever joins parts checks that
(`Sound`), and takes the file as a whole where it is not so.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from hoiclip_engine.frame import Frame
from hoiclip_engine.video.cutting import Part
from hoiclip_engine.video.frame_source import SourceCounters
from hoiclip_engine.video.opened import OpenedVideo
from hoiclip_engine.video.opening import open_container, regular_file
from hoiclip_engine.video.redact import redact
from hoiclip_engine.video.source_config import SourceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """Whether a part came as announced, and what it saw at its borders."""

    complete: bool
    """All frames came, undamaged, each with a time of its own."""
    first_print: str
    """Of its first frame's picture; empty for none."""
    next_print: str
    """Of the picture behind its last frame, as decoded in one go with them; empty for none."""


def joined(parts: Sequence[Sound]) -> bool:
    """Whether the parts of a file, in order, are what the whole file shows."""
    return all(part.complete for part in parts) and all(
        before.next_print == after.first_print for before, after in pairwise(parts)
    )


class PartSource:
    """Frames of a part, to be gone through once. Read and close it from one thread."""

    is_live = False

    def __init__(self, path: str | Path, part: Part, config: SourceConfig | None = None) -> None:
        """Opens the file and decodes its first frame, which tells how all are to be turned.

        Raises:
            SourceError: nothing can be read from it; the message says why.
        """
        config = config or SourceConfig()
        self._part, self._path = part, path
        self._delivered = 0
        self._timeless = False
        self._prints = ["", ""]
        self._container = open_container(regular_file(path), config.max_pixels, config.hwaccel)
        try:
            self._video = video = OpenedVideo(self._container, redact(str(path)), config)
            self._first, rgb = video.first()
            self.info = video.describe(self._first, rgb)
            self._clock = video.clock(self._first)
            self._frames = self._deliver()
        except BaseException:
            self._container.close()
            raise

    @property
    def counters(self) -> SourceCounters:
        """As of now."""
        return self._video.counters(self._delivered, self._clock)

    @property
    def sound(self) -> Sound:
        """Complete once the iteration has ended."""
        counters = self.counters
        damaged = self._timeless or counters.decode_errors or counters.pts_missing or counters.pts_repaired
        ended = self._part.end_pts is None or bool(self._prints[1])
        return Sound(
            complete=not damaged and ended and self._delivered == self._part.frames,
            first_print=self._prints[0],
            next_print=self._prints[1],
        )

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def stop(self) -> None:
        """A file never keeps anybody waiting."""

    def close(self) -> None:
        """Frees the file; may be called twice. Iteration ends."""
        self._frames.close()
        self._container.close()

    def _deliver(self) -> Generator[Frame, None, None]:
        for frame, pts_s in self._clock.timed(self._inside(), self._video.stamp_s):
            rgb = self._video.picture(frame)
            if rgb is None:
                continue
            if not self._delivered:
                self._prints[0] = _print_of(rgb)
            self._delivered += 1
            yield Frame(rgb, pts_s, self._part.first_index + self._delivered - 1, time.monotonic())

    def _inside(self) -> Iterator[VideoFrame]:
        """Frames of the part."""
        part = self._part
        for frame in self._decoded():
            if frame.pts is None:
                self._timeless = True
                continue
            if part.start_pts is not None and frame.pts < part.start_pts:
                continue  # leans on what was before the cut; the part before has it
            if part.end_pts is not None and frame.pts >= part.end_pts:
                self._prints[1] = _print_of(self._video.picture(frame))
                return
            yield frame

    def _decoded(self) -> Iterator[VideoFrame]:
        """From the part's key frame on, or none where the file does not find it again."""
        start_pts = self._part.start_pts
        if start_pts is None:
            return chain([self._first], self._video.frames)
        # Some files land behind the asked time: then go on from the start.
        for pts in (start_pts, self._first.pts):
            frames = None if pts is None else self._video.decoder.frames_from(start_pts, seek_to=pts)
            if frames is not None:
                return frames
        return iter(())


def _print_of(rgb: NDArray[np.uint8] | None) -> str:
    """Of a picture's size and pixels."""
    if rgb is None:
        return ""
    return hashlib.blake2b(rgb.data, digest_size=16, salt=repr(rgb.shape[:2]).encode()[:16]).hexdigest()
