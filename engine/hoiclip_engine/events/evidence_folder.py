"""The folder that evidence is written to: by a thread of its own, and never over its limits.

Only files that were made here are ever removed, the oldest first. They are recognised by their name and by a mark
inside, so that a later run knows them too. A file appears whole or not at all; what a killed process left half written
is removed by the next run. Deciding what is evidence is up to evidence.py.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.errors import SinkError, UsageError
from hoiclip.core.file_lock import try_lock

WAITING_BYTES = 64 << 20
"""Clips and snapshots that wait to be written, of all sources together."""
WAITING_JOBS = 256
HANGS_S = 60.0
"""A disk that takes so long for one write hangs: files do not wait for it any longer."""
_DRAIN_S = 10.0
"""Seconds after the end of a source in which its last evidence is written."""
_CHECK_AGE_S = 60.0
_LEAST_WAIT_S = 1.0
_POLL_S = 0.5
_LOCK_NAME = ".hoiclip-evidence.lock"
_MARK = b"hoiclip-evidence/1"
_NAME = r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z|\d{3,}h\d\dm\d\d\.\d{3}s)_.+\.(jpg|mp4|mkv)"
_UNFINISHED = re.compile(rf"\.{_NAME}\.[0-9a-f]{{8}}\.part")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceLimits:
    """How much evidence a folder holds; other files in it do not count and are left alone."""

    max_files: int = 10_000
    max_bytes: int = 10_000_000_000
    max_age_s: float | None = None
    """Seconds since a file was written; None for no limit."""

    def __post_init__(self) -> None:
        if self.max_files < 2:
            raise ValueError(f"max_files must be at least 2, a snapshot and a clip, got {self.max_files}")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be positive, got {self.max_bytes}")
        if self.max_age_s is not None and not self.max_age_s > 0:
            raise ValueError(f"max_age_s must be positive, got {self.max_age_s}")


@dataclass(frozen=True, slots=True)
class _Stored:
    """Files of one name."""

    at_s: float
    """When they were written, seconds since the epoch."""
    sizes: Mapping[Path, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    owner: object
    work: Callable[[], None]
    size: int


class EvidenceFolder:
    """One folder for all sources of a run; a context manager. May be called from any thread."""

    def __init__(
        self, path: str | Path, limits: EvidenceLimits | None = None, warn: Callable[[str], None] = lambda line: None
    ) -> None:
        """Makes the folder, removes what a killed run left unfinished and what is over the limits, starts the thread.

        Args:
            warn: called with a line when writing begins to fail; from the thread.

        Raises:
            UsageError: another run writes to it.
            SinkError: it cannot be made or written to.
        """
        self.path, self.limits = Path(path), limits or EvidenceLimits()
        self.files = self.size = 0
        """Number and bytes of the files of evidence in the folder."""
        self.removed = 0
        """Files removed for the limits."""
        self._warn, self._failing, self._outdated = warn, False, False
        self._stored: deque[_Stored] = deque()
        self._storing = threading.Lock()
        self._disk_since_s: float | None = None
        """Time at which the disk was last given something to do, if it is not done."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path)
            for unfinished in filter(lambda path: _UNFINISHED.fullmatch(path.name), list(self.path.iterdir())):
                unfinished.unlink()
            self._scan()
            self._make_room(0, 0)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SinkError(f"cannot write to the evidence folder {path}: {reason}; choose another") from None
        self._jobs: deque[_Job] = deque()
        self._current: _Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="hoiclip-evidence", daemon=True)
        self._thread.start()

    def __enter__(self) -> EvidenceFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, owner: object, work: Callable[[], None], size: int, *, wait: bool) -> bool:
        """Hands work to the thread.

        Args:
            size: bytes that it holds.
            wait: for room, rather than to refuse; for as long as the disk does not hang.

        Returns:
            False where there is no room, or the folder is closed.
        """
        with self._changed:
            while wait and not (self._has_room(size) or self._closed or self._hangs):
                self._changed.wait(_POLL_S)
            is_taken = not self._closed and self._has_room(size)
            if is_taken:
                self._jobs.append(_Job(owner, work, size))
                self._changed.notify_all()
        if wait and not is_taken and self._hangs:
            self.report(SinkError(f"the disk of {self.path} hangs; evidence is dropped until it takes files again"))
        return is_taken

    def drain(self, owner: object, timeout_s: float = _DRAIN_S) -> int:
        """Waits for the work of one owner; returns the number of jobs that were given up because the disk hangs."""
        with self._changed:
            if self._changed.wait_for(lambda: not self._jobs_of(owner), timeout_s):
                return 0
            given_up = self._jobs_of(owner)
            self._jobs = deque(job for job in self._jobs if job.owner is not owner)
            self._changed.notify_all()
            return given_up

    def can_hold(self, files: int, size: int) -> bool:
        """Whether so much fits at all, once all older evidence is removed."""
        return files <= self.limits.max_files and size <= self.limits.max_bytes

    def store(self, stem: str, contents: Mapping[str, bytes]) -> dict[str, Path]:
        """Writes files of one name, after removing the oldest ones that leave no room for them.

        Args:
            stem: begins with a time, as wall_time and stream_time give it. A number is added where it is taken.
            contents: by suffix: .jpg, .mp4 or .mkv.

        Returns:
            Their paths, by suffix.

        Raises:
            SinkError: they are too big, or cannot be written; then none of them is left.
        """
        marked = {suffix: _marked(suffix, data) for suffix, data in contents.items()}
        size = sum(len(data) for data in marked.values())
        if not self.can_hold(len(marked), size):
            limit = self.limits.max_bytes
            raise SinkError(f"expected evidence of at most {limit} bytes, found {size}; raise the limit")
        with self._disk():
            try:
                if self._outdated:
                    self._scan()
                    self._outdated = False
                self._make_room(len(marked), size)
                return self._write(self._free_stem(stem, list(marked)), marked)
            except OSError as error:
                self._outdated = True
                reason = error.strerror or type(error).__name__
                raise SinkError(f"cannot write evidence to {self.path}: {reason}; free or reconnect the disk") from None

    def report(self, error: SinkError | None) -> None:
        """Warns of the first failure of several in succession; None reports a success."""
        if error is not None and not self._failing:
            self._warn(str(error))
        self._failing = error is not None

    def close(self) -> None:
        """Ends the thread, after what waits is written; may be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_DRAIN_S)
        if not self._thread.is_alive():  # else it may still write
            self._lock.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """What the disk is waited for in: one thread at a time."""
        with self._storing:
            self._disk_since_s = time.monotonic()
            try:
                yield
            finally:
                self._disk_since_s = None

    @property
    def _hangs(self) -> bool:
        since_s = self._disk_since_s
        return since_s is not None and time.monotonic() - since_s > HANGS_S

    def _has_room(self, size: int) -> bool:
        waiting = [job.size for job in self._jobs]
        return not waiting or (len(waiting) < WAITING_JOBS and sum(waiting) + size <= WAITING_BYTES)

    def _jobs_of(self, owner: object) -> int:
        current = self._current is not None and self._current.owner is owner
        return current + sum(job.owner is owner for job in self._jobs)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed, self._until_aged_s())
                if self._closed and not self._jobs:
                    return
                self._current = self._jobs.popleft() if self._jobs else None
                self._changed.notify_all()
            try:
                if self._current is None:
                    self._remove_aged()
                else:
                    self._current.work()
            except Exception as error:  # of a callback: the thread serves other sources too
                self._warn(f"evidence: {type(error).__name__} while it was written or reported")
            finally:
                with self._changed:
                    self._current = None
                    self._changed.notify_all()

    def _until_aged_s(self) -> float | None:
        """Seconds until the oldest files reach their limit of age; None where there is no limit."""
        if self.limits.max_age_s is None:
            return None
        oldest = next(iter(tuple(self._stored)), None)
        left_s = _CHECK_AGE_S if oldest is None else oldest.at_s + self.limits.max_age_s - time.time()
        return min(_CHECK_AGE_S, max(_LEAST_WAIT_S, left_s))

    def _remove_aged(self) -> None:
        with self._disk(), suppress(OSError):
            self._make_room(0, 0)

    def _scan(self) -> None:
        """Finds the files of earlier runs."""
        found = sorted(own_files(self.path), key=lambda path: path.stem)
        stored = []
        for _, paths in groupby(found, key=lambda path: path.stem):
            status = {path: path.stat() for path in paths}
            at_s = max(each.st_mtime for each in status.values())
            stored.append(_Stored(at_s, {path: each.st_size for path, each in status.items()}))
        self._keep(sorted(stored, key=lambda each: (each.at_s, min(each.sizes))))

    def _keep(self, stored: Iterable[_Stored]) -> None:
        self._stored = deque(stored)
        self.files = sum(len(each.sizes) for each in self._stored)
        self.size = sum(sum(each.sizes.values()) for each in self._stored)

    def _make_room(self, files: int, size: int) -> None:
        oldest_s = -1.0 if self.limits.max_age_s is None else time.time() - self.limits.max_age_s
        if self._is_over(files, size):  # some may have been removed by hand
            self._keep([stored for stored in self._stored if any(path.exists() for path in stored.sizes)])
        while self._stored and (self._is_over(files, size) or self._stored[0].at_s < oldest_s):
            sizes = self._stored[0].sizes
            for path in sizes:
                path.unlink(missing_ok=True)
            self._stored.popleft()
            self.removed += len(sizes)
            self.files -= len(sizes)
            self.size -= sum(sizes.values())

    def _is_over(self, files: int, size: int) -> bool:
        return self.files + files > self.limits.max_files or self.size + size > self.limits.max_bytes

    def _free_stem(self, stem: str, suffixes: list[str]) -> str:
        name, number = stem, 1
        while any((self.path / f"{name}{suffix}").exists() for suffix in (".jpg", ".mp4", ".mkv")):
            number += 1
            name = f"{stem}-{number}"
        return name

    def _write(self, stem: str, contents: Mapping[str, bytes]) -> dict[str, Path]:
        paths = {suffix: self.path / f"{stem}{suffix}" for suffix in contents}
        try:
            for suffix, path in paths.items():
                with atomic_write(path) as temporary:
                    temporary.write_bytes(contents[suffix])
        except BaseException:
            for path in paths.values():
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        sizes = {paths[suffix]: len(data) for suffix, data in contents.items()}
        self._stored.append(_Stored(time.time(), sizes))
        self.files += len(sizes)
        self.size += sum(sizes.values())
        return paths


def own_files(folder: Path) -> Iterator[Path]:
    """Evidence in a folder: files with a name as they get here, and the mark inside."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if re.fullmatch(_NAME, path.name) and stat.S_ISREG(path.lstat().st_mode) and _has_mark(path):
            yield path


def _locked(folder: Path) -> BinaryIO:
    lock = (folder / _LOCK_NAME).open("ab")
    if not try_lock(lock):
        lock.close()
        raise UsageError(
            f"expected an evidence folder of its own, found that another run writes to {folder}; choose another"
        )
    return lock


def _marked(suffix: str, data: bytes) -> bytes:
    """The file with the mark in a part that every reader skips: a comment, a free box, a void element."""
    if suffix == ".jpg":
        return data[:2] + b"\xff\xfe" + (2 + len(_MARK)).to_bytes(2, "big") + _MARK + data[2:]
    if suffix == ".mp4":
        return data + (8 + len(_MARK)).to_bytes(4, "big") + b"free" + _MARK
    return data + b"\xec" + bytes([0x80 | len(_MARK)]) + _MARK


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if path.suffix == ".jpg":
                return file.read(6 + len(_MARK)).endswith(_MARK)
            file.seek(-len(_MARK), os.SEEK_END)
            return file.read() == _MARK
    except OSError:  # also where it is shorter than the mark
        return False
