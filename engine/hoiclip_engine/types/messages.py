"""Messages to webhooks and brokers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event of a source, as it waits for its delivery."""

    id: str
    """The same in every attempt, also after a restart: the run's id and a number."""
    kind: str
    """verb.start, verb.end, rule.start, rule.update, rule.end, source.lost or source.back."""
    source: str
    """Name of the source, distinct in its run and safe in topics and file names."""
    time: str
    """Time of the report, UTC in ISO 8601."""
    payload: Mapping[str, Any]
    """Fields as in JSON lines, and the printable `source`."""
