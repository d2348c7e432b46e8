"""Leads the work on an archive: which jobs are handed out, what becomes of those that nobody came back from, and the
tracking of each file once all its looks are there.

What is done is read from the disk, never remembered: it is the same for a first call, for one that goes on, and behind
a worker that was killed.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from rich.progress import Progress

from hoiclip.errors import HoiclipError, SourceError
from hoiclip_engine.archive.follow import Follower
from hoiclip_engine.archive.looks_file import about_looks
from hoiclip_engine.archive.manifest import Entry, Manifest
from hoiclip_engine.archive.work import FileJob, Report
from hoiclip_engine.archive.workplace import PLANNING, Workplace
from hoiclip_engine.cpu import cpu_count
from hoiclip_engine.engine import Engine
from hoiclip_engine.folder import make_folder
from hoiclip_engine.pipeline import StreamConfig
from hoiclip_engine.results import RunSummary
from hoiclip_engine.video.decode import threads_for
from hoiclip_engine.video.part_source import joined
from hoiclip_engine.video.source_config import Hwaccel

MOST_DEATHS = 3
"""Processes that may die of one unit, the later ones while nobody else is at work, before its file is given up."""
MOST_IDLE_ROUNDS = 3
"""Rounds without any progress, after which it is not the files."""
KEEP_EVERY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadConfig:
    stream: StreamConfig
    part_s: float
    hwaccel: Hwaccel = "none"


class Pool(Protocol):
    """Whoever works."""

    workers: int

    def run(self, jobs: Sequence[FileJob], *, workers: int) -> Generator[Report | None, None, None]:
        """Reports as they come, and None whenever nothing has come for a moment; a job somebody died of has none."""
        ...


class _Fatal(HoiclipError):
    """Nobody can work."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.error)
        self.exit_code = report.fatal


