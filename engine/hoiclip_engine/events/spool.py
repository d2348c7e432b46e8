"""Rows of a record that wait on disk while its database is lost."""

from __future__ import annotations

import errno
import json
import os
import re
from contextlib import suppress
from glob import escape
from itertools import islice
from pathlib import Path

from hoiclip.core.file_lock import try_lock
from hoiclip_engine.events.schema import COLUMNS, Row


class Spool:
    """Rows that wait on disk as JSON lines, flushed to disk with every `append`; bounded.

    Several processes with one database have a file each, locked while they live: NAME, NAME-2, ... What one that was
    killed has left is taken over by the next that starts.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Raises OSError: the file cannot be made, or is something else."""
        self._most_bytes, self._base, self._at, self._read = most_bytes, path.name, 0, (0, 0)
        number = 1
        while (descriptor := _locked(_numbered(path, number), os.O_CREAT)) is None:
            number += 1
        self.path, self._descriptor = _numbered(path, number), descriptor
        try:
            self._end = self.rows = 0
            self._complete()
            for other in sorted(path.parent.glob(f"{escape(path.name)}*")):
                if other != self.path:
                    with suppress(OSError):  # of another user, or no room: it stays
                        self._take_over(other)
        except BaseException:
            os.close(descriptor)
            raise

    def append(self, rows: list[Row]) -> int:
        """Writes rows and flushes them to disk.

        Returns:
            How many were written; the others have no room.

        Raises:
            OSError: none was written.
        """
        lines, size = [], self._end
        for row in rows:
            line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
            if size + len(line) > self._most_bytes:
                break
            lines.append(line)
            size += len(line)
        self._append(lines)
        return len(lines)

    def read(self, most: int) -> tuple[list[Row], int]:
        """The oldest rows, and how many of them are damaged and left out.

        Raises:
            OSError: the disk cannot be read.
        """
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(self._at)
            lines = list(islice(file, most))
        self._read = len(lines), sum(map(len, lines))
        rows = [row for row in map(_parse_row, lines) if row is not None]
        return rows, len(lines) - len(rows)

    def done(self) -> None:
        """Removes what `read` gave last; from disk once all rows are done, for to write one again does no harm."""
        lines, size = self._read
        self._at, self.rows = self._at + size, self.rows - lines
        if not self.rows:
            self._at = self._end = 0
            os.ftruncate(self._descriptor, 0)
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Removes the file if it is empty."""
        descriptor, self._descriptor = self._descriptor, -1
        if not self.rows:
            with suppress(OSError):
                self.path.unlink()
        os.close(descriptor)

    def _append(self, lines: list[bytes]) -> None:
        data, at = memoryview(b"".join(lines)), self._end
        try:
            while data:
                written = os.pwrite(self._descriptor, data, at)
                data, at = data[written:], at + written
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end, self.rows = at, self.rows + len(lines)

    def _complete(self) -> None:
        """Counts rows, and cuts off a last one that a killed process has not finished."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            for line in file:
                if not self.rows and not line.startswith(b'["'):
                    raise OSError(errno.EEXIST, "something else has this name", str(self.path))
                if line.endswith(b"\n"):
                    self._end, self.rows = self._end + len(line), self.rows + 1
        os.ftruncate(self._descriptor, self._end)

    def _take_over(self, path: Path) -> None:
        """Appends the file of a process that has ended, and removes it."""
        descriptor = _locked(path, 0) if re.fullmatch(r"-\d+", path.name[len(self._base) :]) else None
        if descriptor is None:
            return
        with os.fdopen(descriptor, "rb") as file:
            lines = [line for line in file if line.endswith(b"\n") and line.startswith(b'["')]
            self._append(lines)
            path.unlink(missing_ok=True)


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.name}-{number}")


def _locked(path: Path, flags: int) -> int | None:
    """A descriptor of a file that is this process's own; None where another one has it, or it was removed meanwhile.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | flags | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        if try_lock(descriptor) and os.fstat(descriptor).st_ino == os.stat(path).st_ino:
            return descriptor
    except FileNotFoundError:
        pass
    os.close(descriptor)
    return None


def _parse_row(line: bytes) -> Row | None:
    try:
        table, values = json.loads(line)
        return (table, values) if table in COLUMNS and isinstance(values, dict) else None
    except (ValueError, TypeError, RecursionError):
        return None
