"""A number that not every machine tells: the number, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Exactly one of value and reason is None."""

    value: Any = None
    reason: str | None = None
    """Why there is no value, in a few words."""
    source: str | None = None
    """Who told it."""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"expected a value or a reason, got {self}")

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "reason": self.reason, "source": self.source}


def untold(reason: str) -> Told:
    return Told(reason=reason)
