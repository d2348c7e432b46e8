"""Times of the week at which a rule counts: days, hours and a time zone, read from foreign values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hoiclip.core.untrusted_values import shown

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_KEYS = ("days", "hours", "timezone")
MOST_ITEMS = 24
_LONGEST_NAME = 80
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklySchedule:
    """Times of the week."""

    days: tuple[int, ...] = tuple(range(7))
    """0 is Monday."""
    hours: tuple[tuple[int, int], ...] = ((0, _DAY_MINUTES),)
    """First minute of the day, and the one after the last; a span over midnight belongs to the day it begins on."""
    timezone: str = ""
    """Name in the tz database, such as Europe/Berlin; empty: that of the machine."""

    def includes(self, time: datetime) -> bool:
        """Args: time: with its time zone."""
        local = time.astimezone(ZoneInfo(self.timezone) if self.timezone else None)
        minute, today = 60 * local.hour + local.minute, local.weekday() in self.days
        yesterday = (local - timedelta(days=1)).weekday() in self.days
        return any(
            today and start <= minute < end
            if start < end
            else (today and minute >= start) or (yesterday and minute < end)
            for start, end in self.hours
        )

    def as_dict(self) -> dict[str, Any]:
        """As `read_schedule` reads it."""
        hours = [f"{_clock(start)}-{_clock(end)}" for start, end in self.hours]
        zone = {"timezone": self.timezone} if self.timezone else {}
        return {"days": [DAYS[day] for day in self.days], "hours": hours, **zone}


def read_schedule(value: object) -> WeeklySchedule:
    """A schedule of {"days": ["mon-fri"], "hours": ["08:00-17:00"], "timezone": "Europe/Berlin"}.

    Raises:
        ValueError: it is none; what was expected, what was found.
    """
    if not isinstance(value, Mapping):
        example = '{ days = ["mon-fri"], hours = ["08:00-17:00"] }'
        raise ValueError(f"expected days and hours, such as {example}, found {shown(value)}; correct it")
    for key in value:
        if key not in _KEYS:
            raise ValueError(f"expected {', '.join(_KEYS)}, found {shown(key)}; rename it")
    times: dict[str, Any] = {}
    if "days" in value:
        times["days"] = tuple(sorted({day for word in _words(value["days"], "days") for day in _days(word)}))
    if "hours" in value:
        times["hours"] = tuple(_hours(word) for word in _words(value["hours"], "hours"))
    if not times:
        raise ValueError("expected days or hours, found neither; leave schedule out for a rule that always counts")
    return WeeklySchedule(**times, timezone=_timezone(value.get("timezone", "")))


def _words(value: object, what: str) -> list[object]:
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= MOST_ITEMS:
        found = f"{len(value)} of them" if isinstance(value, (list, tuple)) else shown(value)
        raise ValueError(f"expected a list of 1 to {MOST_ITEMS} {what}, found {found}; correct it")
    return list(value)


def _days(word: object) -> Iterator[int]:
    """Indices of "mon", or of a span such as "mon-fri", which may lead over Sunday."""
    ends = [part.strip().lower() for part in word.split("-")] if isinstance(word, str) else []
    numbers = [names.index(end) for end in ends for names in (DAYS, _DAY_NAMES) if end in names]
    if len(numbers) not in (1, 2) or len(numbers) != len(ends):
        raise ValueError(f"expected days such as mon or mon-fri, found {shown(word)}; there are {', '.join(DAYS)}")
    yield from ((numbers[0] + step) % 7 for step in range((numbers[-1] - numbers[0]) % 7 + 1))


def _hours(word: object) -> tuple[int, int]:
    found = re.fullmatch(r"(\d\d):([0-5]\d)\s*-\s*(\d\d):([0-5]\d)", word, re.ASCII) if isinstance(word, str) else None
    start, end = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])) if found else (0, -1)
    if not (found and start < _DAY_MINUTES and end <= _DAY_MINUTES):
        raise ValueError(f"expected hours such as 08:00-17:30 or 22:00-06:00, found {shown(word)}; correct it")
    if start == end:
        raise ValueError(f"expected hours with a duration, found {shown(word)}; the whole day is 00:00-24:00")
    return start, end


def _timezone(value: object) -> str:
    try:
        if isinstance(value, str) and len(value) <= _LONGEST_NAME:
            return ZoneInfo(value).key if value else ""
    except (ValueError, KeyError, OSError):
        pass
    raise ValueError(
        f"expected a time zone such as Europe/Berlin, found {shown(value)}; without one it is the machine's"
    )


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
