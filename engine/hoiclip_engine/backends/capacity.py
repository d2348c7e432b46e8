"""How much a compiled model takes at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What is asked of a backend, and what it then offers, which may be less."""

    batch: int = 1
    """Pictures of one call; it takes exactly so many."""
    lanes: int = 1
    """Calls at a time, each from a thread of its own."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.lanes < 1:
            raise ValueError(f"batch and lanes must be at least 1, got {self}")


ONE = Capacity()
"""One picture at a time: the least latency."""
