"""A text file a sink writes line by line; every failure is one SinkError."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO

from hoiclip.errors import SinkError
from hoiclip_engine.printable import printable


class TextFile:
    """Opened for writing; "-" is standard output. After a failure it takes no more text, so that one error is told."""

    def __init__(self, path: str | Path) -> None:
        """Creates the file.

        Raises:
            SinkError: it cannot be created.
        """
        self._name = "standard output" if str(path) == "-" else str(path)
        self._file: TextIO | None = None
        try:
            # Our own newline: Windows would write another.
            self._file = sys.stdout if str(path) == "-" else Path(path).open("w", encoding="utf-8", newline="\n")  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise self._failure(error) from None

    def write(self, text: str) -> None:
        """Writes and flushes, so that a killed process leaves whole lines.

        Raises:
            SinkError: the disk is full, or nobody reads the pipe any more.
        """
        if self._file is None:
            return
        try:
            self._file.write(printable(text) if self._file is sys.stdout else text)
            self._file.flush()
        except (OSError, ValueError) as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """May be called twice."""
        file, self._file = self._file, None
        if file is not None and file is not sys.stdout:
            try:
                file.close()
            except OSError as error:
                raise self._failure(error) from None

    def _failure(self, error: OSError | ValueError) -> SinkError:
        file, self._file = self._file, None
        with contextlib.suppress(OSError, ValueError):
            if file is not None and file is not sys.stdout:
                file.close()
        _drop_stdout(file)
        if isinstance(error, BrokenPipeError):
            return SinkError(f"cannot write results to {self._name}: its reader has gone away; let it read to the end")
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return SinkError(f"cannot write {self._name}: {reason}; choose a place that exists, is writable and has room")


def _drop_stdout(file: TextIO | None) -> None:
    """Python flushes stdout once more when it ends, and would complain about what it cannot write again."""
    if file is not None and file is sys.stdout:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
