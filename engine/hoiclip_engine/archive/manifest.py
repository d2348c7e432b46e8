"""The manifest of an archive: its settings, and the state of each file.

A JSON object in the folder of results, replaced as a whole, so that no reader ever sees half of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.errors import SinkError, UsageError
from hoiclip.core.foreign_file import read_json
from hoiclip_engine.archive.work_directory import WorkDirectory
from hoiclip_engine.sources.uri import file_names

SCHEMA = "hoiclip-archive/1"
FILE = "manifest.json"
State = Literal["pending", "done", "failed"]


@dataclass(slots=True, kw_only=True)
class Entry:
    """One file of the archive."""

    source: str
    """Its absolute path."""
    name: str
    """Name of its results: jsonl/NAME.jsonl and parquet/NAME.parquet."""
    size_bytes: int | None = None
    mtime_ns: int | None = None
    """Size and time of the processed file; a changed one is processed anew. None: it did not exist."""
    state: State = "pending"
    error: str | None = None
    """Reason of a failure, in one line."""
    units: int | None = None
    """Number of its work items; None before it was opened."""
    units_done: int = 0
    frames: int | None = None
    pairs: int | None = None
    events: int | None = None
    hits: int | None = None
    """Of rules; None without rules."""
    decode_errors: int | None = None
    uncut_because: str | None = None
    """Reason for which it was processed as a whole after all."""

    def renew(self) -> bool:
        """Takes the file as it is now. Returns whether it has changed, and is pending again."""
        try:
            status = Path(self.source).stat()
            now: tuple[int | None, int | None] = status.st_size, status.st_mtime_ns
        except OSError:
            now = None, None
        if now == (self.size_bytes, self.mtime_ns):
            return False
        self.reset()
        self.size_bytes, self.mtime_ns = now
        return True

    def reset(self) -> None:
        """Back to a file that was never processed."""
        fresh = Entry(source=self.source, name=self.name, size_bytes=self.size_bytes, mtime_ns=self.mtime_ns)
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(fresh, name))

    def fail(self, error: str) -> None:
        self.state, self.error = "failed", error


@dataclass(slots=True)
class Manifest:
    """Read, changed and kept by the coordinator alone."""

    folder: Path
    settings: Mapping[str, Any]
    """Settings that results depend on; a call that resumes must have the same."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of packages that made the latest results."""
    entries: list[Entry] = field(default_factory=list)

    @staticmethod
    def at(folder: Path, settings: Mapping[str, Any], versions: Mapping[str, str]) -> Manifest:
        """Manifest of the folder, or a new one.

        Raises:
            UsageError: the folder holds results of another model or other settings, or something else of that name.
        """
        manifest = Manifest(folder, settings, versions)
        path = folder / FILE
        if not path.exists():
            return manifest
        try:
            fields = read_json(path)
            schema, before = fields["schema"], dict(fields["settings"])
            manifest.entries = [Entry(**entry) for entry in fields["sources"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(
                f"expected the manifest of an archive, found {path} damaged; choose another folder"
            ) from None
        if schema != SCHEMA:
            raise UsageError(f"expected the schema {SCHEMA}, found {schema!s:.40} in {path}; choose another folder")
        others = [name for name in settings if before.get(name) != settings[name]]
        if others:
            differs = ", ".join(_difference(name, before.get(name), settings[name]) for name in others)
            raise UsageError(f"{folder} holds results with {differs}; choose another folder, or the same again")
        return manifest

    def add(self, sources: Sequence[str]) -> list[Entry]:
        """Entries of these absolute paths, in their order; new ones get names that stay."""
        known = {entry.source: entry for entry in self.entries}
        wanted = list(dict.fromkeys(sources))
        new = [source for source in wanted if source not in known]
        names = file_names([entry.source for entry in self.entries] + new)[len(self.entries) :]
        for source, name in zip(new, names, strict=True):
            known[source] = Entry(source=source, name=name)
            self.entries.append(known[source])
        return [known[source] for source in wanted]

    def work_directory(self, entry: Entry) -> WorkDirectory:
        """Directory in which the file is worked on until it is done or has failed."""
        return WorkDirectory(self.folder.absolute() / "work" / entry.name)

    def keep(self) -> None:
        """Raises SinkError: it cannot be written."""
        fields = {
            "schema": SCHEMA,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "sources": [asdict(entry) for entry in self.entries],
        }
        try:
            with atomic_write(self.folder / FILE) as path:
                path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise SinkError(
                f"cannot write {self.folder / FILE}: {error.strerror}; make room, and start again"
            ) from None


def _difference(name: str, before: object, now: object) -> str:
    if isinstance(before, list) and isinstance(now, list):  # rules, whose first characters may be equal
        return f"other {name}"
    return f"{name} {before!s:.64}, now {now!s:.64}"
