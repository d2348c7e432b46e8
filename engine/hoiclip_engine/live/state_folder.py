"""Folder with the state of a live run that survives a restart: one JSON file, a token, and a lock.

state.json   sources with their addresses, which may hold passwords, and rules; mode 0600, replaced atomically
token        secret for changes, where the run was given none; made once
lock         held as long as the run lasts, so that two runs never share a folder
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.errors import SinkError, UsageError
from hoiclip.core.file_lock import try_lock
from hoiclip.core.foreign_file import parse_json, read_text
from hoiclip_engine.live.address import MIN_TOKEN_CHARACTERS

VERSION = 1
MAX_STATE_BYTES = 2**22
LastingState = Literal["running", "paused", "ended"]
"""running, also where it is lost or waits; paused; ended, which a file does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSource:
    """A source as it was added."""

    id: int
    address: str = field(repr=False)
    """As parse_address takes it; may hold a password."""
    name: str = ""
    state: LastingState = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """Sources and rules of a run."""

    sources: tuple[SavedSource, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)


class StateFolder:
    """A folder that this run holds the lock of. Writing is not thread-safe: the caller takes turns."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder where it is missing, and takes its lock.

        Raises:
            UsageError: another run holds the lock.
            SinkError: it cannot be made or written.
        """
        self.folder = folder
        self._path = folder / "state.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock: IO[bytes] = open(folder / "lock", "ab", opener=_private)  # noqa: SIM115
            is_alone = try_lock(self._lock)
        except OSError as error:
            raise SinkError(f"cannot write into the state folder {folder}: {error.strerror}; choose another") from None
        if not is_alone:
            self._lock.close()
            raise UsageError(
                f"expected a state folder of this run alone, found {folder} in use by another; choose another"
            )

    def read(self) -> SavedState:
        """The state of the last run; an empty one where there was none.

        Raises:
            UsageError: the file is damaged, or of a newer version. It is left as it is.
        """
        try:
            data = parse_json(read_text(self._path, MAX_STATE_BYTES), finite=True)
        except FileNotFoundError:
            return SavedState()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
            raise self._damaged(reason or "it cannot be read") from None
        if not isinstance(data, dict) or not isinstance(data.get("version"), int):
            raise self._damaged("it has no version")
        if data["version"] > VERSION:
            raise UsageError(
                f"expected a state of version {VERSION} in {self._path}, found {data['version']}; update hoiclip"
            )
        try:
            return _parse_state(data)
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"{type(error).__name__} in what it says") from None

    def write(self, state: SavedState) -> None:
        """Replaces the state; after a power cut it is the old or the new one.

        Raises:
            SinkError: it cannot be written; the old one is kept.
        """
        sources = [
            {"id": source.id, "address": source.address, "name": source.name, "state": source.state}
            for source in state.sources
        ]
        data = {"version": VERSION, "sources": sources, "rules": state.rules}
        try:
            with atomic_write(self._path) as temporary, open(temporary, "xb", opener=_private) as file:
                file.write(json.dumps(data, indent=1, allow_nan=False).encode())
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}; free some space there") from None

    def token(self) -> str:
        """The token for changes, made once.

        Raises:
            UsageError: the file does not hold one.
            SinkError: it cannot be written.
        """
        path = self.token_path
        try:
            if not path.exists():
                with atomic_write(path) as temporary, open(temporary, "xb", opener=_private) as file:
                    file.write(f"{secrets.token_hex(16)}\n".encode())
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise UsageError(f"expected {path} to be readable by you alone, found that it is not; chmod 600 it")
            token = read_text(path, 1024).strip()
        except OSError as error:
            raise SinkError(f"cannot read or write {path}: {error.strerror}; mend its permissions") from None
        except ValueError:
            token = ""
        if len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
            raise UsageError(
                f"expected a token of {MIN_TOKEN_CHARACTERS} letters and digits or more in {path}, found "
                "something else; delete the file"
            )
        return token

    @property
    def token_path(self) -> Path:
        return self.folder / "token"

    def close(self) -> None:
        """Frees the lock."""
        self._lock.close()

    def _damaged(self, reason: str) -> UsageError:
        return UsageError(f"expected the state of a run in {self._path}, found it damaged ({reason}); move it away")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _parse_state(data: Mapping[str, Any]) -> SavedState:
    """Raises KeyError, TypeError or ValueError where it is none."""
    rules = data["rules"]
    if not isinstance(rules, dict):
        raise TypeError("rules")
    sources = tuple(_parse_source(source) for source in data["sources"])
    if len({source.id for source in sources}) != len(sources):
        raise ValueError("ids")
    return SavedState(sources=sources, rules=rules)


def _parse_source(data: Mapping[str, Any]) -> SavedSource:
    source = SavedSource(id=data["id"], address=data["address"], name=data["name"], state=data["state"])
    is_text = isinstance(source.address, str) and isinstance(source.name, str)
    if not is_text or not isinstance(source.id, int) or source.id < 1 or source.state not in get_args(LastingState):
        raise ValueError("source")
    return source
