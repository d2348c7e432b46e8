"""Folders of entries that only this machine's user can have written, for files that are loaded as code or trusted.

An entry is a folder with files and a JSON: the key it was made for, the hashes of the files, a record about them, and a
signature by a secret that only this user can read. Links inside are not followed.
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

from hoiclip.core.cache_dirs import cache_base, cache_folder
from hoiclip.core.model_file import file_sha256

_ENTRY_JSON, _SECRET, _STAGING = "entry.json", "secret", ".part-"
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_log = logging.getLogger("hoiclip")
_ABANDONED_S = 24 * 3600.0
"""Age of a staging folder after which its process is taken to have been killed."""


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """An entry whose signature and key are right; its files are checked when they are read."""

    folder: Path
    hashes: Mapping[str, str]
    about: Mapping[str, Any]

    def content(self, name: str) -> bytes:
        """A file's bytes, read once, so that the bytes that were checked are the bytes that are loaded.

        Raises:
            ValueError, OSError: the file is not as it was written.
        """
        content = _read(self.folder / name)
        if hashlib.sha256(content).hexdigest() != self.hashes[name]:
            raise self._changed(name)
        return content

    def file(self, name: str) -> Path:
        """A file of data, not of code, for a library that reads it by its path. Raises like `content`."""
        path = self.folder / name
        if not stat.S_ISREG(path.lstat().st_mode) or file_sha256(path) != self.hashes[name]:
            raise self._changed(name)
        return path

    def _changed(self, name: str) -> ValueError:
        return ValueError(f"{self.folder / name} is not what was written, it may be truncated")


class SignedStore:
    """Entries of one kind, by name."""

    def __init__(self, kind: str) -> None:
        """Raises OSError: the folder cannot be made, or another user could write to it or put another in its place."""
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

    def read(self, name: str, key: Mapping[str, Any]) -> SignedEntry | None:
        """None where no such entry exists.

        Raises:
            ValueError, OSError: the entry is damaged, changed, or not of this key; the message says which.
        """
        folder = self.folder_of(name)
        if not os.path.lexists(folder):
            return None
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise ValueError(f"{folder} is no folder but a link or a file")
        try:
            record = json.loads(_read(folder / _ENTRY_JSON))
            signature = record.pop("hmac")
            entry = SignedEntry(folder, record["files"], record["about"])
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError, FileNotFoundError):
            raise ValueError(f"{folder / _ENTRY_JSON} is missing or damaged") from None
        if not hmac.compare_digest(str(signature), self._sign(record)):
            raise ValueError(f"{folder / _ENTRY_JSON} was not signed by this machine, or changed since")
        if other := _differences(record["key"], as_plain_json(key)):
            raise ValueError(f"{folder} is of another {other}")
        return entry

    def write(
        self, name: str, key: Mapping[str, Any], files: Mapping[str, bytes | Path], about: Mapping[str, Any]
    ) -> None:
        """Makes or replaces an entry, all of it or nothing.

        Args:
            files: contents, or files that are moved.

        Raises:
            OSError: it cannot be written.
        """
        staging = self.make_staging_folder()
        try:
            for file, content in files.items():
                if isinstance(content, Path):
                    shutil.move(content, staging / file)
                else:
                    (staging / file).write_bytes(content)
            record: dict[str, Any] = {
                "key": as_plain_json(key),
                "files": {file: file_sha256(staging / file) for file in files},
                "about": as_plain_json(about),
            }
            record["hmac"] = self._sign(record)
            (staging / _ENTRY_JSON).write_text(json.dumps(record, indent=2), encoding="utf-8")
            self._publish(staging, self.folder_of(name))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def folder_of(self, name: str) -> Path:
        """The folder of an entry, whether it exists or not."""
        return self._folder / name

    def make_staging_folder(self) -> Path:
        """Makes a folder for an entry's files, which the caller removes; those of killed processes are removed now."""
        for abandoned in self._folder.glob(f"{_STAGING}*"):
            if time.time() - abandoned.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(abandoned, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._folder, prefix=_STAGING))

    def remove(self, name: str) -> None:
        folder = self.folder_of(name)
        if folder.is_symlink() or folder.is_file():
            folder.unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, staging: Path, folder: Path) -> None:
        """A folder cannot be put in the place of another one; a reader finds the old entry, none, or the new one."""
        try:
            os.replace(staging, folder)
        except OSError:
            if not os.path.lexists(folder):
                raise
            self.remove(folder.name)
            try:
                os.replace(staging, folder)
            except OSError:
                if not folder.is_dir():  # else another process was first, and its entry is as good
                    raise

    def _sign(self, record: Mapping[str, Any]) -> str:
        return hmac.new(self._secret, canonical_json(record), hashlib.sha256).hexdigest()


def as_plain_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as it comes back from JSON."""
    return json.loads(json.dumps(value))  # type: ignore[no-any-return]


def canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """One line about the items of the expected key that the entry's key has otherwise."""
    return ", ".join(
        f"{name} ({found.get(name)!s:.80}, here {value!s:.80})"
        for name, value in expected.items()
        if found.get(name) != value
    )


def _secret(folder: Path) -> bytes:
    """The secret that signs entries; made once, and by one of several processes."""
    path = folder / _SECRET
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=_STAGING)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    secret = _read(path)
    if len(secret) != 32:
        raise OSError(f"expected 32 bytes in {path}, found {len(secret)}; delete that file")
    return secret


def _read(path: Path) -> bytes:
    """A regular file's bytes; a link is not followed, a pipe is not waited for.

    Raises:
        ValueError, OSError: it is no regular file, or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | _PLAIN)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"{path} is no regular file")
        return file.read()


def _require_own_base(base: Path) -> None:
    """Raises PermissionError: any user could put a folder in the place of ours. A group is only warned of."""
    try:
        mode = base.stat().st_mode
    except FileNotFoundError:
        return  # it will be made, for this user alone
    if mode & stat.S_ISVTX:
        return  # as in /tmp, other users cannot rename our files
    if mode & stat.S_IWOTH:
        raise PermissionError(f"expected a cache that only you can write, everybody can write {base}; chmod go-w it")
    if mode & stat.S_IWGRP:
        _warn_of_group(base)


@cache
def _warn_of_group(base: Path) -> None:
    """Once in a process."""
    _log.warning("the cache %s can be written by its group; if that is not you alone: chmod g-w it", base)
