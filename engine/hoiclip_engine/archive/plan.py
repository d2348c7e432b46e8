"""What is known of a file before anybody looks at it: its description and the parts it is looked at in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from hoiclip_engine.video.cutting import Part, parts_of
from hoiclip_engine.video.frame_source import SourceInfo
from hoiclip_engine.video.source import open_video
from hoiclip_engine.video.source_config import SourceConfig

WHOLE = "whole"
"""The name of the one unit of a file that is not cut."""
_FRACTIONS = ("time_base", "average_rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one file is looked at."""

    info: SourceInfo
    parts: tuple[Part, ...] = ()
    """In order; none where the file is looked at as a whole."""
    uncut_because: str = ""
    """What was wrong with the parts of a file that was cut at first."""

    @property
    def units(self) -> tuple[str, ...]:
        """Names of what is looked at in one go, in the order of the file."""
        return tuple(f"{number:05d}" for number in range(len(self.parts))) or (WHOLE,)

    def part(self, unit: str) -> Part | None:
        """None for the whole file.

        Raises:
            KeyError: the plan has no such unit (any more).
        """
        if unit not in self.units:
            raise KeyError(unit)
        return None if unit == WHOLE else self.parts[int(unit)]

    def uncut(self, because: str) -> Plan:
        """The same file as a whole."""
        return replace(self, parts=(), uncut_because=because)


def make_plan(path: Path, part_s: float, config: SourceConfig) -> Plan:
    """Opens the file and reads it through once.

    Raises:
        SourceError: nothing can be read from it; the message says why.
    """
    with open_video(path, config) as source:
        return Plan(info=source.info, parts=parts_of(path, part_s, config))


def plan_to_json(plan: Plan) -> str:
    """One object; fractions as text."""
    fields = asdict(plan)
    for name in _FRACTIONS:
        value: Fraction | None = fields["info"][name]
        fields["info"][name] = None if value is None else str(value)
    return json.dumps(fields, indent=1)


def plan_from_json(text: str) -> Plan:
    """Raises ValueError, KeyError, TypeError: not what plan_to_json wrote."""
    fields: dict[str, Any] = json.loads(text)
    info = fields["info"]
    info["notes"] = tuple(info.get("notes", ()))
    for name in _FRACTIONS:
        info[name] = None if info[name] is None else Fraction(info[name])
    parts = tuple(Part(**part) for part in fields["parts"])
    return Plan(info=SourceInfo(**info), parts=parts, uncut_because=fields["uncut_because"])
