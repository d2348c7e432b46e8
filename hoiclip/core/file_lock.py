"""Locks that keep other processes from a file, for as long as it is open."""

from __future__ import annotations

from contextlib import suppress
from typing import IO, Any


def try_lock(file: int | IO[Any]) -> bool:
    """Locks an open file without waiting; False where another process has it. On Windows nothing is locked.

    Raises:
        OSError: the file system has no locks.
    """
    with suppress(ImportError):  # Windows
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
