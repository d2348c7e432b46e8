"""Connects to a stream again and again: soon at first, then with growing pauses, never in step with other cameras.

Knows nothing of frames: whoever reads says whether a connection was worth something.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Generator

import av
from av.container import InputContainer

from hoiclip.errors import SourceError
from hoiclip_engine.video.address import Address
from hoiclip_engine.video.own_thread import OwnThread, Silence
from hoiclip_engine.video.source_config import SourceConfig
from hoiclip_engine.video.stream_opening import OPEN_S, is_hopeless, open_stream, reason_of

FIRST_PAUSE_S = 0.1
"""After the second failure; the first is tried again at once, since most losses are a moment long."""
LONGEST_PAUSE_S = 0.5
"""Short enough to be back within two seconds of a server's return, however long it was away."""


def pause_s(failures: int, rng: random.Random) -> float:
    """How long to wait after so many failures in a row: doubling up to the longest, half of it by chance."""
    if failures < 2:
        return 0.0
    longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 2, 30))
    return longest_s * rng.uniform(0.5, 1.0)


class Connector:
    """Fresh containers of one address. Use it from one thread; only `stopped` may be set from others."""

    def __init__(self, address: Address, config: SourceConfig, rng: random.Random | None = None) -> None:
        self.address, self.config = address, config
        self.stopped = threading.Event()
        """Ends all waiting, here and in whoever reads."""
        self._rng = rng or random.Random()
        self._failures = 0
        self._reason = ""

    def connect(self, give_up_at_s: float, *, first: bool = False) -> InputContainer | None:
        """Tries until it works.

        Args:
            give_up_at_s: by time.monotonic().
            first: errors that will not go away end it at once.

        Returns:
            An open container, or None once stopped.

        Raises:
            SourceError: no connection until then; says why the last attempt failed.
        """
        while not self.stopped.wait(max(0.0, min(self._pause_s(), give_up_at_s - time.monotonic()))):
            if time.monotonic() >= give_up_at_s and self._failures:
                break
            try:
                return self._attempt(give_up_at_s)
            except Silence:
                # Our time is over, not ffmpeg's: what was wrong before says more.
                self.failed(self._reason if self._failures else reason_of(TimeoutError()))
            except av.FFmpegError as error:
                self.failed(reason_of(error))
                if first and is_hopeless(error):
                    break
        if self.stopped.is_set():
            return None
        name = self.address.name
        raise SourceError(f"expected video from {name}, found none: {self._reason}; check address, network and server")

    def failed(self, reason: str) -> None:
        """Makes the next pause longer."""
        self._failures += 1
        self._reason = reason

    def succeeded(self) -> None:
        """A picture came: the next loss is tried again at once."""
        self._failures = 0

    def _pause_s(self) -> float:
        return pause_s(self._failures, self._rng)

    def _attempt(self, give_up_at_s: float) -> InputContainer | None:
        left_s = max(0.0, give_up_at_s - time.monotonic())

        def opening(_left: threading.Event) -> Generator[InputContainer, None, None]:
            yield open_stream(self.address, self.config, min(OPEN_S, left_s))

        attempt = OwnThread(opening, self.stopped)
        try:
            return attempt.get(left_s)
        finally:
            attempt.leave()
