"""Makes a list of single sources of what the user wrote: folders, globs and list files stand for several.

A folder or a glob stands for the videos and pictures in it, in the order of their names, each a source of its own; a
list file (.txt) for one source per line. Sizes and counts are bounded, and no list names a list.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hoiclip.errors import SourceError, UsageError
from hoiclip_engine.video.address import Address, is_stream, parse_address, path_is_there
from hoiclip_engine.video.redact import redact

MAX_SOURCES = 10_000
MAX_LIST_BYTES = 2**20
# fmt: off
VIDEOS = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".flv", ".ogv", ".wmv",
    ".asf", ".mxf", ".3gp", ".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".obu", ".y4m", ".mjpeg", ".mjpg",
    ".gif", ".dv", ".nut", ".vob",
))
# fmt: on
PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".jxl"))
"""Suffixes by which a folder or glob finds them; a file that is named itself may be called anything."""
_GLOB = frozenset("*?[")


def expand_sources(texts: Sequence[str]) -> list[Address]:
    """All single sources, in the order of the texts.

    Raises:
        UsageError: something that is not in the grammar, or standard input twice.
        SourceError: a folder, glob or list with nothing in it, or one that cannot be read.
    """
    found: list[Address] = []
    for text in texts:
        for address in _expand(text, None):
            found.append(address)
            if len(found) > MAX_SOURCES:
                raise UsageError(f"expected at most {MAX_SOURCES} sources, found more; name fewer")
    if sum(address.kind == "stdin" for address in found) > 1:
        raise UsageError("expected standard input once, found it several times; name it once")
    return found


def _expand(text: str, folder: Path | None) -> Iterator[Address]:
    """folder is that of the list which names the text, None for the command line."""
    if "\0" in text:
        parse_address(text, folder)  # which says so
    path = (folder or Path()) / text
    if path_is_there(text, folder):
        if path.is_dir():
            yield from _media(_entries(path), f"the folder {redact(text)}")
            return
        if path.suffix.lower() == ".txt" and path.is_file():
            yield from _listed(path, inside_list=folder is not None)
            return
    elif not is_stream(text) and _GLOB.intersection(text):
        matches = glob.iglob(text if folder is None else str(Path(glob.escape(str(folder))) / text))
        yield from _media((Path(match) for match in matches), f"what {redact(text)} stands for")
        return
    address = parse_address(text, folder)
    if folder is not None and address.kind == "stdin":
        raise UsageError("expected files and streams in a list of sources, found standard input; name it directly")
    yield address


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise SourceError(
            f"expected a folder that can be read, found {redact(str(folder))} ({error.strerror})"
        ) from None


def _media(paths: Iterable[Path], what: str) -> Iterator[Address]:
    known = VIDEOS | PICTURES
    media: list[str] = []
    for path in paths:
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file():
            media.append(str(path))
        if len(media) > MAX_SOURCES:
            raise UsageError(f"expected at most {MAX_SOURCES} sources, found more in {what}; name fewer")
    if not media:
        raise SourceError(f"expected videos or pictures in {what}, found none by their suffix; name files directly")
    for name in sorted(media):
        yield Address(kind="file", location=name, name=redact(name))


def _listed(path: Path, *, inside_list: bool) -> Iterator[Address]:
    name = redact(str(path))
    if inside_list:
        raise UsageError(f"expected sources in a list, found another list, {name}; put its lines into the first one")
    count = 0
    for line in _lines(path, name):
        text = line.strip()
        if text and not text.startswith("#"):
            count += 1
            yield from _expand(text, path.parent)
    if not count:
        raise SourceError(f"expected one source per line in {name}, found none; write some, or name files directly")


def _lines(path: Path, name: str) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
        if len(data) > MAX_LIST_BYTES:
            raise SourceError(f"expected a list of at most {MAX_LIST_BYTES} bytes, found {name} bigger; split it")
        return data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise SourceError(f"expected a list of sources that can be read, found {name} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SourceError(f"expected a list of sources as UTF-8 text in {name}, found other bytes") from None
