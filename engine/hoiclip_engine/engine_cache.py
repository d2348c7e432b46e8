"""Compiled engines on disk. An engine is native code: only what this machine made, and nobody changed, is ever loaded.

An entry is a folder named by its key: the bytes, and a JSON with the key, the hash of the bytes and a signature by a
secret that only this user can read. Where anything is wrong with an entry, the engine is made again, and one line says
why.
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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hoiclip.cache import cache_folder

_log = logging.getLogger("hoiclip")
_ENGINE, _SIDECAR, _SECRET = "engine.bin", "engine.json", "secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Everything an engine depends on; where one of these differs, it is another engine."""

    graph_sha256: str
    library: str
    """Name and version of what compiles."""
    device: str
    """GPU and its compute capability, or CPU and the features compilers ask for."""
    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, str]
    plugin_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def digest(self) -> str:
        return hashlib.sha256(_canonical(self.to_dict())).hexdigest()


def engine(key: EngineKey, make: Callable[[], bytes], about: Mapping[str, Any] | None = None) -> bytes:
    """The engine of a key: from the cache if there is a sound one, else made and kept.

    A cache that cannot be written costs nothing but the next start.

    Args:
        about: what else to write down of a new engine, e.g. how it was checked.
    """
    try:
        folder = _folder()
        secret = _secret(folder)
    except OSError as error:
        _log.warning("engines are not kept: %s", error)
        return make()
    entry = folder / key.digest()
    if entry.exists():
        try:
            return _read(entry, key, secret)
        except (OSError, ValueError) as error:
            _log.warning("the %s engine is made again: %s", key.library, error)
            shutil.rmtree(entry, ignore_errors=True)
    made = make()
    try:
        _write(entry, key, made, secret, about or {})
    except OSError as error:
        _log.warning("the %s engine is not kept: %s", key.library, error)
    return made


def _folder() -> Path:
    """Raises OSError: somebody else could put engines there."""
    folder = cache_folder("engines")
    status = folder.stat()
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise PermissionError(f"expected {folder} to be yours, its owner is user {status.st_uid}")
    if os.name == "posix" and stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def _secret(folder: Path) -> bytes:
    """What entries are signed with; made once, and by one of several processes."""
    path = folder / _SECRET
    if not path.exists():
        handle, part = tempfile.mkstemp(dir=folder, prefix=".part-")  # mode 0600
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


def _read(entry: Path, key: EngineKey, secret: bytes) -> bytes:
    """Raises ValueError, OSError: the entry is damaged, changed, or not of this key."""
    try:
        said = json.loads((entry / _SIDECAR).read_text(encoding="utf-8"))
        signature = said.pop("hmac")
        expected = said["sha256"]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError(f"{entry / _SIDECAR} is damaged") from None
    if not hmac.compare_digest(str(signature), _sign(said, secret)):
        raise ValueError(f"{entry / _SIDECAR} was not signed by this machine, or changed since")
    if said["key"] != key.to_dict():
        raise ValueError(f"{entry} is of another engine")
    content = (entry / _ENGINE).read_bytes()  # read once: what was checked is what is loaded
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{entry / _ENGINE} is not what was written, it may be truncated")
    return content


def _write(entry: Path, key: EngineKey, content: bytes, secret: bytes, about: Mapping[str, Any]) -> None:
    part = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".part-"))
    try:
        (part / _ENGINE).write_bytes(content)
        said = {"key": key.to_dict(), "sha256": hashlib.sha256(content).hexdigest(), "about": dict(about)}
        said["hmac"] = _sign(said, secret)
        (part / _SIDECAR).write_text(json.dumps(said, indent=2), encoding="utf-8")
        try:
            os.replace(part, entry)
        except OSError:
            if not entry.is_dir():  # else another process was first, and its engine is as good
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sign(said: Mapping[str, Any], secret: bytes) -> str:
    return hmac.new(secret, _canonical(said), hashlib.sha256).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
