"""Names of sources that are safe to print: no user, no password, no token, one line.

It only makes text for people; nothing opens what comes out of it.
"""

from __future__ import annotations

import re

HIDDEN = "***"

# Two letters at least, so that "C:/clip.mp4" stays a path. One slash is enough: pathlib turns "rtsp://" into "rtsp:/".
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):/+")
# Cameras of several makers take "rtsp://host/user=admin&password=secret&channel=1".
_SECRET_IN_PATH = re.compile(r"(?i)((?:user|pass|pwd|token|key|secret|auth|sig)[^=/&?;#]*=)[^/&;]*")
_HARMLESS_QUERY = re.compile(r"(channel|subtype|stream|width|height|fps)=\d{1,5}")


def is_url(source: str) -> bool:
    """Whether this names something on a network or a device rather than a path."""
    return _URL.match(source) is not None


def redact(url: str) -> str:
    """The same address without credentials; a path comes back as it is, made printable.

    Everything before the last "@" goes, because passwords hold "/", "?" and "@" unescaped in practice: an ugly name is
    better than a leaked password.
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
    first_part = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return after if at and (":" in before or "@" in first_part) else rest


def _redact_query(query: str) -> str:
    return "&".join(_redact_parameter(parameter) for parameter in query.partition("#")[0].split("&"))


def _redact_parameter(parameter: str) -> str:
    if _HARMLESS_QUERY.fullmatch(parameter):
        return parameter
    key, equals, _ = parameter.partition("=")
    return f"{key}={HIDDEN}" if equals else HIDDEN
