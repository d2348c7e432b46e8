"""Wakes coroutines of the server from the threads of a run; costs these next to nothing while nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """Ring it from any thread. Everything else is for the loop's own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next: asyncio.Event | None = None
        self._is_ringing = False
        self.listeners = 0

    def ring(self) -> None:
        """Many rings before the loop comes round are one."""
        if self.listeners and not self._is_ringing:
            self._is_ringing = True
            self._loop.call_soon_threadsafe(self._sound)

    def next(self) -> asyncio.Event:
        """Set at the next ring. Take it before looking at what may have changed, so that nothing is missed."""
        if self._next is None:
            self._next = asyncio.Event()
        return self._next

    @contextmanager
    def listening(self) -> Iterator[None]:
        self.listeners += 1
        try:
            yield
        finally:
            self.listeners -= 1

    def _sound(self) -> None:
        self._is_ringing = False
        ringing, self._next = self._next, None
        if ringing is not None:
            ringing.set()
