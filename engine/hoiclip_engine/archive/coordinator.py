"""Coordinates the work on an archive: hands jobs out, gives up files that end their workers, and tracks each file once
all its work items are inferred.

Progress is read from the disk, never remembered: a first call, one that resumes and one whose worker was killed are the
same.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from rich.progress import Progress

from hoiclip.core.atomic_write import make_folder
from hoiclip.core.errors import HoiclipError, SourceError
from hoiclip_engine.archive.cached_detections import read_item_summary
from hoiclip_engine.archive.manifest import Entry, Manifest
from hoiclip_engine.archive.tracking import FileTracker
from hoiclip_engine.archive.work_directory import PLANNING, FileJob, JobReport, WorkDirectory
from hoiclip_engine.backends.cpu import cpu_count
from hoiclip_engine.sources.base import Hwaccel
from hoiclip_engine.sources.decoder import default_decoder_threads
from hoiclip_engine.sources.segment import segments_match
from hoiclip_engine.streaming.stream import StreamConfig, StreamFactory
from hoiclip_engine.types.results import RunSummary

MOST_DEATHS = 3
"""Processes that may die of one work item, the later ones with no other at work, before its file is given up."""
MOST_IDLE_ROUNDS = 3
"""Rounds without any progress, after which the files are not the cause."""
KEEP_EVERY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """Settings of the work on all files."""

    stream: StreamConfig
    segment_s: float
    hwaccel: Hwaccel = "none"


class WorkerPool(Protocol):
    """Processes that work on jobs."""

    workers: int

    def run(self, jobs: Sequence[FileJob], *, workers: int) -> Generator[JobReport | None, None, None]:
        """Reports as they come, and None whenever there was none for a moment; a job that a worker died of has none."""
        ...


class _Fatal(HoiclipError):
    """No worker can work."""

    def __init__(self, report: JobReport) -> None:
        super().__init__(report.error)
        self.exit_code = report.fatal


class Coordinator:
    """Works on the entries of one call. `stop` may be called from a signal handler; close it at the end."""

    def __init__(
        self,
        streams: StreamFactory,
        manifest: Manifest,
        entries: Sequence[Entry],
        config: CoordinatorConfig,
        bar: Progress,
    ) -> None:
        self._manifest, self._config, self._bar = manifest, config, bar
        self._tracker = FileTracker(streams, config.stream, manifest.folder, bar)
        self._entries = {entry.name: entry for entry in entries}
        self._stopped = False
        self._finished: list[WorkDirectory] = []
        self._kept_s = 0.0
        self._line = bar.add_task("segments", total=None, rate="")
        self._frames, self._begun_s = 0, time.monotonic()
        make_folder(manifest.folder / "work")

    def stop(self) -> None:
        """Ends the work soon; what is finished stays finished."""
        self._stopped = True
        self._tracker.stop()

    def close(self) -> None:
        """Keeps the manifest.

        Raises:
            SinkError: it cannot be written.
        """
        self._keep(now=True)

    def settle(self) -> bool:
        """Resumes what an earlier call left. Returns whether there is work to hand out."""
        for entry in self._entries.values():
            self._directory(entry).tidy()
        self._keep(now=True)
        return bool(self._pending())

    def work(self, pool: WorkerPool) -> None:
        """Works until every file is done or has failed, or until `stop`.

        Raises:
            HoiclipError: no worker can work, or results cannot be written.
        """
        idle, before = 0, None
        while not self._stopped and (pending := self._pending()):
            now = self._remaining(pending)
            idle = idle + 1 if now == before else 0
            if idle == MOST_IDLE_ROUNDS:
                raise HoiclipError("expected workers to work, found that none begins; see /tmp/ray/session_latest/logs")
            before = now
            # Files that a worker died of come last, and one work item of them at a time.
            fresh = [entry for entry in pending if not self._directory(entry).marks]
            workers = pool.workers if fresh else 1
            jobs = [self._job(entry, workers) for entry in fresh or pending]
            with closing(pool.run(jobs, workers=workers)) as reports:
                for report in reports:
                    if self._stopped:
                        return
                    if report is not None:
                        self._take(report)

    def _take(self, report: JobReport) -> None:
        entry = self._entries[report.name]
        if report.fatal:
            raise _Fatal(report)
        if entry.state != "pending":
            return
        if report.error:
            self._fail(entry, report.error)
        elif report.frames:
            self._frames += report.frames
            if not report.complete:
                self._process_whole(entry)
            self._check(entry)
            self._show()

    def _pending(self) -> list[Entry]:
        """Pending entries, by the disk: complete ones are tracked, those that were tried too often have failed."""
        for entry in self._entries.values():
            if entry.state == "pending" and not self._stopped:
                self._check(entry)
            if entry.state == "pending":
                self._fail_if_deadly(entry)
        self._show()
        return [entry for entry in self._entries.values() if entry.state == "pending"]

    def _check(self, entry: Entry) -> None:
        """Tracks the file if all its work items are inferred."""
        directory = self._directory(entry)
        plan = directory.plan
        if plan is None:
            return
        left = directory.items_left(plan)
        entry.units, entry.units_done = len(plan.work_items), len(plan.work_items) - len(left)
        entry.uncut_because = plan.unsplit_because or None
        if left:
            return
        try:
            summaries = [read_item_summary(directory.detections(work_item)) for work_item in plan.work_items]
            if segments_match([item.integrity for item in summaries if item.integrity is not None]):
                summary = self._tracker.track(entry.name, plan, directory)
                if summary is not None:
                    self._done(entry, summary)
            else:
                self._process_whole(entry)
        except SourceError as error:
            self._fail(entry, str(error))

    def _fail_if_deadly(self, entry: Entry) -> None:
        directory = self._directory(entry)
        for work_item in self._items_left(entry):
            if directory.tries(work_item) >= MOST_DEATHS:
                what = "opened it" if work_item == PLANNING else f"processed it (segment {work_item})"
                found = f"found {MOST_DEATHS} processes dead that {what}; convert it, or leave it out"
                self._fail(entry, f"expected a file that can be decoded, {entry.source}, {found}")
                return

    def _done(self, entry: Entry, summary: RunSummary) -> None:
        entry.state, entry.error = "done", None
        entry.frames, entry.decode_errors = summary.decoded, summary.decode_errors
        entry.pairs, entry.events, entry.hits = summary.pairs, summary.events, summary.hits
        self._finish(entry)

    def _fail(self, entry: Entry, error: str) -> None:
        entry.fail(error)
        self._finish(entry)

    def _finish(self, entry: Entry) -> None:
        self._finished.append(self._directory(entry))
        self._keep()

    def _keep(self, *, now: bool = False) -> None:
        """Writes the manifest; then detections of finished files are removed."""
        if not now and time.monotonic() - self._kept_s < KEEP_EVERY_S:
            return
        self._manifest.keep()
        self._kept_s = time.monotonic()
        while self._finished:
            self._finished.pop().remove()

    def _process_whole(self, entry: Entry) -> None:
        """Discards the segments of a file that do not match the whole."""
        directory = self._directory(entry)
        plan = directory.plan
        if plan is None or not plan.segments:
            return
        directory.keep_plan(plan.unsplit("the file is damaged, or segments of it cannot be decoded on their own"))
        for work_item in plan.work_items:
            directory.detections(work_item).unlink(missing_ok=True)
            directory.end(work_item)

    def _directory(self, entry: Entry) -> WorkDirectory:
        return self._manifest.work_directory(entry)

    def _job(self, entry: Entry, workers: int) -> FileJob:
        directory = self._directory(entry)
        return FileJob(
            name=entry.name,
            path=entry.source,
            folder=str(directory.folder),
            segment_s=self._config.segment_s,
            hwaccel=self._config.hwaccel,
            decoder_threads=default_decoder_threads(cpu_count()),
            max_marks=directory.marks + workers - 1,
        )

    def _items_left(self, entry: Entry) -> list[str]:
        directory = self._directory(entry)
        plan = directory.plan
        return [PLANNING] if plan is None else directory.items_left(plan)

    def _remaining(self, pending: Sequence[Entry]) -> list[tuple[str, str, int]]:
        return [
            (e.name, work_item, self._directory(e).tries(work_item))
            for e in pending
            for work_item in self._items_left(e)
        ]

    def _show(self) -> None:
        entries = self._entries.values()
        rate = f"{self._frames / max(1e-3, time.monotonic() - self._begun_s):.1f} fps"
        total, done = sum(e.units or 1 for e in entries), sum(e.units_done for e in entries)
        self._bar.update(self._line, total=total, completed=done, rate=rate)
