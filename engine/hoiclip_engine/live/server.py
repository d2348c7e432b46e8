"""Server of the live page: a thread that listens from the first start to the last finish of its sinks.

Needs the extra `serve`. Handlers are in routes.py, access control in access.py, connection limits in connections.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from aiohttp import web

from hoiclip.core.errors import SinkError
from hoiclip_engine.live.access import ConnectionLimiter, LoopErrorHandler
from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.live.channel import Channel, WakeupEvent
from hoiclip_engine.live.control import LiveControl
from hoiclip_engine.live.metrics import Metrics
from hoiclip_engine.live.routes import MESSAGES_PER_S, Routes
from hoiclip_engine.types.results import RunHeader, Sink

SHUTDOWN_S = 0.4
"""Time for viewers to receive the last message; an interrupted run ends within a second."""
LAST_MESSAGE_S = 1.5 / MESSAGES_PER_S
"""Time until all viewers have been sent the end of the sources."""
_silent = logging.Logger("hoiclip.live", level=logging.CRITICAL + 1)
"""Logger for aiohttp, whose lines about broken requests may hold addresses with a token."""


class LiveServer:
    """One page for all sources of a run."""

    def __init__(self, address: LiveAddress, on_ready: Callable[[str], None] = lambda url: None) -> None:
        """Opens nothing. Args: on_ready: called with the URL of the page, without a token, once it listens."""
        self._address, self._on_ready = address, on_ready
        self.metrics = Metrics()
        self.channels: list[Channel] = []
        self.control: LiveControl | None = None
        """Changes to the run; set before the server starts, which then lasts until it is closed."""
        self.port = address.port
        """Port that it listens at, once it does."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def sink_for(self, name: str, number: int | None = None) -> Sink:
        """Creates a sink for a source, by its printable name. Args: number: None: counted from 0."""
        channel = Channel(name, len(self.channels) if number is None else number, self._opened, self._closed)
        self.channels.append(channel)
        return channel

    def remove(self, sink: Sink) -> None:
        """Forgets a source, whose thread may hang; may be called again."""
        if isinstance(sink, Channel):
            sink.detach()
            with suppress(ValueError):
                self.channels.remove(sink)

    def start(self) -> None:
        """Starts the server of a run whose sources come and go, where its first source has not done so.

        Raises:
            SinkError: the address is in use or does not belong to this machine.
        """
        with self._lock:
            if self._thread is None:
                self._listen()

    def notify(self) -> None:
        """Wakes viewers after a change that no source has written; may be called from any thread."""
        with self._lock:
            if self._thread is not None:
                self._wakeup.notify()

    def close(self) -> None:
        """Stops the server, if it still runs; may be called from any thread but its own, and more than once."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(2 * SHUTDOWN_S)
            self._draw_executor.shutdown(wait=False, cancel_futures=True)

    def _opened(self, channel: Channel, header: RunHeader) -> None:
        """Starts the server with its first source.

        Raises:
            SinkError: the address is in use or does not belong to this machine.
        """
        with self._lock:
            if self._thread is None:
                self._listen()
        channel.attach(
            header, self.metrics.for_source(channel.name, header.vocabulary), self._wakeup, self._draw_executor
        )

    def _closed(self) -> None:
        """Stops after the last source: files run one after the other."""
        if self.control is None and all(channel.ended for channel in self.channels):
            self.close()

    def _listen(self) -> None:
        try:
            self._loop = asyncio.new_event_loop()
        except OSError as error:
            raise SinkError(f"cannot open the live page: {error.strerror}; raise ulimit -n") from None
        self._wakeup = WakeupEvent(self._loop)
        self._draw_executor = ThreadPoolExecutor(1, thread_name_prefix="hoiclip-live-draw")
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=self._serve, args=(self._loop, ready), name="hoiclip-live", daemon=True)
        self._thread.start()
        try:
            self.port = ready.result()
        except OSError as error:
            self._thread = self._loop = None
            # errno of a failed name resolution is not one of the system
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "this machine has no such address"
            place = f"{self._address.host}:{self._address.port}"
            raise SinkError(f"cannot listen at {place}: {reason}; choose another address with --live") from None
        self._on_ready(self._address.url(self.port))

    def _serve(self, loop: asyncio.AbstractEventLoop, ready: Future[int]) -> None:
        routes = Routes(self.channels, self.metrics, self._wakeup, self.control)
        application = routes.application(self._address)
        runner = web.AppRunner(application, access_log=None, logger=_silent, shutdown_timeout=SHUTDOWN_S)
        errors = LoopErrorHandler()
        loop.set_exception_handler(errors)
        try:
            loop.run_until_complete(runner.setup())
            assert runner.server is not None
            listening = loop.create_server(ConnectionLimiter(runner.server), self._address.host, self._address.port)
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
        if self._wakeup.listeners:
            loop.run_until_complete(asyncio.sleep(LAST_MESSAGE_S))
        loop.run_until_complete(runner.cleanup())
        routes.close()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
