"""A text file a sink writes line by line; every failure is one SinkError."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

from hoiclip.errors import SinkError


class TextFile:
    """Opened for writing; "-" is standard output."""

    def __init__(self, path: str | Path) -> None:
        self._name = "standard output" if str(path) == "-" else str(path)
        try:
            self._file: TextIO = sys.stdout if str(path) == "-" else open(path, "w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise self._failed(error) from error

    def write(self, text: str) -> None:
        """Writes and flushes, so that a killed process leaves whole lines."""
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        if self._file is not sys.stdout:
            try:
                self._file.close()
            except OSError as error:
                raise self._failed(error) from error

    def _failed(self, error: Exception) -> SinkError:
        why = getattr(error, "strerror", None) or str(error)
        return SinkError(f"cannot write {self._name}: {why}; choose a place that exists, is writable and has room")
