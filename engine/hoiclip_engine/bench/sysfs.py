"""Small files by which Linux tells numbers; one that is missing or may not be read tells nothing."""

from __future__ import annotations

import math
from pathlib import Path


def text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def lines(path: Path) -> list[str]:
    return (text(path) or "").splitlines()


def number(path: Path) -> float | None:
    return as_number(text(path))


def as_number(found: str | None) -> float | None:
    try:
        value = math.nan if found is None else float(found)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
