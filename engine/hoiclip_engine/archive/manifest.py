"""The manifest of an archive: what was asked for, with which model, and what has become of each file.

A JSON object in the folder of results, replaced as a whole, so that a reader never sees half of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hoiclip.errors import SinkError, UsageError
from hoiclip.foreign_file import read_json
from hoiclip_engine.archive.workplace import Workplace, whole_file
from hoiclip_engine.commands.source_names import file_names

SCHEMA = "hoiclip-archive/1"
FILE = "manifest.json"
State = Literal["pending", "done", "failed"]


@dataclass(slots=True, kw_only=True)
class Entry:
    """One file of the archive."""

    source: str
    """Its absolute path."""
    name: str
    """Of its results: jsonl/NAME.jsonl and parquet/NAME.parquet."""
    size_bytes: int | None = None
    mtime_ns: int | None = None
    """Size and time of the file that was looked at; another one is looked at anew. None: it was not there."""
    state: State = "pending"
    error: str | None = None
    """Why it failed: one line."""
    units: int | None = None
    """Parts that it is looked at in; None before it was opened."""
    units_done: int = 0
    frames: int | None = None
    pairs: int | None = None
    events: int | None = None
    decode_errors: int | None = None
    uncut_because: str | None = None
    """Why it was looked at again as a whole, after parts of it."""

    def renew(self) -> bool:
        """Takes the file as it is now; True where it is another one, which is pending again."""
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
        """As if nobody had looked."""
        fresh = Entry(source=self.source, name=self.name, size_bytes=self.size_bytes, mtime_ns=self.mtime_ns)
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(fresh, name))

    def fail(self, error: str) -> None:
        self.state, self.error = "failed", error


@dataclass(slots=True)
class Manifest:
    """Read, changed and kept by the one process that leads the work."""

    folder: Path
    settings: Mapping[str, Any]
    """What results depend on; of a folder that is gone on with, it must be the same."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of what made the latest results."""
    entries: list[Entry] = field(default_factory=list)

    @staticmethod
    def at(folder: Path, settings: Mapping[str, Any], versions: Mapping[str, str]) -> Manifest:
        """That of the folder, or a new one.

        Raises:
            UsageError: the folder holds results of another model or other settings, or something else of that name.
        """
        made = Manifest(folder, settings, versions)
        path = folder / FILE
        if not path.exists():
            return made
        try:
            told = read_json(path)
            schema, before = told["schema"], dict(told["settings"])
            made.entries = [Entry(**entry) for entry in told["sources"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(
                f"expected the manifest of an archive, found {path} damaged; choose another folder"
            ) from None
        if schema != SCHEMA:
            raise UsageError(f"expected the schema {SCHEMA}, found {schema!s:.40} in {path}; choose another folder")
        others = [name for name in settings if before.get(name) != settings[name]]
        if others:
            differs = ", ".join(f"{name} {before.get(name)!s:.64}, now {settings[name]!s:.64}" for name in others)
            raise UsageError(f"{folder} holds results with {differs}; choose another folder, or the same again")
        return made

    def add(self, sources: Sequence[str]) -> list[Entry]:
        """The entries of these absolute paths, in their order; those that are new get names that stay."""
        known = {entry.source: entry for entry in self.entries}
        wanted = list(dict.fromkeys(sources))
        new = [source for source in wanted if source not in known]
        names = file_names([entry.source for entry in self.entries] + new)[len(self.entries) :]
        for source, name in zip(new, names, strict=True):
            known[source] = Entry(source=source, name=name)
            self.entries.append(known[source])
        return [known[source] for source in wanted]

    def workplace(self, entry: Entry) -> Workplace:
        """Where the file is worked on until it is done or has failed."""
        return Workplace(self.folder.absolute() / "work" / entry.name)

    def keep(self) -> None:
        """Raises SinkError: it cannot be written."""
        told = {
            "schema": SCHEMA,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "sources": [asdict(entry) for entry in self.entries],
        }
        try:
            with whole_file(self.folder / FILE) as path:
                path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise SinkError(
                f"cannot write {self.folder / FILE}: {error.strerror}; make room, and start again"
            ) from None
