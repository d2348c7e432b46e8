"""Folders of entries that only this machine's user can have written. What is loaded as code, or believed, lies here.

An entry is a folder with files and a JSON: the key it was made for, the hashes of the files, what else is known of
them, and a signature by a secret that only this user can read.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.cache import cache_folder
from hoiclip.checkpoint.model_file import file_sha256

_SAID, _SECRET, _PART = "entry.json", "secret", ".part-"
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
        content = (self.folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.hashes[name]:
            raise self._changed(name)
        return content

    def file(self, name: str) -> Path:
        """A file that is data, not code, for whoever reads it by its path. Raises like `content`."""
        if file_sha256(self.folder / name) != self.hashes[name]:
            raise self._changed(name)
        return self.folder / name

    def _changed(self, name: str) -> ValueError:
        return ValueError(f"{self.folder / name} is not what was written, it may be truncated")


class SignedFolder:
    """Entries of one kind, by name."""

    def __init__(self, kind: str) -> None:
        """Raises OSError: the folder cannot be made, or somebody else could write to it."""
        self._folder = cache_folder(kind)
        status = self._folder.stat()
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
        if not entry.exists():
            return None
        try:
            said = json.loads((entry / _SAID).read_text(encoding="utf-8"))
            signature = said.pop("hmac")
            found = Entry(entry, said["files"], said["about"])
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError(f"{entry / _SAID} is damaged") from None
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

    def room(self) -> Path:
        """A new folder to make an entry's files in, for the caller to remove; what killed makers left goes now."""
        for left in self._folder.glob(f"{_PART}*"):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._folder, prefix=_PART))

    def remove(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def _publish(self, part: Path, entry: Path) -> None:
        """A folder cannot be put in the place of another one; a reader finds the old entry, none, or the new one."""
        try:
            os.replace(part, entry)
        except OSError:
            if not entry.is_dir():
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
    secret = path.read_bytes()
    if len(secret) != 32:
        raise OSError(f"expected 32 bytes in {path}, found {len(secret)}; delete that file")
    return secret
