"""The grammar of sources: what the user wrote, as an address that something can open. Nothing is opened here.

    clip.mp4   pictures/   'cams/*.mp4'   cameras.txt   -   0   v4l2:///dev/video0   rtsp://host/stream   ...

Options of one source follow it after "#": `rtsp://host/stream#transport=udp&timeout=3&hwaccel=auto`. They never go to a
server. A path that is there is that path, whatever is in its name. What stands for several sources is expand.py;
docs/sources.md is for users.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from hoiclip.errors import UsageError
from hoiclip_engine.video.redact import redact
from hoiclip_engine.video.source_config import Hwaccel, SourceConfig, Transport

Kind = Literal["file", "stdin", "webcam", "stream"]

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp")
"""What the ffmpeg inside PyAV 18.1 reads; it has no SRT."""
OPTIONS = ("transport", "timeout", "hwaccel")
# With two slashes at least, so that "a:b.mp4" is a path.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_OPTIONS = re.compile(r"[a-z]+=[^=&/@?]*(&[a-z]+=[^=&/@?]*)*")
_DEVICE = re.compile(r"/dev/[A-Za-z0-9._:/\-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One source, not opened yet."""

    kind: Kind
    location: str = field(repr=False)
    """What is opened: a path, a device or a URL. May hold a password: never printed."""
    name: str
    """To print: the same without credentials."""
    transport: Transport | None = None
    """Its own; None for that of the config."""
    timeout_s: float | None = None
    hwaccel: Hwaccel | None = None

    @property
    def scheme(self) -> str:
        """Of a stream: rtsp, http, ...; empty for everything else."""
        return self.location.partition("://")[0].lower() if self.kind == "stream" else ""

    def config(self, default: SourceConfig) -> SourceConfig:
        """The config with this source's own options put over it."""
        own: dict[str, Any] = {"transport": self.transport, "timeout_s": self.timeout_s, "hwaccel": self.hwaccel}
        return replace(default, **{key: value for key, value in own.items() if value is not None})


def parse_address(text: str, folder: Path | None = None) -> Address:
    """One source of the grammar; whether it is there is found out when it is opened.

    Args:
        text: as written by the user.
        folder: what relative paths are relative to; None for the working directory.

    Raises:
        UsageError: a scheme or option that does not exist, or a URL without a host.
    """
    if not text.strip():
        raise UsageError("expected a source, found an empty one; name a file, a stream or a camera")
    if "\0" in text:
        raise UsageError(f"expected the name of a source, found one with a zero byte, {redact(text)}; correct it")
    if path_is_there(text, folder):
        return _path(text, folder)
    location, options = _split_options(text)
    address = _located(location, folder)
    return replace(address, **_options(options, address.name)) if options else address


def path_is_there(text: str, folder: Path | None = None) -> bool:
    """Whether the text, as it stands, is the name of something on disk; cameras and "-" are not."""
    if not text.strip() or is_stream(text) or text == "-" or _webcam(text) is not None or "\0" in text:
        return False
    try:
        return ((folder or Path()) / text).exists()
    except OSError:  # too long for a name, or a folder that may not be entered
        return False


def is_stream(text: str) -> bool:
    """Whether this is written as a URL, of whatever scheme."""
    return _SCHEME.match(text) is not None


def _located(location: str, folder: Path | None) -> Address:
    if location == "-":
        return Address(kind="stdin", location="-", name="standard input")
    device = _webcam(location)
    if device is not None:
        return Address(kind="webcam", location=device, name=device)
    return _stream(location) if is_stream(location) else _path(location, folder)


def _path(text: str, folder: Path | None) -> Address:
    location = text if folder is None else str(folder / text)
    return Address(kind="file", location=location, name=redact(location))


def _webcam(text: str) -> str | None:
    """The device of "0", "v4l2:///dev/video0", "v4l2:/dev/video0" or "/dev/video0"."""
    if re.fullmatch(r"[0-9]{1,2}", text):
        return f"/dev/video{int(text)}"
    if text.startswith("/dev/video"):
        return text if _DEVICE.fullmatch(text) else None
    found = re.fullmatch(r"v4l2:(?://)?(/dev/[^#]*)", text)
    return found[1] if found and _DEVICE.fullmatch(found[1]) and ".." not in found[1] else None


def _stream(url: str) -> Address:
    name = redact(url)
    found = _SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    if scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise UsageError(f"expected one of {known} or v4l2:///dev/..., found {name}; leave the scheme out for a file")
    if any(not c.isprintable() or c == " " for c in url):
        raise UsageError(f"expected an address without spaces, found some in {name}; write a space as %20")
    if not _has_host(url):
        raise UsageError(
            f"expected a host, and a port that is a number, in {name}; "
            "check the address, and write / ? # @ in a password as %2F %3F %23 %40"
        )
    return Address(kind="stream", location=url, name=name)


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
        # udp://@239.0.0.1:1234 and udp://:1234 listen, and so name a group or nothing.
        return bool(parts.hostname or (parts.scheme == "udp" and port))
    except ValueError:  # a port that is no number, brackets that do not match
        return False


def _split_options(text: str) -> tuple[str, str]:
    """What is before the last "#" and the options after it; a "#" that starts no options belongs to a path's name."""
    before, mark, after = text.rpartition("#")
    if not mark or _OPTIONS.fullmatch(after):
        return (before, after) if mark else (text, "")
    if not is_stream(text):
        return text, ""
    if "@" in after:  # part of a password; ffmpeg would take the host for what is before it
        raise UsageError(f"expected no # in the user or password of {redact(text)}; write it as %23")
    raise UsageError(f"expected options such as #transport=tcp&timeout=5 after {redact(before)}, found something else")


def _options(text: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, _, value in (part.partition("=") for part in text.split("&")):
        if key not in OPTIONS:
            raise UsageError(f"expected an option of {', '.join(OPTIONS)} after #, found another one, of {name}")
        found["timeout_s" if key == "timeout" else key] = _option(key, value, name)
    return found


def _option(key: str, value: str, name: str) -> str | float:
    if key == "timeout":
        try:
            return SourceConfig(timeout_s=float(value)).timeout_s
        except ValueError:
            raise UsageError(f"expected seconds, such as timeout=5, for {name}; found something else") from None
    allowed = get_args(Transport if key == "transport" else Hwaccel)
    if value not in allowed:
        raise UsageError(f"expected {key} to be one of {', '.join(allowed)} for {name}; found something else")
    return value
