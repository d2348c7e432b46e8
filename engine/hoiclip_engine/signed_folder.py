"""Folders of entries that only this machine's user can have written. What is loaded as code, or believed, lies here.

An entry is a folder with files and a JSON: the key it was made for, the hashes of the files, what else is known of
them, and a signature by a secret that only this user can read. Links inside are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hoiclip.cache import cache_base, cache_folder
from hoiclip.checkpoint.model_file import file_sha256

_SAID, _SECRET, _PART = "entry.json", "secret", ".part-"
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_log = logging.getLogger("hoiclip")
_ABANDONED_S = 24 * 3600.0
"""After which an entry that is still being made is taken for one whose maker was killed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What was found; its signature and key are right, its files are checked when they are asked for."""

    folder: Path
    hashes: Mapping[str, str]
    about: Mapping[str, Any]

    def content(self, name: str) -> bytes:
        """A file's bytes, read once, so that what was checked is what is loaded.

        Raises:
            ValueError, OSError: the file is not what was written.
        """
        content = _read(self.folder / name)
        if hashlib.sha256(content).hexdigest() != self.hashes[name]:
            raise self._changed(name)
        return content

    def file(self, name: str) -> Path:
        """A file that is data, not code, for whoever reads it by its path. Raises like `content`."""
        path = self.folder / name
        if not stat.S_ISREG(path.lstat().st_mode) or file_sha256(path) != self.hashes[name]:
            raise self._changed(name)
        return path

    def _changed(self, name: str) -> ValueError:
        return ValueError(f"{self.folder / name} is not what was written, it may be truncated")


class SignedFolder:
    """Entries of one kind, by name."""

    def __init__(self, kind: str) -> None:
        """Raises OSError: the folder cannot be made, or somebody else could write to it or put another in its place."""
        _require_own_base(cache_base())
        self._folder = cache_folder(kind)
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"expected a folder at {self._folder}, found a link; delete it")
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            raise PermissionError(f"expected {self._folder} to be yours, its owner is user {status.st_uid}")
        if os.name == "posix" and stat.S_IMODE(status.st_mode) != 0o700:
            self._folder.chmod(0o700)
        self._secret = _secret(self._folder)

    def read(self, name: str, key: Mapping[str, Any]) -> Entry | None:
        """None where there is no such entry.

        Raises:
            ValueError, OSError: the entry is damaged, changed, or not of this key; the message says what.
        """
        entry = self._folder / name
        if not os.path.lexists(entry):
            return None
        if not stat.S_ISDIR(entry.lstat().st_mode):
            raise ValueError(f"{entry} is no folder but a link or a file")
        try:
            said = json.loads(_read(entry / _SAID))
            signature = said.pop("hmac")
            found = Entry(entry, said["files"], said["about"])
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError, FileNotFoundError):
            raise ValueError(f"{entry / _SAID} is missing or damaged") from None
        if not hmac.compare_digest(str(signature), self._sign(said)):
            raise ValueError(f"{entry / _SAID} was not signed by this machine, or changed since")
        if other := _differences(said["key"], plain(key)):
            raise ValueError(f"{entry} is of another {other}")
        return found

    def write(
        self, name: str, key: Mapping[str, Any], files: Mapping[str, bytes | Path], about: Mapping[str, Any]
    ) -> None:
        """Makes or replaces an entry, all of it or nothing.

        Args:
            files: contents, or files that are moved.

        Raises:
            OSError: it cannot be written.
        """
        part = self.room()
        try:
            for file, content in files.items():
                if isinstance(content, Path):
                    shutil.move(content, part / file)
                else:
                    (part / file).write_bytes(content)
            said: dict[str, Any] = {
                "key": plain(key),
                "files": {file: file_sha256(part / file) for file in files},
                "about": plain(about),
            }
            said["hmac"] = self._sign(said)
            (part / _SAID).write_text(json.dumps(said, indent=2), encoding="utf-8")
            self._publish(part, self._folder / name)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def place(self, name: str) -> Path:
        """Where an entry is, if there is one."""
        return self._folder / name

    def room(self) -> Path:
        """A new folder to make an entry's files in, for the caller to remove; what killed makers left goes now."""
        for left in self._folder.glob(f"{_PART}*"):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._folder, prefix=_PART))

    def remove(self, name: str) -> None:
        entry = self._folder / name
        if entry.is_symlink() or entry.is_file():
            entry.unlink(missing_ok=True)
        else:
            shutil.rmtree(entry, ignore_errors=True)

    def _publish(self, part: Path, entry: Path) -> None:
        """A folder cannot be put in the place of another one; a reader finds the old entry, none, or the new one."""
        try:
            os.replace(part, entry)
        except OSError:
            if not os.path.lexists(entry):
                raise
            self.remove(entry.name)
            try:
                os.replace(part, entry)
            except OSError:
                if not entry.is_dir():  # else another process was first, and its entry is as good
                    raise

    def _sign(self, said: Mapping[str, Any]) -> str:
        return hmac.new(self._secret, canonical(said), hashlib.sha256).hexdigest()


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))  # type: ignore[no-any-return]


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """One line of what an entry was made for and what is wanted."""
    return ", ".join(
        f"{name} ({found.get(name)!s:.80}, here {value!s:.80})"
        for name, value in expected.items()
        if found.get(name) != value
    )


def _secret(folder: Path) -> bytes:
    """What entries are signed with; made once, and by one of several processes."""
    path = folder / _SECRET
    if not path.exists():
        handle, part = tempfile.mkstemp(dir=folder, prefix=_PART)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(part)
    secret = _read(path)
    if len(secret) != 32:
        raise OSError(f"expected 32 bytes in {path}, found {len(secret)}; delete that file")
    return secret


def _read(path: Path) -> bytes:
    """A regular file's bytes; a link is not followed, a pipe is not waited for.

    Raises:
        ValueError, OSError: it is something else, or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | _PLAIN)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"{path} is no regular file")
        return file.read()


def _require_own_base(base: Path) -> None:
    """Raises PermissionError: anybody could put folders of theirs in the place of ours. A group is only warned of."""
    try:
        mode = base.stat().st_mode
    except FileNotFoundError:
        return  # it will be made, for this user alone
    if mode & stat.S_ISVTX:
        return  # as in /tmp, others cannot rename what is ours
    if mode & stat.S_IWOTH:
        raise PermissionError(f"expected a cache that only you can write, everybody can write {base}; chmod go-w it")
    if mode & stat.S_IWGRP:
        _warn_of_group(base)


@cache
def _warn_of_group(base: Path) -> None:
    """Once in a process."""
    _log.warning("the cache %s can be written by its group; if that is not you alone: chmod g-w it", base)
