"""The live page's server: a thread that listens from the first start to the last finish of its sinks.

Needs the extra `serve`. What is answered is in routes.py, who may ask in guard.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from aiohttp import web

from hoiclip.errors import SinkError
from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.live.bell import Bell
from hoiclip_engine.live.channel import Channel
from hoiclip_engine.live.door import Door, LoopErrors
from hoiclip_engine.live.guard import Guard
from hoiclip_engine.live.metrics import Metrics
from hoiclip_engine.live.routes import MESSAGES_PER_S, Routes
from hoiclip_engine.results import RunHeader, Sink

GOODBYE_S = 0.4
"""For viewers to take the last message; an interrupted run ends within a second."""
LAST_MESSAGE_S = 1.5 / MESSAGES_PER_S
"""Until every viewer was told that the sources have ended."""
_silent = logging.Logger("hoiclip.live", level=logging.CRITICAL + 1)
"""For aiohttp: its lines about broken requests may hold addresses with a token in them."""


class LiveServer:
    """One page for all sources of a run."""

    def __init__(self, address: LiveAddress, on_ready: Callable[[str], None] = lambda url: None) -> None:
        """Opens nothing. Args: on_ready: told the page's address, without a token, once it listens."""
        self._address, self._on_ready = address, on_ready
        self.metrics = Metrics()
        self.channels: list[Channel] = []
        self.port = address.port
        """The one that it listens at, once it does."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def sink_for(self, name: str) -> Sink:
        """A sink for a source, by its printable name."""
        channel = Channel(name, self._opened, self._closed)
        self.channels.append(channel)
        return channel

    def close(self) -> None:
        """Ends the server, if it still runs; may be called from any thread but its own, and more than once."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(2 * GOODBYE_S)
            self._drawer.shutdown(wait=False, cancel_futures=True)

    def _opened(self, channel: Channel, header: RunHeader) -> None:
        """Raises: SinkError: the address is taken or is none of this machine's."""
        with self._lock:
            if self._thread is None:
                self._listen()
        channel.attach(header, self.metrics.of(channel.name, header.vocabulary), self._bell, self._drawer)

    def _closed(self) -> None:
        """Files come one after the other: the page stays until all are over."""
        if all(channel.ended for channel in self.channels):
            self.close()

    def _listen(self) -> None:
        try:
            self._loop = asyncio.new_event_loop()
        except OSError as error:
            raise SinkError(f"cannot open the live page: {error.strerror}; raise ulimit -n") from None
        self._bell = Bell(self._loop)
        self._drawer = ThreadPoolExecutor(1, thread_name_prefix="hoiclip-live-draw")
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=self._serve, args=(self._loop, ready), name="hoiclip-live", daemon=True)
        self._thread.start()
        try:
            self.port = ready.result()
        except OSError as error:
            self._thread = self._loop = None
            # errno of a failed look-up of a name is not one of the system's
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "this machine has no such address"
            place = f"{self._address.host}:{self._address.port}"
            raise SinkError(f"cannot listen at {place}: {reason}; choose another address with --live") from None
        self._on_ready(self._address.url(self.port))

    def _serve(self, loop: asyncio.AbstractEventLoop, ready: Future[int]) -> None:
        application = Routes(self.channels, self.metrics, self._bell).application(Guard(self._address))
        runner = web.AppRunner(application, access_log=None, logger=_silent, shutdown_timeout=GOODBYE_S)
        errors = LoopErrors()
        loop.set_exception_handler(errors)
        try:
            loop.run_until_complete(runner.setup())
            assert runner.server is not None
            listening = loop.create_server(Door(runner.server), self._address.host, self._address.port)
            server = loop.run_until_complete(listening)
        except OSError as error:
            loop.run_until_complete(runner.cleanup())
            loop.close()
            ready.set_exception(error)
            return
        ready.set_result(int(server.sockets[0].getsockname()[1]))
        loop.run_forever()
        errors.is_closing = True
        server.close()
        if self._bell.listeners:
            loop.run_until_complete(asyncio.sleep(LAST_MESSAGE_S))
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
