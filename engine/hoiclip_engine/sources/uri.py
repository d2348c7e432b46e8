"""The grammar of sources, from what the user wrote to the address of one source; and names without credentials.

    clip.mp4   images/   'cams/*.mp4'   cameras.txt   -   0   v4l2:///dev/video0   rtsp://host/stream   ...

Options of one source follow it after "#": `rtsp://host/stream#transport=udp&timeout=3&hwaccel=auto`. They are never
sent to a server. An existing path is that path, whatever its name. Folders, globs and lists are expanded by
source_list.py. Nothing is opened here; docs/sources.md is for users.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from hoiclip.core.errors import UsageError
from hoiclip_engine.sources.base import Hwaccel, SourceConfig, Transport

SourceKind = Literal["file", "stdin", "webcam", "stream"]

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp")
"""Protocols of the ffmpeg inside PyAV 18.1; it has no SRT."""
OPTIONS = ("transport", "timeout", "hwaccel")
# With two slashes at least, so that "a:b.mp4" is a path.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_OPTIONS = re.compile(r"[a-z]+=[^=&/@?]*(&[a-z]+=[^=&/@?]*)*")
_DEVICE = re.compile(r"/dev/[A-Za-z0-9._:/\-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAddress:
    """Address of one source that is not opened yet."""

    kind: SourceKind
    location: str = field(repr=False)
    """Path, device or URL to open. May hold a password: never printed."""
    name: str
    """The same without credentials, to print."""
    transport: Transport | None = None
    """Own transport; None for that of the config."""
    timeout_s: float | None = None
    hwaccel: Hwaccel | None = None

    @property
    def scheme(self) -> str:
        """Scheme of a stream: rtsp, http, ...; empty for everything else."""
        return self.location.partition("://")[0].lower() if self.kind == "stream" else ""

    def config(self, default: SourceConfig) -> SourceConfig:
        """The default config with the options of this source."""
        own: dict[str, Any] = {"transport": self.transport, "timeout_s": self.timeout_s, "hwaccel": self.hwaccel}
        return replace(default, **{key: value for key, value in own.items() if value is not None})


def parse_address(text: str, folder: Path | None = None) -> SourceAddress:
    """Parses one source of the grammar; whether it exists is checked when it is opened.

    Args:
        text: as written by the user.
        folder: base of relative paths; None for the working directory.

    Raises:
        UsageError: an unknown scheme or option, or a URL without a host.
    """
    if not text.strip():
        raise UsageError("expected a source, found an empty one; name a file, a stream or a camera")
    if "\0" in text:
        raise UsageError(f"expected the name of a source, found one with a zero byte, {redact(text)}; correct it")
    if path_exists(text, folder):
        return _path(text, folder)
    location, options = _split_options(text)
    address = _parse_location(location, folder)
    return replace(address, **_options(options, address.name)) if options else address


def address_text(address: SourceAddress) -> str:
    """What parse_address makes the same source of, with the absolute path of a file; may hold a password."""
    options = {"transport": address.transport, "timeout": address.timeout_s, "hwaccel": address.hwaccel}
    chosen = "&".join(f"{key}={value}" for key, value in options.items() if value is not None)
    location = str(Path(address.location).absolute()) if address.kind == "file" else address.location
    return f"{location}#{chosen}" if chosen else location


def path_exists(text: str, folder: Path | None = None) -> bool:
    """Whether the text is the name of an existing file or folder; cameras and "-" are not."""
    if not text.strip() or is_stream(text) or text == "-" or _webcam(text) is not None or "\0" in text:
        return False
    try:
        return ((folder or Path()) / text).exists()
    except OSError:  # too long for a name, or a folder that may not be entered
        return False


def is_stream(text: str) -> bool:
    """Whether the text has the form of a URL, of any scheme."""
    return _SCHEME.match(text) is not None


def _parse_location(location: str, folder: Path | None) -> SourceAddress:
    if location == "-":
        return SourceAddress(kind="stdin", location="-", name="standard input")
    device = _webcam(location)
    if device is not None:
        return SourceAddress(kind="webcam", location=device, name=device)
    return _stream(location) if is_stream(location) else _path(location, folder)


def _path(text: str, folder: Path | None) -> SourceAddress:
    location = text if folder is None else str(folder / text)
    return SourceAddress(kind="file", location=location, name=redact(location))


def _webcam(text: str) -> str | None:
    """The device of "0", "v4l2:///dev/video0", "v4l2:/dev/video0" or "/dev/video0"."""
    if re.fullmatch(r"[0-9]{1,2}", text):
        return f"/dev/video{int(text)}"
    if text.startswith("/dev/video"):
        return text if _DEVICE.fullmatch(text) else None
    found = re.fullmatch(r"v4l2:(?://)?(/dev/[^#]*)", text)
    return found[1] if found and _DEVICE.fullmatch(found[1]) and ".." not in found[1] else None


def _stream(url: str) -> SourceAddress:
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
    return SourceAddress(kind="stream", location=url, name=name)


def _has_host(url: str) -> bool:
    try:
        split = urlsplit(url)
        port = split.port
        # udp://@239.0.0.1:1234 and udp://:1234 listen, and so name a group or nothing.
        return bool(split.hostname or (split.scheme == "udp" and port))
    except ValueError:  # a port that is no number, brackets that do not match
        return False


def _split_options(text: str) -> tuple[str, str]:
    """Splits at the last "#" into location and options; a "#" without options after it belongs to the path."""
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
    for key, _, value in (option.partition("=") for option in text.split("&")):
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


HIDDEN = "***"

# Two letters at least, so that "C:/clip.mp4" stays a path. One slash is enough: pathlib turns "rtsp://" into "rtsp:/".
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):/+")
# Cameras of several makers take "rtsp://host/user=admin&password=secret&channel=1".
_SECRET_IN_PATH = re.compile(r"(?i)((?:user|pass|pwd|token|key|secret|auth|sig)[^=/&?;#]*=)[^/&;]*")
_HARMLESS_QUERY = re.compile(r"(channel|subtype|stream|width|height|fps)=\d{1,5}")


def is_url(source: str) -> bool:
    """Whether the text has the form of a URL, even after pathlib removed a slash."""
    return _URL.match(source) is not None


def redact(url: str) -> str:
    """Removes credentials from an address and makes it printable, in one line.

    Everything before the last "@" is removed, because passwords hold "/", "?" and "@" unescaped in practice: an ugly
    name is better than a leaked password.
    """
    printable = "".join(c if c.isprintable() else "?" for c in url)
    match = _URL.match(printable)
    if match is None:
        return printable
    rest = _without_user(printable[match.end() :])
    address, question_mark, query = rest.partition("?")
    address, hash_mark, _ = address.partition("#")
    address = _SECRET_IN_PATH.sub(rf"\g<1>{HIDDEN}", address)
    if hash_mark:
        return f"{match[0]}{address}#{HIDDEN}"
    return f"{match[0]}{address}" + (f"?{_redact_query(query)}" if question_mark else "")


def _without_user(rest: str) -> str:
    before, at, after = rest.rpartition("@")
    host_part = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return after if at and (":" in before or "@" in host_part) else rest


def _redact_query(query: str) -> str:
    return "&".join(_redact_parameter(parameter) for parameter in query.partition("#")[0].split("&"))


def _redact_parameter(parameter: str) -> str:
    if _HARMLESS_QUERY.fullmatch(parameter):
        return parameter
    key, equals, _ = parameter.partition("=")
    return f"{key}={HIDDEN}" if equals else HIDDEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Address of a webhook or broker, in parts."""

    scheme: str
    host: str
    port: int | None
    path: str
    query: str
    user: str | None
    password: str = field(repr=False)

    @property
    def netloc(self) -> str:
        """Host and port, without credentials."""
        return (f"[{self.host}]" if ":" in self.host else self.host) + (f":{self.port}" if self.port else "")


