"""Video on standard input: read as it comes, to its end, without hanging on a writer that says nothing."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from io import RawIOBase
from typing import IO, cast

from hoiclip.errors import SourceError
from hoiclip_engine.frame import Frame
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo
from hoiclip_engine.video.opening import open_container
from hoiclip_engine.video.source import VideoSource
from hoiclip_engine.video.source_config import SourceConfig

NAME = "standard input"
_LOOK_S = 0.1


class PipedSource:
    """Every frame of a container that is piped in, in order."""

    is_live = False

    def __init__(self, config: SourceConfig, descriptor: int | None = None) -> None:
        """Reads from a file descriptor, which stays open; None is standard input.

        Raises:
            SourceError: nothing is piped in, or nothing that is video.
        """
        self._stopped = threading.Event()
        self._pipe = _Pipe(_standard_input() if descriptor is None else descriptor, self._stopped)
        container = open_container(cast(IO[bytes], self._pipe), config.max_pixels, config.hwaccel)
        self._source = VideoSource(container, NAME, config)

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def counters(self) -> SourceCounters:
        """As of now."""
        return self._source.counters

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._source)

    def stop(self) -> None:
        """Takes what was read so far for all there is."""
        self._stopped.set()

    def close(self) -> None:
        """Frees the container; may be called twice. Iteration ends."""
        self._stopped.set()
        self._source.close()


class _Pipe(RawIOBase):
    """A descriptor whose reads end once stopped. Seeks where the descriptor can: `hoiclip run - < clip.mp4`."""

    name = NAME

    def __init__(self, descriptor: int, stopped: threading.Event) -> None:
        self._descriptor, self._stopped = descriptor, stopped

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        try:
            os.lseek(self._descriptor, 0, os.SEEK_CUR)
        except OSError:
            return False
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._stopped.is_set():
            if select.select([self._descriptor], [], [], _LOOK_S)[0]:
                return os.read(self._descriptor, size if size > 0 else 2**16)
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)


def _standard_input() -> int:
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        raise SourceError("expected video on standard input, found it closed; pipe a file into it") from None
    if os.isatty(descriptor):
        raise SourceError(
            "expected video on standard input, found a keyboard; pipe a file into it, as in: ... < clip.mp4"
        )
    return descriptor
