"""Reads a source in a thread of its own, so that nobody who is slow keeps it waiting longer than was agreed.

A lossless reader waits for room; a live one makes room: the oldest frame goes, and is counted. What is done with the
frames is the pipeline's business.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.video.frame_source import FrameSource

PATIENCE_S = 1.0
"""How long an ended reader may take to let its source go; one that hangs in a camera's socket is left behind."""


@dataclass(frozen=True, slots=True)
class Read:
    """A frame as it came from its source."""

    frame: Frame
    read_ms: float
    """How long the source took; a live one also waits for its next frame."""


Item = Read | SourceEvent


class FrameReader:
    """One thread reads, one takes. Nothing is lost but what `take_dropped` and `close` count."""

    def __init__(self, source: FrameSource, *, room: int, waits: bool) -> None:
        """
        Args:
            room: frames kept at most.
            waits: for room when there is none, rather than dropping the oldest frame.
        """
        self._source, self._room, self._waits = source, room, waits
        self._items: deque[Item] = deque()
        self._frames = self._dropped = 0
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="hoiclip-decode", daemon=True)
        self._thread.start()

    def take(self, *, wait: bool = True) -> Item | None:
        """The oldest item; None at the end, or without waiting where there is none.

        Raises:
            Whatever the source raised, behind all frames that came before, to a caller that waits.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(self._is_ready)
            if self._items and not self._stopped:
                return self._pop()
            if wait:
                self._nothing_left()
            return None

    def take_dropped(self) -> int:
        """How many frames made room for newer ones since this was asked before."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def take_all(self) -> list[Item]:
        """All items, oldest first, as soon as there is one; none at the end. Raises like `take`."""
        with self._changed:
            self._changed.wait_for(self._is_ready)
            items = [] if self._stopped else [self._pop() for _ in range(len(self._items))]
            if not items:
                self._nothing_left()
            return items

    def stop(self) -> None:
        """Nothing more is read or handed out; may be called from a signal handler."""
        self._stopped = True
        self._source.stop()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> int:
        """Ends the thread, which lets the source go; returns how many frames were read that nobody took."""
        self.stop()
        self._thread.join(PATIENCE_S)
        with self._changed:
            return self._frames + self.take_dropped()

    def _is_ready(self) -> bool:
        return bool(self._items) or self._ended or self._stopped

    def _nothing_left(self) -> None:
        error, self._error = self._error, None
        if error is not None and not self._stopped:
            raise error

    def _pop(self) -> Item:
        item = self._items.popleft()
        self._frames -= isinstance(item, Read)
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
                self._put(Read(item, (time.perf_counter() - started) * 1e3) if isinstance(item, Frame) else item)
        except BaseException as raised:
            error = raised
        finally:
            self._source.close()
            with self._changed:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def _put(self, item: Item) -> None:
        with self._changed:
            if isinstance(item, Read):
                while self._waits and self._frames >= self._room and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    self._frames += 1  # of those that nobody takes
                    return
                if self._frames >= self._room:
                    self._drop_oldest()
                self._frames += 1
            self._items.append(item)
            self._changed.notify_all()

    def _drop_oldest(self) -> None:
        row = next(row for row, item in enumerate(self._items) if isinstance(item, Read))
        del self._items[row]
        self._frames -= 1
        self._dropped += 1
