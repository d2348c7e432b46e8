"""Reader of foreign files: opened only if they are regular, bounded in size, text and JSON by one rule.

Every failure is an OSError with a reason (a named pipe, a directory, too large) or a ValueError with the content found;
callers add the path and what to do.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_TEXT = 1 << 29
"""Bytes of a file of text. The largest public annotations of one file, COCO's train2017, have 448 MB."""
MOST_CONTAINERS = 1 << 24
"""Lists and objects of one JSON text; COCO's train2017 has 5 million. Python takes 60 to 230 bytes for each, even
where the text has two."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> BinaryIO:
    """The file opened for reading, after checking that reading it neither blocks nor has side effects.

    Raises:
        OSError: no such file, or a directory, pipe, socket or device.
    """
    try:
        _check_regular(path.stat().st_mode, path)
        # Must not block either if a pipe has replaced the file since then.
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except ValueError as error:  # a zero byte
        raise OSError(errno.EINVAL, "no name a file can have", str(path)) from error
    try:
        _check_regular(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def _check_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise OSError(errno.EINVAL, f"{kind}, no regular file", str(path))


def read_bytes(path: Path, largest: int = LARGEST_TEXT) -> bytes:
    """The whole file.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than `largest` bytes.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest >> 20} MiB", str(path))
        return file.read()


def decode_text(data: bytes) -> str:
    """Decodes UTF-8, or another Unicode encoding if the text begins with its byte order mark, which is removed.

    Raises:
        ValueError: it is none of these.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding)
    return data.decode("utf-8")


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """
    Raises:
        OSError: see read_bytes.
        ValueError: not in a Unicode encoding.
    """
    return decode_text(read_bytes(path, largest))


def parse_json(text: str, *, finite: bool = False) -> Any:
    """Foreign JSON: duplicate names in an object, and nesting or containers that would exhaust memory, are refused.

    Args:
        finite: refuse NaN and infinities, which are not JSON although Python writes them.

    Raises:
        ValueError: no JSON, or such JSON.
    """
    if text.count("[") + text.count("{") > MOST_CONTAINERS:  # counts also those in texts, which are few
        raise ValueError(f"more than {MOST_CONTAINERS} lists and objects")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse if finite else None)
    except RecursionError:
        raise ValueError("lists or objects nested too deeply") from None
    except MemoryError:
        raise ValueError("more than fits into memory") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        # Python's own message says how to raise its limit of digits.
        raise ValueError("a number of thousands of digits" if "digits" in str(error) else str(error)) from None


def read_json(path: Path, largest: int = LARGEST_TEXT) -> Any:
    """
    Raises:
        OSError: see read_bytes.
        ValueError: see parse_json.
    """
    return parse_json(read_text(path, largest))


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses duplicate names, of which the last value would silently win."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        duplicate, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {duplicate!a:.60} twice in one object")
    return fields
