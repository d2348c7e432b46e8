"""Runs what may block inside ffmpeg in a thread of its own, so that whoever waits can give up at once.

ffmpeg cannot be interrupted from outside; it gives up by its own timeouts. A thread that was left behind ends then, and
frees what it holds. Memory is bounded by a queue of two.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
QUEUED = 2
END_S = 0.2
"""How long closing waits for such a thread; it ends by itself later."""
_LOOK_S = 0.1
"""How often a waiting thread looks whether it is still wanted; what arrives wakes it at once."""


class Silence(Exception):
    """Nothing came in time."""


class OwnThread(Generic[T]):
    """Items of a generator that runs in a daemon thread."""

    def __init__(self, make: Callable[[threading.Event], Generator[T, None, None]], stopped: threading.Event) -> None:
        """Starts it.

        Args:
            make: the generator; gets an event that is set once nobody wants its items any more.
            stopped: of the owner; ends all waiting here.
        """
        self.awaited = True
        """False while nobody reads yet: then the newest items are kept, where otherwise the thread waits."""
        self._stopped = stopped
        self._left = threading.Event()
        self._items: queue.Queue[T | _End] = queue.Queue(QUEUED)
        self._thread = threading.Thread(target=self._run, args=(make,), name="hoiclip-source", daemon=True)
        self._thread.start()

    def get(self, timeout_s: float = float("inf")) -> T | None:
        """The next item; None at the end, or once the owner has stopped.

        Raises:
            Silence: nothing came within timeout_s.
            BaseException: what ended the generator.
        """
        until_s = time.monotonic() + timeout_s
        while not self._unwanted:
            try:
                item = self._items.get(timeout=min(_LOOK_S, max(0.0, until_s - time.monotonic())))
            except queue.Empty:
                if time.monotonic() >= until_s:
                    raise Silence from None
                continue
            if not isinstance(item, _End):
                return item
            self._left.set()
            if item.error is not None:
                raise item.error
        return None

    def leave(self, wait_s: float = 0.0) -> None:
        """Tells it to end, and waits so long for that; may be called twice."""
        self._left.set()
        self._thread.join(wait_s)

    @property
    def _unwanted(self) -> bool:
        return self._stopped.is_set() or self._left.is_set()

    def _run(self, make: Callable[[threading.Event], Generator[T, None, None]]) -> None:
        error: BaseException | None = None
        items = make(self._left)
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as caught:
            error = caught
        finally:
            items.close()
        self._put(_End(error))

    def _put(self, item: T | _End) -> bool:
        while not self._unwanted:
            try:
                self._items.put(item, timeout=_LOOK_S if self.awaited else 0)
                return True
            except queue.Full:
                if not self.awaited:
                    self._drop_oldest()
        return False

    def _drop_oldest(self) -> None:
        with suppress(queue.Empty):
            self._items.get_nowait()


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error
