"""Signals that end a process from outside: outputs are finished, and the exit code is 128 plus the signal's number.

Two stages: the first signal requests an end, a second SIGINT, SIGTERM or SIGQUIT ends the process at once.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_NAMES = ["HUP", "INT", "QUIT", "TERM", "ALRM", "USR1", "USR2", "XCPU", "VTALRM", "PROF", "POLL", "PWR"]
ENDING = tuple(getattr(signal, f"SIG{name}") for name in _NAMES if hasattr(signal, f"SIG{name}"))
"""Signals that end a process by default and can be caught, except those of crashes."""
_INSISTING = (signal.SIGTERM, getattr(signal, "SIGQUIT", signal.SIGTERM))


class Signalled(KeyboardInterrupt):
    """A signal arrived outside of `stopping_on_signals`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raising_on_signals() -> Iterator[None]:
    """The first signal raises Signalled in the main thread, so that work in progress is cleaned up or finished."""

    def end(number: int) -> None:
        raise Signalled(number)

    with _handling(end):
        yield


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """The first signal calls `stop`, in the main thread.

    Yields:
        The list of received signals.
    """
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        stop()

    with _handling(end):
        yield received


@contextmanager
def _handling(end: Callable[[int], None]) -> Iterator[None]:
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        # A closing terminal hangs up twice, by its kernel and by its shell: only insisting signals end the process now.
        for known in before:
            signal.signal(known, signal.SIG_DFL if known in _INSISTING else signal.SIG_IGN)
        # Not the previous handler: a shell starts background jobs with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        end(number)

    set_handler: Callable[..., Any] = signal.signal
    with suppress(ValueError):  # not the main thread: the caller handles signals
        for known in ENDING:
            # Signals that nohup or a supervisor ignores stay ignored; SIGINT comes from a person at a terminal.
            if known == signal.SIGINT or signal.getsignal(known) not in (signal.SIG_IGN, None):
                before[known] = set_handler(known, handle)
    try:
        yield
    finally:
        for known, handler in before.items():
            set_handler(known, handler)
