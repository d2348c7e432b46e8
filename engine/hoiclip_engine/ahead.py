"""Hands frames to be looked at before they are needed, so that looks overlap with reading and with each other.

For sources that wait. What is made of the looks, and in which thread, is the caller's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future

from hoiclip_engine.looker import RGB, Look
from hoiclip_engine.reader import FrameReader, Item, Read

QUEUE_FRAMES = 4
"""Decoded frames waiting at most; decoding overlaps looking, and memory stays flat."""
MOST_WAITING = 32
"""Frames that wait at most for a look, their own or the next one."""
_WAITING_BYTES = 2**28

Under = tuple[Item, Future[Look] | None]
"""What was read, with the look that is under way for it, if it gets one."""


def waiting_room(width_px: int, height_px: int) -> int:
    """How many frames of a size may wait for looks."""
    return max(QUEUE_FRAMES, min(MOST_WAITING, _WAITING_BYTES // max(1, 3 * width_px * height_px)))


def looks_ahead_of(
    reader: FrameReader, look: Callable[[RGB], Future[Look]], *, every: int, ahead: int, room: int
) -> Generator[Under, None, None]:
    """Everything that is read, in order; of every Nth frame a look is under way. Looks nobody waits for are cancelled.

    Args:
        every: frames from look to look, by their index.
        ahead: frames that are handed to `look` before the first of them is back.
        room: frames that wait at most.
    """
    waiting: deque[Under] = deque()
    try:
        while True:
            while len(waiting) < room and _under_way(waiting) < ahead:
                item = reader.take(wait=not waiting)
                if item is None:
                    break
                due = isinstance(item, Read) and item.frame.index % every == 0
                waiting.append((item, look(item.frame.rgb) if isinstance(item, Read) and due else None))
            if not waiting:
                return
            yield waiting.popleft()
    finally:
        for _, answer in waiting:
            if answer is not None:
                answer.cancel()


def _under_way(waiting: deque[Under]) -> int:
    return sum(answer is not None for _, answer in waiting)
