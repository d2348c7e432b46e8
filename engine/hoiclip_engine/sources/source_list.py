"""Expansion of what the user wrote to a list of single sources: folders, globs and list files stand for several.

A folder or a glob stands for the videos and images in it, sorted by name, each a source of its own; a list file (.txt)
for one source per line. Sizes and counts are bounded, and lists do not nest.
"""

from __future__ import annotations

import errno
import glob
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hoiclip.core.errors import SourceError, UsageError
from hoiclip.core.foreign_file import read_text
from hoiclip_engine.sources.uri import SourceAddress, is_stream, parse_address, path_exists, redact

MAX_SOURCES = 10_000
MAX_LIST_BYTES = 2**20
# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".ts", ".m2ts", ".m2t", ".mts", ".mpg", ".mpeg",
    ".mpe", ".mpv", ".m1v", ".m2v", ".flv", ".f4v", ".ogv", ".ogm", ".wmv", ".asf", ".mxf", ".3gp", ".3g2", ".rm",
    ".rmvb", ".wtv", ".h261", ".h263", ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".h266", ".266", ".vvc",
    ".vc1", ".ivf", ".obu", ".av1", ".y4m", ".mjpeg", ".mjpg", ".gif", ".dv", ".nut", ".vob",
))
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jls", ".jxl", ".avif",
    ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif",
))
# fmt: on
"""Suffixes of files that a folder or glob stands for; a file that is named itself may have any name."""
_GLOB = frozenset("*?[")
_MAX_KINDS_LISTED = 6
_log = logging.getLogger("hoiclip")


def expand_sources(texts: Sequence[str]) -> list[SourceAddress]:
    """Expands to single sources, in the order of the texts.

    Raises:
        UsageError: a text outside the grammar, or standard input twice.
        SourceError: a folder, glob or list that is empty or cannot be read.
    """
    found: list[SourceAddress] = []
    for text in texts:
        for address in _expand(text, None):
            found.append(address)
            if len(found) > MAX_SOURCES:
                raise UsageError(f"expected at most {MAX_SOURCES} sources, found more; name fewer")
    if sum(address.kind == "stdin" for address in found) > 1:
        raise UsageError("expected standard input once, found it several times; name it once")
    return found


def _expand(text: str, folder: Path | None) -> Iterator[SourceAddress]:
    """Expands one text; folder is that of the list which holds it, None for the command line."""
    if "\0" in text:
        parse_address(text, folder)  # raises UsageError
    path = (folder or Path()) / text
    if path_exists(text, folder):
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


def _media(paths: Iterable[Path], what: str) -> Iterator[SourceAddress]:
    known = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    media: list[str] = []
    others: list[Path] = []
    for path in paths:
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file():
            media.append(str(path))
        else:
            others.append(path)
        if len(media) > MAX_SOURCES:
            raise UsageError(f"expected at most {MAX_SOURCES} sources, found more in {what}; name fewer")
    if not media:
        raise SourceError(f"expected videos or images in {what}, found none by their suffix; name files directly")
    # JSON lines with the name of a video are its ground truth, or its detections.
    lines = {str(Path(name).with_suffix(".jsonl")) for name in media}
    left_out = Counter(_left_out_as(path) for path in others if str(path) not in lines)
    if left_out:
        counted = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common(_MAX_KINDS_LISTED))
        more = " ..." if len(left_out) > _MAX_KINDS_LISTED else ""
        _log.warning("left out of %s: %s%s; what should be read can be named by itself", what, counted, more)
    for name in sorted(media):
        yield SourceAddress(kind="file", location=name, name=redact(name))


def _left_out_as(path: Path) -> str:
    """Kind of a path that is left out, in words that fit after a number."""
    if path.is_dir():
        return "folders"
    if path.name.startswith("."):
        return "hidden"
    if not path.is_file():
        return "that are no files"
    suffix = path.suffix.lower()
    return ascii(suffix)[1:-1][:12] if suffix else "without a suffix"


def _listed(path: Path, *, inside_list: bool) -> Iterator[SourceAddress]:
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
        return read_text(path, MAX_LIST_BYTES).splitlines()
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise SourceError(
                f"expected a list of at most {MAX_LIST_BYTES} bytes, found {name} bigger; split it"
            ) from None
        raise SourceError(f"expected a list of sources that can be read, found {name} ({error.strerror})") from None
    except ValueError:
        raise SourceError(f"expected a list of sources as UTF-8 text in {name}, found other bytes") from None
