"""Downloads of one large file over HTTPS, resumed after a break.

What has arrived lies in a `.part` file; a JSON file beside it says which version of which address that is, so that
bytes of two versions are never joined. Whether a whole file is the expected one is decided by fetch.py.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from hoiclip import __version__
from hoiclip.core.atomic_write import TEMPORARY_SUFFIX, write_file
from hoiclip.core.errors import SinkError, SourceError, UsageError
from hoiclip.core.file_lock import try_lock
from hoiclip.core.foreign_file import read_json

Report = Callable[[int, "int | None"], None]
"""Called with the bytes so far, and with those of the whole file where the server says how many."""

LARGEST = 4 << 30
"""Bytes of a download; released checkpoints have less than one GiB."""
_LARGEST_PAGE = 1 << 20
_BLOCK = 1 << 16
_TIMEOUT_S = 30.0
_TRIES = 5
_MOST_PAGES = 3
"""Answers of Google Drive before the file itself."""
_SPARE = 64 << 20
"""Bytes of a disk that a download leaves free."""
_RESUMES = "what has arrived is kept, and the same command resumes"


@dataclass(frozen=True, slots=True)
class _Version:
    """The version of a file that a server hands out."""

    address: str
    size: int
    validator: str
    """A strong ETag or else a date, for If-Range; empty: the server names neither."""


class _Restart(Exception):
    """The server does not continue the bytes that are here."""


def download(address: str, target: Path, report: Report, *, google_drive: bool = False, copies: int = 1) -> None:
    """Downloads a file, or the rest of it, and renames it to `target` once its last byte is on the disk.

    Args:
        address: https; http only on this machine itself.
        google_drive: pages that ask for a confirmation are confirmed, by gdown.
        copies: of the file that must fit on the disk, this one included.

    Raises:
        SourceError: no answer, a refusal, a web page instead of a file, or a transfer that breaks again and again.
        SinkError: the disk is full or cannot be written.
        UsageError: another process downloads the same file.
    """
    opener = _opener(address)
    part = target.with_name(target.name + TEMPORARY_SUFFIX)
    with _locked(part, address) as file:
        for tries_left in reversed(range(_TRIES)):
            had = file.seek(0, os.SEEK_END)
            try:
                _receive(opener, address, file, report, google_drive=google_drive, copies=copies)
                break
            except _Restart:
                _forget(file)
                if not (tries_left and had):
                    raise SourceError(
                        f"expected the whole of {address}, the server sends another range of bytes; try again later"
                    ) from None
            except urllib.error.HTTPError as error:
                error.close()
                raise SourceError(f"{address} answers {error.code} {error.reason}; try again later") from error
            except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: no address to be led to
                here = file.seek(0, os.SEEK_END)
                if not tries_left or here <= had:
                    advice = _RESUMES if here else "is this machine online? Try again later"
                    raise SourceError(f"the download of {address} failed ({_reason(error)}); {advice}") from error
        file.flush()
        os.fsync(file.fileno())
        os.replace(part, target)
        _version_file(part).unlink(missing_ok=True)


def remove_download(target: Path) -> None:
    """Removes a downloaded file, and what is left of an unfinished download of it."""
    part = target.with_name(target.name + TEMPORARY_SUFFIX)
    for path in (target, part, _version_file(part)):
        path.unlink(missing_ok=True)


def _receive(
    opener: urllib.request.OpenerDirector,
    address: str,
    file: BinaryIO,
    report: Report,
    *,
    google_drive: bool,
    copies: int,
) -> None:
    """One request, and its body into the file.

    Raises:
        _Restart: the answer does not continue what the file holds.
        OSError, http.client.HTTPException: the transfer broke.
        HoiclipError: see download.
    """
    known = _read_version(file, address)
    offset = file.seek(0, os.SEEK_END) if known else 0
    if known and offset == known.size:
        return
    headers = {"User-Agent": f"hoiclip/{__version__}", "Accept-Encoding": "identity"}
    if known and offset:
        headers["Range"] = f"bytes={offset}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        response = _open_file(opener, address, headers, google_drive=google_drive)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            raise _Restart from error
        raise
    with response:
        start, size = _extent(response, known, offset)
        if size is not None:
            _require_room(Path(file.name).parent, copies * size - start)
        _require_limit(size or 0)
        with _writing(file):
            file.seek(start)
            file.truncate()
            if start == 0:
                _write_version(file, _Version(address, size or 0, _validator(response)))
        _copy(response, file, start, size, report)


def _extent(response: http.client.HTTPResponse, known: _Version | None, offset: int) -> tuple[int, int | None]:
    """Where in the file the body begins, and the size of the whole file if the server says so.

    Raises:
        _Restart: a range that does not continue the file, or of another version.
    """
    if response.status == http.HTTPStatus.OK:
        return 0, response.length
    found = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", response.headers.get("Content-Range", ""), re.ASCII)
    if known is None or response.status != http.HTTPStatus.PARTIAL_CONTENT or found is None:
        raise _Restart
    first, last, size = map(int, found.groups())
    same = _validator(response) in ("", known.validator)
    if not same or (first, last + 1, size) != (offset, known.size, known.size) or response.length != size - first:
        raise _Restart
    return offset, size


def _copy(response: http.client.HTTPResponse, file: BinaryIO, start: int, size: int | None, report: Report) -> None:
    """Raises ConnectionError: the body ends before the announced size."""
    done = start
    report(done, size)
    while block := response.read(_BLOCK):
        done += len(block)
        _require_limit(done)
        with _writing(file):
            file.write(block)
            file.flush()
        report(done, size)
    if size is not None and done < size:
        raise ConnectionError(f"{done} of {size} bytes arrived")


def _open_file(
    opener: urllib.request.OpenerDirector, address: str, headers: dict[str, str], *, google_drive: bool
) -> http.client.HTTPResponse:
    """The answer that carries the file, behind the pages of Google Drive.

    Raises:
        SourceError: a page where a file was expected.
    """
    url = address
    for _ in range(_MOST_PAGES):
        response: http.client.HTTPResponse = opener.open(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S
        )
        if not _is_page(response):
            return response
        with response:
            page = response.read(_LARGEST_PAGE).decode(errors="replace")
        if not google_drive:
            break
        url = urljoin(response.url, _confirmed(page, address))
        _require_https(url, address)
    found = re.search(r"<title[^>]*>([^<]*)", page, re.IGNORECASE)
    title = " ".join(found[1].split())[:80] if found else "without a title"
    raise SourceError(
        f"expected a file from {address}, found a web page ({title}); does this network ask for a login? Else try "
        "again later"
    )


def _confirmed(page: str, address: str) -> str:
    """The address behind a page of Google Drive that asks for a confirmation.

    Raises:
        SourceError: the page refuses the file.
    """
    # Not gdown.download: it joins bytes of two versions, follows redirects to http, and keeps cookies of its own.
    from gdown.download import get_url_from_gdrive_confirmation
    from gdown.exceptions import FileURLRetrievalError

    try:
        return get_url_from_gdrive_confirmation(page)
    except (FileURLRetrievalError, AssertionError, LookupError, ValueError) as error:  # all but the first: odd forms
        reason = " ".join(re.sub(r"<[^>]*>", "", str(error)).split())[:160]
        raise SourceError(
            f"Google Drive does not hand out the file now ({reason}); try again tomorrow, or open {address} in a "
            "browser and import what it saves: hoiclip models import"
        ) from error


def _is_page(response: http.client.HTTPResponse) -> bool:
    if response.headers.get_content_type() == "text/html":
        return True
    begin = response.peek(64)[:64].lstrip().lower() if response.status == http.HTTPStatus.OK else b""
    return begin.startswith((b"<!doctype html", b"<html"))


def _validator(response: http.client.HTTPResponse) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Opener with cookies of its own, which Google Drive wants, that follows redirects to https only."""

    class HttpsRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            _require_https(newurl, address)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    _require_https(address, address)
    return urllib.request.build_opener(HttpsRedirects, urllib.request.HTTPCookieProcessor(CookieJar()))


