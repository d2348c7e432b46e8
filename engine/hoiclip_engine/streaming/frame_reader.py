"""Reads a source in a thread of its own, so that a slow consumer delays it no longer than the policy allows.

A lossless reader waits for room; a live one makes room: the oldest frame is dropped and counted. Using the frames is
up to the stream.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from hoiclip_engine.sources.base import FrameSource
from hoiclip_engine.types.frame import Frame, SourceEvent

CLOSE_TIMEOUT_S = 1.0
"""Seconds that an ended reader may take to release its source; one that hangs in a camera's socket is left behind."""


@dataclass(frozen=True, slots=True)
class ReadFrame:
    """A frame as it came from its source, and the time that took."""

    frame: Frame
    read_ms: float
    """Duration of the read; a live source also waits for its next frame."""


ReadItem = ReadFrame | SourceEvent


class FrameReader:
    """One thread reads, another takes. No frame is lost that `take_dropped` or `close` does not count."""

    def __init__(self, source: FrameSource, *, room: int, waits: bool) -> None:
        """
        Args:
            room: frames kept at most.
            waits: whether a full reader waits for room, rather than dropping the oldest frame.
        """
        self._source, self._room, self._waits = source, room, waits
        self._items: deque[ReadItem] = deque()
        self._frames = self._dropped = 0
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="hoiclip-decode", daemon=True)
        self._thread.start()

    def take(self, *, wait: bool = True) -> ReadItem | None:
        """The oldest item; None at the end, or without waiting where there is none.

        Raises:
            BaseException: raised by the source, behind all frames that came before; only to a caller that waits.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(self._is_ready)
            if self._items and not self._stopped:
                return self._pop()
            if wait:
                self._raise_error()
            return None

    def take_dropped(self) -> int:
        """Number of frames that made room for newer ones since the last call."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def take_all(self) -> list[ReadItem]:
        """All items, oldest first, as soon as there is one; none at the end. Raises like `take`."""
        with self._changed:
            self._changed.wait_for(self._is_ready)
            items = [] if self._stopped else [self._pop() for _ in range(len(self._items))]
            if not items:
                self._raise_error()
            return items

    def stop(self) -> None:
        """Nothing more is read or handed out; may be called from a signal handler."""
        self._stopped = True
        self._source.stop()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> int:
        """Ends the thread, which releases the source; returns the number of frames that were read and never taken."""
        self.stop()
        self._thread.join(CLOSE_TIMEOUT_S)
        with self._changed:
            return self._frames + self.take_dropped()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _is_ready(self) -> bool:
        return bool(self._items) or self._ended or self._stopped

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None and not self._stopped:
            raise error

    def _pop(self) -> ReadItem:
        item = self._items.popleft()
        self._frames -= isinstance(item, ReadFrame)
        self._changed.notify_all()
        return item

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            items = iter(self._source)
            while not self._stopped:
                started = time.perf_counter()
                item = next(items, None)
                if item is None:
                    break
                self._put(ReadFrame(item, (time.perf_counter() - started) * 1e3) if isinstance(item, Frame) else item)
        except BaseException as raised:
            error = raised
        finally:
            self._source.close()
            with self._changed:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def _put(self, item: ReadItem) -> None:
        with self._changed:
            if isinstance(item, ReadFrame):
                while self._waits and self._frames >= self._room and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    self._frames += 1  # of those that are never taken
                    return
                if self._frames >= self._room:
                    self._drop_oldest()
                self._frames += 1
            self._items.append(item)
            self._changed.notify_all()

    def _drop_oldest(self) -> None:
        row = next(row for row, item in enumerate(self._items) if isinstance(item, ReadFrame))
        del self._items[row]
        self._frames -= 1
        self._dropped += 1
