"""Checks of what a run with rules, evidence, a record and MQTT left behind: nothing lost, nothing twice, files whole.

JSON lines are what the pipeline saw: they are written first, and every line is flushed. A process that is killed may
lose what had not been reported as written, the hits of its last moments. Runs are made by soak.py and kills.py.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import av
import cv2

LOSS_S = 2.0
"""A killed process may lose hits of its last seconds: rows are collected for 0.5 s, then written in a transaction."""
MILLISECOND = timedelta(milliseconds=1)
"""To which names of files are cut off."""
FLAT_RSS = 1.05
FLAT_THREADS = 2
FLAT_DESCRIPTORS = 4


@dataclass(kw_only=True)
class ReportedHit:
    """A hit of a rule as JSON lines have it."""

    rule: str
    start_s: float
    reported_s: float
    """Time of the frame with which it was reported."""
    end_s: float | None = None
    end_reported_s: float | None = None


@dataclass(kw_only=True)
class Pass:
    """What JSON lines say of one pass over a source."""

    source: str = ""
    begun_at: datetime | None = None
    """Wall time in the name of the file."""
    hits: dict[int, ReportedHit] = field(default_factory=dict)
    frames: int = 0
    messages: int = 0
    """Lines of events and hits, each of which is a message to the broker."""
    last_s: float = 0.0
    """Time of the last frame."""
    summary: Mapping[str, Any] | None = None
    """None where the process was killed."""
    broken_lines: int = 0

    @property
    def sure_s(self) -> float:
        """Time of a live stream up to which nothing may be lost."""
        return float("inf") if self.summary is not None else self.last_s - LOSS_S

    @property
    def counts_add_up(self) -> bool:
        """Whether frames with a result and dropped ones are all that were decoded."""
        return self.summary is None or self.summary["decoded"] == self.frames + self.summary["dropped"]


def read_pass(path: Path) -> Pass:
    """Reads JSON lines, also of a process that was killed."""
    found = Pass()
    if "_20" in path.stem:
        found.begun_at = datetime.strptime(path.stem.rsplit("_", 1)[1], "%Y-%m-%dT%H-%M-%S.%f%z")
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            found.broken_lines += 1
            continue
        _take(found, line)
    return found


def _take(found: Pass, line: Mapping[str, Any]) -> None:
    match line["type"]:
        case "header":
            found.source = line["source"]
        case "frame":
            found.frames += 1
            found.last_s = line["pts_s"]
        case "event":
            found.messages += 1
        case "summary":
            found.summary = line
        case "rule":
            found.messages += 1
            if line["event"] == "start":
                found.hits[line["hit"]] = ReportedHit(
                    rule=line["rule"], start_s=line["start_s"], reported_s=found.last_s
                )
            elif line["event"] == "end":
                hit = found.hits[line["hit"]]
                hit.end_s, hit.end_reported_s = line["pts_s"], found.last_s


def match_runs(passes: Mapping[Path, Pass], runs: Iterable[tuple[str, str, str]]) -> dict[Path, str]:
    """The recorded run of each pass, by source and time: a run starts just before the file of its JSON lines is named.

    Args:
        runs: run_id, source and started_at of each.
    """
    by_source: dict[str, list[tuple[datetime, str]]] = {}
    for run_id, source, started_at in runs:
        by_source.setdefault(source, []).append((datetime.fromisoformat(started_at.replace("Z", "+00:00")), run_id))
    matched, taken = {}, set[str]()
    for path, each in sorted(passes.items(), key=lambda item: str(item[1].begun_at)):
        begun = [
            run for run in by_source.get(each.source, []) if each.begun_at and run[0] < each.begun_at + MILLISECOND
        ]
        if begun and max(begun)[1] not in taken:
            matched[path] = max(begun)[1]
            taken.add(max(begun)[1])
    return matched


def hit_faults(reported: Pass, recorded: Mapping[int, tuple[str, float, float | None]], sure_s: float) -> list[str]:
    """Differences between the hits of a pass and its rows, but for what a kill may lose.

    Args:
        recorded: rule, start_s and end_s of each hit.
        sure_s: time of the stream before which nothing may be lost.
    """
    faults = [f"hit {number} is recorded and was not reported" for number in recorded.keys() - reported.hits.keys()]
    for number, hit in reported.hits.items():
        row = recorded.get(number)
        if row is None:
            if hit.reported_s < sure_s:
                faults.append(
                    f"hit {number} at {hit.reported_s:.2f} s is not recorded; the end is {reported.last_s:.2f} s"
                )
            continue
        rule, start_s, end_s = row
        if rule != hit.rule or abs(start_s - hit.start_s) > 1e-5:
            faults.append(f"hit {number} is recorded as {row}, reported as {hit}")
        if end_s is None and hit.end_reported_s is not None and hit.end_reported_s < sure_s:
            faults.append(f"the end of hit {number} at {hit.end_s} s is not recorded")
        if end_s is not None and (hit.end_s is None or abs(end_s - hit.end_s) > 1e-5):
            faults.append(f"hit {number} is recorded with an end at {end_s} s, reported with {hit.end_s}")
    return faults


def lost_s(reported: Pass, recorded: Iterable[int]) -> float:
    """Seconds before the end of a killed pass of the earliest hit that was lost; 0 where none was."""
    lost = [hit.reported_s for number, hit in reported.hits.items() if number not in set(recorded)]
    return reported.last_s - min(lost) if lost else 0.0


def message_faults(expected: int, received: Sequence[int], *, is_whole: bool) -> tuple[list[str], int]:
    """Checks the numbers of a run's messages, which are 0, 1, 2 ...

    Args:
        expected: messages that JSON lines have.
        received: numbers, in the order of arrival.
        is_whole: the process was not killed, so that none may be missing.

    Returns:
        Faults, and how often one came again, which "at least once" permits.
    """
    distinct = set(received)
    missing = set(range(expected)) - distinct
    lost_last = set(range(max(distinct, default=-1) + 1, expected))
    faults = [
        f"message {number} of {expected} is missing" for number in sorted(missing if is_whole else missing - lost_last)
    ]
    faults += [
        f"message {number} came and JSON lines have {expected}" for number in sorted(distinct) if number >= expected
    ]
    first = list(dict.fromkeys(received))
    if first != sorted(first):
        faults.append("messages came for the first time in another order")
    return faults, len(received) - len(distinct)


def read_hits(database: Path) -> dict[str, dict[int, tuple[str, float, float | None]]]:
    """Rule, start_s and end_s of each hit, by run and number."""
    found: dict[str, dict[int, tuple[str, float, float | None]]] = {}
    for run_id, hit, rule, start_s, end_s in query(database, "SELECT run_id, hit, rule, start_s, end_s FROM rule_hits"):
        found.setdefault(run_id, {})[hit] = (rule, start_s, end_s)
    return found


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def database_faults(database: Path) -> list[str]:
    """Damage, and hits that are there twice under two numbers."""
    faults = [f"integrity: {text}" for (text,) in query(database, "PRAGMA integrity_check") if text != "ok"]
    same = "run_id, rule, COALESCE(human, -1), verb, label, start_s"
    twice = query(database, f"SELECT {same}, COUNT(*) FROM rule_hits GROUP BY {same} HAVING COUNT(*) > 1")
    orphans = query(
        database,
        "SELECT e.run_id, e.hit FROM evidence e LEFT JOIN rule_hits h ON h.run_id = e.run_id AND h.hit = e.hit "
        "WHERE h.hit IS NULL",
    )
    return [*faults, *(f"twice: {row}" for row in twice), *(f"evidence without its hit: {row}" for row in orphans)]


def evidence_rows(database: Path) -> list[Path]:
    """Files that rows of evidence name."""
    rows = query(database, "SELECT snapshot, clip FROM evidence")
    return [Path(name) for row in rows for name in row if name is not None]


def playback_fault(path: Path) -> str | None:
    """Decodes all of a snapshot or a clip; the reason if that is not possible."""
    if path.suffix == ".jpg":
        is_whole = path.read_bytes().endswith(b"\xff\xd9") and cv2.imread(str(path)) is not None  # OpenCV fills gaps
        return None if is_whole else f"{path.name} is no whole image"
    try:
        with av.open(str(path)) as container:
            times = [frame.pts for frame in container.decode(video=0)]
            expected = sum(packet.size > 0 for packet in _packets(path))
    except (av.FFmpegError, IndexError) as error:
        return f"{path.name}: {error}"
    if not times or len(times) != expected or times != sorted(times):
        return f"{path.name} has {expected} packets and {len(times)} frames in order"
    return None


def _packets(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.demux(video=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Resources of a process at a moment."""

    at_s: float
    rss_mb: float
    threads: int
    descriptors: int


def growth(samples: Sequence[Usage]) -> dict[str, tuple[float, float]]:
    """Medians of the first and of the last third, by resource."""
    third = len(samples) // 3
    return {
        name: (
            round(statistics.median(getattr(sample, name) for sample in samples[:third]), 1),
            round(statistics.median(getattr(sample, name) for sample in samples[-third:]), 1),
        )
        for name in ("rss_mb", "threads", "descriptors")
    }


def is_flat(medians: Mapping[str, tuple[float, float]]) -> bool:
    """Whether nothing grew by more than its tolerance, which covers sources that are down in one third only."""
    rss, threads, descriptors = medians["rss_mb"], medians["threads"], medians["descriptors"]
    return (
        rss[1] <= rss[0] * FLAT_RSS
        and threads[1] <= threads[0] + FLAT_THREADS
        and descriptors[1] <= descriptors[0] + FLAT_DESCRIPTORS
    )
