"""Wall times as text: UTC in ISO 8601, which sorts as it is."""

from __future__ import annotations

import re
from datetime import datetime, timezone


def utc_text(moment: datetime | None = None, timespec: str = "seconds") -> str:
    """A time with a Z, for example 2026-01-31T08:00:00Z.

    Args:
        moment: None: now. Without a zone, local.
        timespec: as of datetime.isoformat; of one timespec all are of one length.
    """
    utc = datetime.now(timezone.utc) if moment is None else moment.astimezone(timezone.utc)
    return utc.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def utc_file_name(moment: datetime) -> str:
    """A time as part of a file's name, to the millisecond: 2026-01-31T08-00-00.123Z."""
    return utc_text(moment, "milliseconds").replace(":", "-")


def read_time(text: str) -> datetime:
    """A time in ISO 8601, with the local zone where it names none.

    Raises:
        ValueError, OverflowError: it is none, or before all calendars.
    """
    # Python 3.10 reads neither Z nor other than three or six digits.
    found = re.fullmatch(r"(.*?)(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?", text)
    if found is None:
        raise ValueError(f"expected a time in ISO 8601, got {text!r:.40}")
    plain, fraction, zone = found.groups("")
    padded = fraction.ljust(7, "0") if fraction else ""
    return datetime.fromisoformat(f"{plain}{padded}{'+00:00' if zone == 'Z' else zone}").astimezone()
