"""Files on a web server: read like files on disk, in a background thread because the server may stall.

ffmpeg resumes interrupted transfers; a file that cannot be fetched to its end is counted as damaged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace

from av.container import InputContainer

from hoiclip.core.errors import SourceError
from hoiclip_engine.sources.base import FrameSource, SourceCounters, SourceInfo
from hoiclip_engine.sources.connection import CLOSE_WAIT_S, BackgroundIterator
from hoiclip_engine.types.frame import Frame, SourceEvent


class HttpFileSource:
    """All frames of a remote file in order, decoded in a background thread."""

    is_live = False

    def __init__(self, open_file: Callable[[], FrameSource], name: str) -> None:
        """Opens the file in a background thread and waits for its first frame.

        Args:
            open_file: opens the file and decodes its first frame.
            name: printable and without credentials.

        Raises:
            SourceError: no frame can be decoded.
        """
        self._stopped = threading.Event()
        self._delivered = 0

        def read(_abandoned: threading.Event) -> Generator[FrameSource | Frame | SourceEvent, None, None]:
            with closing(open_file()) as source:
                yield source
                yield from source

        self._reader = BackgroundIterator(read, self._stopped)
        source = self._reader.get()
        if source is None or isinstance(source, (Frame, SourceEvent)):
            raise SourceError(f"expected video from {name}, found that it was stopped; start it again")
        self._source = source
        self._frames = self._deliver()

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def counters(self) -> SourceCounters:
        """Current counts."""
        return replace(self._source.counters, decoded=self._delivered)

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def stop(self) -> None:
        """Ends the frames at once, also while the server stalls."""
        self._stopped.set()

    def close(self) -> None:
        """Frees the connection; may be called twice. Iteration ends."""
        self._stopped.set()
        self._frames.close()
        self._reader.abandon(CLOSE_WAIT_S)

    def _deliver(self) -> Generator[Frame, None, None]:
        while isinstance(frame := self._reader.get(), Frame):
            self._delivered += 1
            yield frame


def is_finite(container: InputContainer) -> bool:
    """Whether an HTTP source has an end: a file with a length, or a playlist that is complete."""
    if container.format.name == "hls":
        return bool(container.duration)
    return (container.size or 0) > 0 or bool(container.duration)
