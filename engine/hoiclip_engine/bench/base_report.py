"""Reads the report that a run is compared with. People edit such files, and name others: nothing in it is trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data.untrusted import shown
from hoiclip.errors import UsageError
from hoiclip.foreign_file import parse_json, read_text
from hoiclip_engine.bench.regression import TimedBlock
from hoiclip_engine.bench.report import SCHEMA

LARGEST_BYTES = 1 << 28
SAME = ("subject", "load", "streams", "fps", "times_rate", "picture_px", "canvas_px")
"""What two scenarios must share for their times to compare."""
_AGAIN = "make it again: hoiclip bench --json FILE"


def read_reports(path: Path) -> list[dict[str, Any]]:
    """All reports of a file of JSON lines.

    Raises:
        UsageError: there is no such file, or something else is in it.
    """
    try:
        text = read_text(path, LARGEST_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"expected a report to compare with, cannot read {path} ({why}); {_AGAIN}") from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            found.append(_checked(line, f"{path}, line {number}"))
    if not found:
        raise UsageError(f"expected a report in {path}, found nothing; {_AGAIN}")
    return found


def matching(reports: Sequence[Mapping[str, Any]], now: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The latest report of the same scenario on the same machine.

    Raises:
        UsageError: there is none; what differs is told.
    """
    differences: list[str] = []
    for one in reports[::-1]:
        differs = _difference(one, now)
        if differs is None:
            return one
        differences.append(differs)
    raise UsageError(f"{path} has no report of this scenario on this machine: {differences[0]}; measure the base again")


def timed_blocks(report: Mapping[str, Any]) -> list[TimedBlock]:
    """Those in which anything was answered."""
    return [
        TimedBlock(
            latency_ms=np.array(block["latency_ms"], np.float64),
            frames=block["frames"],
            seconds=float(block["seconds"]),
            probe_ms=None if block["probe_ms"] is None else float(block["probe_ms"]),
        )
        for block in report["blocks"]
        if block["latency_ms"]
    ]


def _difference(base: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    for name in SAME:
        theirs, ours = base["scenario"].get(name), now["scenario"][name]
        if theirs != ours:
            return f"{name} was {shown(theirs)}, is {shown(ours)}"
    for name in ("cpu", "cores", "flags"):
        theirs, ours = base["machine"].get(name), now["machine"][name]
        if theirs != ours:
            return f"its {name} was {shown(theirs)}, is {shown(ours)}, and times of different machines do not compare"
    theirs, ours = _probe(base), _probe(now)
    if theirs != ours:
        return f"the work that tells the machine's speed was {shown(theirs)}, is {shown(ours)}"
    theirs, ours = base["artefact"].get("device"), now["artefact"]["device"]
    return None if theirs == ours else f"it was of the device {shown(theirs)}, this is {shown(ours)}"


def _probe(report: Mapping[str, Any]) -> object:
    return report["probe"].get("what")


def _checked(line: str, where: str) -> dict[str, Any]:
    """A report, as far as comparing needs it."""
    try:
        made = parse_json(line)
    except ValueError as error:
        raise UsageError(f"expected a report of hoiclip bench in {where}, found no JSON ({error}); {_AGAIN}") from error
    wrong = _wrong(made)
    if wrong:
        raise UsageError(f"expected a report of hoiclip bench in {where}, {wrong}; {_AGAIN}")
    return dict(made)


def _wrong(made: Any) -> str:
    """What is wrong with it; empty where nothing is."""
    if not isinstance(made, dict) or made.get("schema") != SCHEMA:
        found = made.get("schema") if isinstance(made, dict) else made
        return f"its schema must be {SCHEMA}, found {shown(found)}"
    for name in ("scenario", "machine", "artefact", "probe"):
        if not isinstance(made.get(name), dict):
            return f"{name} must be an object, found {shown(made.get(name))}"
    blocks = made.get("blocks")
    if not isinstance(blocks, list) or not blocks:
        return f"blocks must be a list, found {shown(blocks)}"
    for row, block in enumerate(blocks):
        if not isinstance(block, dict):
            return f"block {row} must be an object, found {shown(block)}"
        if not _is_positive(block.get("seconds")):
            return f"seconds of block {row} must be positive, found {shown(block.get('seconds'))}"
        frames = block.get("frames")
        if not isinstance(frames, int) or isinstance(frames, bool) or not 0 <= frames < 1 << 53:
            return f"frames of block {row} must be a number of frames, found {shown(frames)}"
        if "probe_ms" not in block or not (block["probe_ms"] is None or _is_positive(block["probe_ms"])):
            return f"probe_ms of block {row} must be positive or null, found {shown(block.get('probe_ms'))}"
        latency = block.get("latency_ms")
        if not isinstance(latency, list) or not all(map(_is_positive, latency)):
            return f"latency_ms of block {row} must be positive numbers, found {shown(latency)}"
        if bool(latency) != bool(frames):
            return f"block {row} must have frames where it has latencies, found {frames} and {len(latency)}"
    return ""


def _is_positive(value: object) -> bool:
    """Between a nanosecond and a year, so that no ratio overflows."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and 1e-9 <= value <= 1e11 if isinstance(value, float) else 0 < value < 1 << 36
