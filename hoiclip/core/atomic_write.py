"""Result files that appear whole or not at all, and the folders they lie in."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hoiclip.core.errors import SinkError

TEMPORARY_SUFFIX = ".part"
"""Suffix of a file while it is written; a file with it that is left after a crash can be deleted."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a hidden path beside `path` to write to, and renames it to `path` once the block ends without an error.

    After an error or a power failure `path` is what it was before; the temporary file is removed unless the process
    was killed.

    Raises:
        OSError: the file cannot be written or renamed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Writes text as UTF-8, or bytes, atomically; missing parent folders are made.

    A link stays a link: the file behind it is written. Devices and pipes are written to as they are.

    Raises:
        SinkError: the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve() if path.is_symlink() else path
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        with atomic_write(target) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose a folder that is writable") from error


def replace_path(made: Path, target: Path) -> None:
    """Moves a file or a folder over `target`. A folder that was there stays, hidden, beside `made`.

    Raises:
        OSError: it cannot be moved.
    """
    if made.is_dir() and target.is_dir():
        os.replace(target, made.with_name(f".old-{made.name}"))
    os.replace(made, target)


def make_folder(path: Path) -> None:
    """Makes a folder with all its parents; an existing one is left as it is.

    Raises:
        SinkError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {path}: {error.strerror}; choose another with --out") from error
