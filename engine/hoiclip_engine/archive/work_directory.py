"""Work directory of one file: its split plan, cached detections of its work items, marks of processes; and jobs on it.

Files appear whole or not at all, so a work item is done where its detections exist, however often it was begun.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from hoiclip.core.atomic_write import TEMPORARY_SUFFIX, atomic_write
from hoiclip_engine.sources.base import Hwaccel, SourceConfig, SourceInfo
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.segment import FileSegment, split_file

WHOLE = "whole"
"""Name of the one work item of a file that is not split."""
_FRACTIONS = ("time_base", "average_rate")
PLANNING = "plan"
"""Work item of opening and splitting the file, besides those of the plan."""
_DETECTIONS, _TRY = ".looks.parquet", ".try"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """Division of one file into work items."""

    info: SourceInfo
    segments: tuple[FileSegment, ...] = ()
    """In order; none where the file is processed as a whole."""
    unsplit_because: str = ""
    """Fault of the segments of a file that was split at first."""

    @property
    def work_items(self) -> tuple[str, ...]:
        """Names of the work items, in the order of the file."""
        return tuple(f"{number:05d}" for number in range(len(self.segments))) or (WHOLE,)

    def segment(self, work_item: str) -> FileSegment | None:
        """Segment of a work item; None for the whole file.

        Raises:
            KeyError: the plan has no such work item (any more).
        """
        if work_item not in self.work_items:
            raise KeyError(work_item)
        return None if work_item == WHOLE else self.segments[int(work_item)]

    def unsplit(self, because: str) -> SplitPlan:
        """Plan of the same file as a whole."""
        return replace(self, segments=(), unsplit_because=because)


def make_split_plan(path: Path, segment_s: float, config: SourceConfig) -> SplitPlan:
    """Opens the file and reads it through once.

    Raises:
        SourceError: nothing can be read from it; the message says why.
    """
    with open_video(path, config) as source:
        return SplitPlan(info=source.info, segments=split_file(path, segment_s, config))


def plan_to_json(plan: SplitPlan) -> str:
    """One object; fractions as text."""
    info = asdict(plan.info)
    for name in _FRACTIONS:
        info[name] = None if info[name] is None else str(info[name])
    segments = [asdict(segment) for segment in plan.segments]
    return json.dumps({"info": info, "parts": segments, "uncut_because": plan.unsplit_because}, indent=1)


def plan_from_json(text: str) -> SplitPlan:
    """Raises ValueError, KeyError, TypeError: not what plan_to_json wrote."""
    fields: dict[str, Any] = json.loads(text)
    info = fields["info"]
    info["notes"] = tuple(info.get("notes", ()))
    for name in _FRACTIONS:
        info[name] = None if info[name] is None else Fraction(info[name])
    segments = tuple(FileSegment(**segment) for segment in fields["parts"])
    return SplitPlan(info=SourceInfo(**info), segments=segments, unsplit_because=fields["uncut_because"])


@dataclass(frozen=True, slots=True)
class WorkDirectory:
    """Several processes may work in it, each on a work item of its own."""

    folder: Path

    @property
    def plan(self) -> SplitPlan | None:
        """None where there is none that can be read."""
        try:
            return plan_from_json((self.folder / "plan.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_plan(self, plan: SplitPlan) -> None:
        with atomic_write(self.folder / "plan.json") as path:
            path.write_text(plan_to_json(plan), encoding="utf-8")

    def detections(self, work_item: str) -> Path:
        """Path of the cached detections of a work item, which exists once they are complete."""
        return self.folder / f"{work_item}{_DETECTIONS}"

    def items_left(self, plan: SplitPlan) -> list[str]:
        """Work items without detections, in order."""
        done = {path.name for path in self.folder.glob(f"*{_DETECTIONS}")}
        return [work_item for work_item in plan.work_items if self.detections(work_item).name not in done]

    def begin(self, work_item: str) -> None:
        """Leaves a mark with the name of this process; it stays if the process dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / f"{work_item}{_TRY}{self.tries(work_item)}"
        mark.write_text(f"{platform.node()} {os.getpid()}\n", encoding="utf-8")

    def end(self, work_item: str) -> None:
        """Removes the marks of a work item: whatever the result, no process died of it."""
        for mark in self.folder.glob(f"{work_item}{_TRY}*"):
            mark.unlink(missing_ok=True)

    def tries(self, work_item: str) -> int:
        """Number of processes that began it and died, or are still at work."""
        return len(list(self.folder.glob(f"{work_item}{_TRY}*")))

    @property
    def marks(self) -> int:
        """Number of marks of all work items together."""
        return len(list(self.folder.glob(f"*{_TRY}*")))

    def tidy(self) -> None:
        """Removes the remains of processes that were killed; no process may be at work."""
        for left in (*self.folder.glob(f"*{_TRY}*"), *self.folder.glob(f"*{TEMPORARY_SUFFIX}")):
            left.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileJob:
    """One file of the archive. Plain values, to be sent to other processes."""

    name: str
    """Of its results; no other file of the archive has it."""
    path: str
    folder: str
    """Its work directory."""
    segment_s: float
    hwaccel: Hwaccel = "none"
    decoder_threads: int = 0
    """Number in the coordinator's process, as workers see only their fraction of the processors."""
    work_item: str = PLANNING
    max_marks: int = 0
    """Marks of processes, at work or dead, that the file may have when another one begins. Beyond that a process has
    died, and no other should."""

    @property
    def source_config(self) -> SourceConfig:
        return SourceConfig(hwaccel=self.hwaccel, decoder_threads=self.decoder_threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """Outcome of a job."""

    name: str
    work_item: str
    frames: int = 0
    complete: bool = True
    """Whether all frames of a segment were decoded as planned."""
    error: str = ""
    """Fault of the file, for which nothing can be read from it."""
    fatal: int = 0
    """Exit code of an error that is not the file's: all work must stop."""
