"""A file that a web server sends: like a file on disk, except that it may keep somebody waiting.

ffmpeg asks the server again from where a transfer broke off; a file that cannot be had to its end is counted as damage.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import replace

from av.container import InputContainer

from hoiclip.errors import SourceError
from hoiclip_engine.frame import Frame
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo
from hoiclip_engine.video.own_thread import END_S, OwnThread
from hoiclip_engine.video.source import VideoSource
from hoiclip_engine.video.source_config import SourceConfig


class RemoteFile:
    """Every frame of a remote file in order; decoded in a thread of its own."""

    is_live = False

    def __init__(self, container: InputContainer, name: str, config: SourceConfig) -> None:
        """Takes the container over and waits for its first frame.

        Raises:
            SourceError: no frame can be decoded.
        """
        self._stopped = threading.Event()
        self._delivered = 0

        def reading(_left: threading.Event) -> Generator[VideoSource | Frame, None, None]:
            with VideoSource(container, name, config) as source:
                yield source
                yield from source

        self._thread = OwnThread(reading, self._stopped)
        source = self._thread.get()
        if not isinstance(source, VideoSource):
            raise SourceError(f"expected video from {name}, found that it was stopped; start it again")
        self._source = source
        self._frames = self._deliver()

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def counters(self) -> SourceCounters:
        """As of now."""
        return replace(self._source.counters, decoded=self._delivered)

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def stop(self) -> None:
        """Ends the frames at once, also while the server keeps us waiting."""
        self._stopped.set()

    def close(self) -> None:
        """Frees the connection; may be called twice. Iteration ends."""
        self._stopped.set()
        self._frames.close()
        self._thread.leave(END_S)

    def _deliver(self) -> Generator[Frame, None, None]:
        while isinstance(frame := self._thread.get(), Frame):
            self._delivered += 1
            yield frame
