"""Two-stage interrupts: the first signal asks for an end, the second one is an end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM calls `stop`, in the main thread; the second ends the process.

    Yields:
        The list of signals that came.
    """
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        # Not what was there before: a shell starts what runs in its background deaf to SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stop()

    set_handler: Callable[..., Any] = signal.signal
    with suppress(ValueError):  # not the main thread: whoever called us handles signals
        for known in (signal.SIGINT, signal.SIGTERM):
            before[known] = set_handler(known, handle)
    try:
        yield came
    finally:
        for known, handler in before.items():
            set_handler(known, handler)