def _require_https(url: str, origin: str) -> None:
    """Raises SourceError: an address without encryption, unless it and the first one are of this machine."""
    schemes = {(urlsplit(each).scheme, urlsplit(each).hostname in ("127.0.0.1", "::1")) for each in (url, origin)}
    if urlsplit(url).scheme != "https" and schemes != {("http", True)}:
        parts = urlsplit(url)
        raise SourceError(
            f"expected {origin} to stay on https, it leads to {parts.scheme}://{parts.hostname}; nothing was fetched"
        )


def _require_limit(size: int) -> None:
    if size > LARGEST:
        raise SourceError(f"expected a checkpoint of less than {LARGEST >> 30} GiB, the server sends more; not fetched")


def _require_room(folder: Path, size: int) -> None:
    """Raises SinkError: the disk has less than `size` bytes free."""
    free = shutil.disk_usage(folder).free - _SPARE
    if free < size:
        raise SinkError(
            f"expected {size >> 20} MiB of free disk in {folder}, found {max(free, 0) >> 20} MiB; make room, or let "
            "HOICLIP_CACHE name a folder on another disk"
        )


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return (text.splitlines() or [type(reason).__name__])[0]


@contextmanager
def _writing(file: BinaryIO) -> Iterator[None]:
    """Raises SinkError: the disk refuses."""
    try:
        yield
    except OSError as error:
        raise SinkError(f"cannot write {file.name}: {error.strerror or error}; make room, then {_RESUMES}") from error


@contextmanager
def _locked(part: Path, address: str) -> Iterator[BinaryIO]:
    """The part file, opened by one process at a time; after an error it stays only if it can be resumed."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab"):
            pass
        file = part.open("r+b")
    except OSError as error:
        raise SinkError(
            f"cannot write {part}: {error.strerror or error}; let HOICLIP_CACHE name another folder"
        ) from error
    with file:
        if not try_lock(file):
            raise UsageError(f"another process is downloading {part}; wait until it ends")
        try:
            yield file
        except BaseException:
            if not file.seek(0, os.SEEK_END) or _read_version(file, address) is None:  # nothing that can be resumed
                part.unlink(missing_ok=True)
                _version_file(part).unlink(missing_ok=True)
            raise


def _version_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_version(file: BinaryIO, address: str) -> _Version | None:
    """What the part file holds; None where it cannot be resumed."""
    try:
        version = _Version(**read_json(_version_file(Path(file.name)), _LARGEST_PAGE))
        fits = version.address == address and version.size > 0 and isinstance(version.validator, str)
    except (OSError, TypeError, ValueError):
        return None
    return version if fits and file.seek(0, os.SEEK_END) <= version.size else None


def _write_version(file: BinaryIO, version: _Version) -> None:
    write_file(_version_file(Path(file.name)), json.dumps(asdict(version)))


def _forget(file: BinaryIO) -> None:
    file.truncate(0)
    _version_file(Path(file.name)).unlink(missing_ok=True)
