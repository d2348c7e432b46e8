"""Lets connections to the live page in: so many at a time, and each for so long, unless it is a viewer's.

Whoever sends a request byte by byte, or never takes the answer, must keep no viewer out and no file from being opened.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
from collections.abc import Callable
from typing import Any

MAX_CONNECTIONS = 320
"""More than all viewers together (routes.py)."""
FEWEST = 8
REQUEST_S = 10.0
"""From the connection to the last byte of the answer, which is small."""
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("hoiclip")


class Door:
    """Makes the protocols of a listening socket."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Args: make: the protocol behind the door, one for each connection."""
        self._make = make
        self._most = most_connections()
        self._inside: dict[Visitor, None] = {}

    def __call__(self) -> Visitor:
        return Visitor(self, self._make())

    def enter(self, visitor: Visitor) -> bool:
        """Whether there is room; where there is none, who has been busy with one request longest has to go."""
        if len(self._inside) >= self._most:
            slowest = next((one for one in self._inside if not one.stays), None)
            if slowest is None:
                return False
            slowest.leave()
        self._inside[visitor] = None
        return True

    def left(self, visitor: Visitor) -> None:
        """Its connection is over."""
        self._inside.pop(visitor, None)


class Visitor(asyncio.Protocol):
    """One connection; passes everything on to the protocol behind the door."""

    def __init__(self, door: Door, inner: asyncio.Protocol) -> None:
        self._door, self._inner = door, inner
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._entered = False
        self.stays = False
        """A viewer, who has limits of his own."""

    def stay(self) -> None:
        """From now on without a time limit."""
        self.stays = True
        if self._deadline is not None:
            self._deadline.cancel()

    def leave(self) -> None:
        """At once."""
        self._door.left(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._entered = self._door.enter(self)
        if not self._entered:
            transport.abort()
            return
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_S, self.leave)
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._entered:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._door.left(self)
        self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self._entered:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._entered else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


def stay(transport: asyncio.BaseTransport | None) -> None:
    """Frees the connection of a viewer from the time limit of a request."""
    visitor = transport.get_protocol() if isinstance(transport, asyncio.Transport) else None
    if isinstance(visitor, Visitor):
        visitor.stay()


def most_connections() -> int:
    """At most half of the files that this process may still open: the run itself opens some, too."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    try:
        opened = len(os.listdir("/proc/self/fd"))
    except OSError:  # no Linux
        opened = limit // 2
    return max(FEWEST, min(MAX_CONNECTIONS, (limit - opened) // 2))


class LoopErrors:
    """What the server's loop could not do. The loop tries again after a second; one line says so, once."""

    def __init__(self) -> None:
        self._told = False
        self.is_closing = False
        """From when on there is nothing left to listen at; asyncio tries that again all the same, with a ValueError."""

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.is_closing and isinstance(error, ValueError):
            return
        if not isinstance(error, OSError):
            loop.default_exception_handler(context)
        elif error.errno in _SCARCE and not self._told:
            self._told = True
            _log.warning("the live page lets nobody in for now: %s", os.strerror(error.errno or 0))
