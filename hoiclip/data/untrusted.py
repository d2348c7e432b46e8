"""Single values out of annotation files that somebody else wrote: checked one by one, each error naming its field.

Every function raises ValueError with the field and what was found; whoever reads a file adds path and picture.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from hoiclip.errors import DataError

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

LARGEST_PX = 1e6
"""A coordinate beyond this is no pixel; float32 still tells half pixels apart there."""


def read_json(path: Path) -> Any:
    """
    Raises:
        DataError: the file cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror or error}); expected a JSON file of annotations"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); expected annotations") from error


def whole(value: object, field: str) -> int:
    """A whole number; some published files write it as text."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{field} must be a whole number, found {shown(value)}")


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
    """Four pixel coordinates; whether they make a sensible box is not looked at."""
    if not (isinstance(value, (list, tuple)) and len(value) == 4 and all(map(_is_coordinate, value))):
        raise ValueError(f"{field} must be four pixel coordinates, found {shown(value)}")
    x1, y1, x2, y2 = map(float, value)
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
    """A path below the folder of pictures; nothing that leads out of it."""
    if not (isinstance(value, str) and value and value.isprintable()):
        raise ValueError(f"{field} must be a file name, found {shown(value)}")
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError(f"{field} must lie below the folder of pictures, found {shown(value)}")
    return value


def shown(value: object) -> str:
    """Short enough for one line."""
    text = ascii(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_coordinate(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST_PX
