"""The folder of one file while it is worked on: its plan, the looks at its units, and who has tried what.

Files appear whole or not at all, so a unit is done where its looks are there, however often it was begun.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hoiclip_engine.archive.plan import Plan, plan_from_json, plan_to_json

PLANNING = "plan"
"""The unit of opening and cutting, besides those of the plan."""
_LOOKS, _TRY = ".looks.parquet", ".try"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside the path to write to; it becomes the path if nothing goes wrong, and nothing otherwise."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Workplace:
    """Several processes may work in it, each on a unit of its own."""

    folder: Path

    @property
    def plan(self) -> Plan | None:
        """None where there is none that can be read."""
        try:
            return plan_from_json((self.folder / "plan.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_plan(self, plan: Plan) -> None:
        with whole_file(self.folder / "plan.json") as path:
            path.write_text(plan_to_json(plan), encoding="utf-8")

    def looks(self, unit: str) -> Path:
        """Where the looks at a unit are, once they are done."""
        return self.folder / f"{unit}{_LOOKS}"

    def units_left(self, plan: Plan) -> list[str]:
        """Those without looks, in order."""
        there = {path.name for path in self.folder.glob(f"*{_LOOKS}")}
        return [unit for unit in plan.units if self.looks(unit).name not in there]

    def begin(self, unit: str) -> None:
        """Leaves a mark that stays if this process dies; it says which one that is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / f"{unit}{_TRY}{self.tries(unit)}"
        mark.write_text(f"{platform.node()} {os.getpid()}\n", encoding="utf-8")

    def end(self, unit: str) -> None:
        """Takes the marks of a unit away: whatever became of it, nobody died of it."""
        for mark in self.folder.glob(f"{unit}{_TRY}*"):
            mark.unlink(missing_ok=True)

    def tries(self, unit: str) -> int:
        """How often it was begun by processes that did not come back, or by one that is at it."""
        return len(list(self.folder.glob(f"{unit}{_TRY}*")))

    @property
    def marks(self) -> int:
        """Of all units together."""
        return len(list(self.folder.glob(f"*{_TRY}*")))

    def tidy(self) -> None:
        """Takes away what processes left that were ended from outside; nobody may be at work."""
        for left in (*self.folder.glob(f"*{_TRY}*"), *self.folder.glob("*.part")):
            left.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
