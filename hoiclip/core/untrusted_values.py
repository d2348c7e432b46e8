"""Checked single values of foreign annotation files.

Every function raises ValueError with the field and the value found; callers add path and image.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Container
from pathlib import Path, PurePosixPath
from typing import Any

from hoiclip.core.errors import DataError
from hoiclip.core.foreign_file import parse_json, read_text

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

LARGEST_PX = 1e6
"""A coordinate beyond this is no pixel; float32 still resolves half pixels there."""
_EXACT = 1 << 53
"""Beyond it a number written with decimals is not exact."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_LONGEST_NUMBER = 40


def read_json(path: Path) -> Any:
    """One JSON value; of JSON lines (.jsonl, .odgt), a value a line, the list of them.

    Raises:
        DataError: the file cannot be read, or is no JSON.
    """
    try:
        text = read_text(path)
        try:
            return parse_json(text)
        except json.JSONDecodeError as error:
            lines = [line for line in text.split("\n") if line.strip()]
            if error.msg != "Extra data" or len(lines) < 2 or error.lineno == 1:
                raise
            return parse_json("[" + ",\n".join(lines) + "]")
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror or error}); expected a JSON file of annotations"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON that can be read ({error}); expected annotations") from error


def whole(value: object, field: str) -> int:
    """A whole number, also written as text or with decimals: "1", 1.0, "1.0"."""
    read = _read_number(value)
    if isinstance(read, float) and read.is_integer() and abs(read) <= _EXACT:
        read = int(read)
    if not isinstance(read, int):
        raise ValueError(f"{field} must be a whole number, found {shown(value)}")
    return read


def number(value: object, field: str, least: float, most: float) -> float:
    """A number within these bounds, also written as text."""
    read = _read_number(value)
    if read is None or not least <= read <= most:
        raise ValueError(f"{field} must be a number in [{least:g}, {most:g}], found {shown(value)}")
    return float(read)


def flag(value: object, field: str) -> bool:
    """True or false, also written as 1 or 0 in any form of a number; null is false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    read = _read_number(value)
    if read not in (0, 1):
        raise ValueError(f"{field} must be 0 or 1, found {shown(value)}")
    return read == 1


def _read_number(value: object) -> int | float | None:
    """None for values that are no number, such as true and false."""
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER or not _NUMBER.fullmatch(value.strip()):
            return None
        return float(value) if set(value) & set(".eE") else int(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or (isinstance(value, float) and math.isnan(value))
    ):
        return None
    return value


def only_once(key: object, known: Container[object], field: str) -> None:
    """Raises ValueError for a duplicate of a key that must be unique: it would silently replace the other."""
    if key in known:
        raise ValueError(f"{field} {shown(key)} is there twice, expected once; remove or renumber one of them")


def index(value: object, field: str, count: int) -> int:
    """A whole number from 0 to count - 1."""
    number = whole(value, field)
    if not 0 <= number < count:
        raise ValueError(f"{field} must be at least 0 and below {count}, found {shown(number)}")
    return number


def size_px(value: object, field: str) -> int:
    """Width or height."""
    number = whole(value, field)
    if not 1 <= number <= LARGEST_PX:
        raise ValueError(f"{field} must be a size in pixels, found {shown(number)}")
    return number


def box(value: object, field: str) -> Box:
    """Four pixel coordinates; they need not have an area."""
    read = [_read_number(corner) for corner in value] if isinstance(value, (list, tuple)) and len(value) == 4 else []
    corners = [float(corner) for corner in read if corner is not None and abs(corner) <= LARGEST_PX]
    if len(corners) != 4:
        raise ValueError(f"{field} must be four pixel coordinates, found {shown(value)}")
    x1, y1, x2, y2 = corners
    return x1, y1, x2, y2


def items(value: object, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{field} must be a list, found {shown(value)}")
    return value


def fields(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{field} must be an object with fields, found {shown(value)}")
    return value


def file_name(value: object, field: str = "file_name") -> str:
    """A path below the folder of images; nothing that leads out of it."""
    if not (isinstance(value, str) and value and value.isprintable()):
        raise ValueError(f"{field} must be a file name, found {shown(value)}")
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError(f"{field} must lie below the folder of images, found {shown(value)}")
    return value


def shown(value: object) -> str:
    """The value as text that fits into one line."""
    huge = isinstance(value, int) and abs(value) >= 1 << 64
    text = "a huge number" if huge else _short.repr(value).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "..."


_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = 6
_short.maxstring = _short.maxlong = 64