class Lead:
    """Of the entries of one call. `stop` may be called from a signal handler; close it at the end."""

    def __init__(
        self, engine: Engine, manifest: Manifest, entries: Sequence[Entry], config: LeadConfig, bar: Progress
    ) -> None:
        self._manifest, self._config, self._bar = manifest, config, bar
        self._follower = Follower(engine, config.stream, manifest.folder, bar)
        self._entries = {entry.name: entry for entry in entries}
        self._stopped = False
        self._finished: list[Workplace] = []
        self._kept_s = 0.0
        self._line = bar.add_task("parts", total=None, rate="")
        self._frames, self._begun_s = 0, time.monotonic()
        make_folder(manifest.folder / "work")

    def stop(self) -> None:
        """Ends the work soon; what is finished stays finished."""
        self._stopped = True
        self._follower.stop()

    def close(self) -> None:
        """Keeps the manifest.

        Raises:
            SinkError: it cannot be written.
        """
        self._keep(now=True)

    def settle(self) -> bool:
        """Takes up what an earlier call left; whether there is work to be handed out."""
        for entry in self._entries.values():
            self._place(entry).tidy()
        self._keep(now=True)
        return bool(self._pending())

    def work(self, pool: Pool) -> None:
        """Until every file is done or has failed, or `stop`.

        Raises:
            HoiclipError: nobody can work, or results cannot be written.
        """
        idle, before = 0, None
        while not self._stopped and (pending := self._pending()):
            now = self._what_is_left(pending)
            idle = idle + 1 if now == before else 0
            if idle == MOST_IDLE_ROUNDS:
                raise HoiclipError("expected workers to work, found that none begins; see /tmp/ray/session_latest/logs")
            before = now
            # Files of which somebody died come last, and one unit of them at a time.
            fresh = [entry for entry in pending if not self._place(entry).marks]
            workers = pool.workers if fresh else 1
            jobs = [self._job(entry, workers) for entry in fresh or pending]
            with closing(pool.run(jobs, workers=workers)) as reports:
                for report in reports:
                    if self._stopped:
                        return
                    if report is not None:
                        self._take(report)

    def _take(self, report: Report) -> None:
        entry = self._entries[report.name]
        if report.fatal:
            raise _Fatal(report)
        if entry.state != "pending":
            return
        if report.error:
            self._fail(entry, report.error)
        elif report.frames:
            self._frames += report.frames
            if not report.sound:
                self._uncut(entry)
            self._check(entry)
            self._show()

    def _pending(self) -> list[Entry]:
        """After a look at the disk: whoever is complete is tracked, whoever was tried too often has failed."""
        for entry in self._entries.values():
            if entry.state == "pending" and not self._stopped:
                self._check(entry)
            if entry.state == "pending":
                self._bury(entry)
        self._show()
        return [entry for entry in self._entries.values() if entry.state == "pending"]

    def _check(self, entry: Entry) -> None:
        """Tracks it if all its looks are there."""
        place = self._place(entry)
        plan = place.plan
        if plan is None:
            return
        left = place.units_left(plan)
        entry.units, entry.units_done = len(plan.units), len(plan.units) - len(left)
        entry.uncut_because = plan.uncut_because or None
        if left:
            return
        try:
            sounds = [about.sound for unit in plan.units if (about := about_looks(place.looks(unit))).sound is not None]
            if joined(sounds):
                summary = self._follower.follow(entry.name, plan, place)
                if summary is not None:
                    self._done(entry, summary)
            else:
                self._uncut(entry)
        except SourceError as error:
            self._fail(entry, str(error))

    def _bury(self, entry: Entry) -> None:
        place = self._place(entry)
        for unit in self._units_left(entry):
            if place.tries(unit) >= MOST_DEATHS:
                what = "opened it" if unit == PLANNING else f"looked at it (part {unit})"
                found = f"found {MOST_DEATHS} processes dead that {what}; convert it, or leave it out"
                self._fail(entry, f"expected a file that can be decoded, {entry.source}, {found}")
                return

    def _done(self, entry: Entry, summary: RunSummary) -> None:
        entry.state, entry.error = "done", None
        entry.frames, entry.decode_errors = summary.decoded, summary.decode_errors
        entry.pairs, entry.events = summary.pairs, summary.events
        self._finish(entry)

    def _fail(self, entry: Entry, error: str) -> None:
        entry.fail(error)
        self._finish(entry)

    def _finish(self, entry: Entry) -> None:
        self._finished.append(self._place(entry))
        self._keep()

    def _keep(self, *, now: bool = False) -> None:
        """Looks go once the manifest says that they are not needed."""
        if not now and time.monotonic() - self._kept_s < KEEP_EVERY_S:
            return
        self._manifest.keep()
        self._kept_s = time.monotonic()
        while self._finished:
            self._finished.pop().remove()

    def _uncut(self, entry: Entry) -> None:
        """Parts that are not what the whole shows are thrown away."""
        place = self._place(entry)
        plan = place.plan
        if plan is None or not plan.parts:
            return
        place.keep_plan(plan.uncut("the file is damaged, or parts of it do not stand alone"))
        for unit in plan.units:
            place.looks(unit).unlink(missing_ok=True)
            place.end(unit)

    def _place(self, entry: Entry) -> Workplace:
        return self._manifest.workplace(entry)

    def _job(self, entry: Entry, workers: int) -> FileJob:
        place = self._place(entry)
        return FileJob(
            name=entry.name,
            path=entry.source,
            folder=str(place.folder),
            part_s=self._config.part_s,
            hwaccel=self._config.hwaccel,
            decoder_threads=threads_for(cpu_count()),
            most_marks=place.marks + workers - 1,
        )

    def _units_left(self, entry: Entry) -> list[str]:
        place = self._place(entry)
        plan = place.plan
        return [PLANNING] if plan is None else place.units_left(plan)

    def _what_is_left(self, pending: Sequence[Entry]) -> list[tuple[str, str, int]]:
        return [(e.name, unit, self._place(e).tries(unit)) for e in pending for unit in self._units_left(e)]

    def _show(self) -> None:
        entries = self._entries.values()
        rate = f"{self._frames / max(1e-3, time.monotonic() - self._begun_s):.1f} fps"
        total, done = sum(e.units or 1 for e in entries), sum(e.units_done for e in entries)
        self._bar.update(self._line, total=total, completed=done, rate=rate)