def split_receiver(url: str, schemes: Sequence[str], option: str, example: str) -> Receiver:
    """Splits the address that an option was given.

    Raises:
        UsageError: not an address of these schemes with a host, or with credentials that are not escaped.
    """
    wrong = UsageError(f"expected an address such as {example} for --{option}; correct it")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        redacted_host = urlsplit(redact(url)).hostname
    except ValueError:
        raise wrong from None
    if parts.scheme not in schemes or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise wrong
    if redacted_host != parts.hostname:
        raise UsageError(f"expected no / ? # @ in the user or password of --{option}; write them as %2F %3F %23 %40")
    return Receiver(
        scheme=parts.scheme,
        host=host,
        port=port,
        path=parts.path,
        query=parts.query,
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
    )


def failure_reason(error: Exception) -> str:
    """Why a connection failed, in one line without the address, which the error's text may hold."""
    reason = getattr(error, "reason", None)  # of urllib an error, of others a word
    error = reason if isinstance(reason, Exception) else error
    if verdict := getattr(error, "verify_message", ""):
        return f"its certificate is refused: {verdict}"
    return getattr(error, "strerror", None) or type(error).__name__


LONGEST = 80


def file_names(sources: Sequence[str]) -> list[str]:
    """Names of result files, one per source, in order, without an ending.

    Args:
        sources: printable names, as Address.name has them. A path gives its file's name, a URL its host and path.
    """
    taken: set[str] = set()
    names = []
    for source in sources:
        plain = _plain(source)
        name, number = plain, 1
        while name.lower() in taken:  # some file systems ignore case
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _plain(source: str) -> str:
    if is_url(source):
        address = source.partition("://")[2].partition("?")[0].partition("#")[0]
        text = address.replace(HIDDEN, "").replace("/", "_")
    else:
        text = PurePath(source).stem
    text = re.sub(r"[^\w.\-]+", "_", text).strip("._-")[:LONGEST]
    return text or "source"
