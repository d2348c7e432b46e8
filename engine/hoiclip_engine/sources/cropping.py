"""Cropping that containers declare for their frames: PixelCrop of Matroska, clap of MP4 and HEIF.

ffmpeg reads these, but PyAV does not expose them, so the few bytes are parsed here. A file whose tags cannot be parsed
is shown uncropped, as by players that do not know them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES = 32 << 20
"""Maximum size of moov, meta or Tracks; anything larger is no header."""
_MAX_BOXES = 100_000
"""Maximum number at one level; editors append their changes after hours of clusters."""
_VISUAL_ENTRY_BYTES = 78
_SEGMENT, _TRACKS, _VIDEO = 0x18538067, 0x1654AE6B, 0xE0
_CROPS = {0x54CC: "left_px", 0x54BB: "top_px", 0x54DD: "right_px", 0x54AA: "bottom_px"}
_EBML = b"\x1a\x45\xdf\xa3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """Margins that are hidden, in encoded pixels: before rotation and before scaling to square pixels."""

    left_px: int = 0
    top_px: int = 0
    right_px: int = 0
    bottom_px: int = 0

    def apply(self, image: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
        """The visible region of an image.

        Args:
            image: (H, W, 3), perhaps scaled to square pixels.
            width_px: of the frame as encoded.
            height_px: of the frame as encoded.

        Returns:
            A view; the argument itself where nothing would be left.
        """
        if self.left_px + self.right_px >= width_px or self.top_px + self.bottom_px >= height_px:
            return image
        across, down = image.shape[1] / width_px, image.shape[0] / height_px
        rows = slice(round(self.top_px * down), image.shape[0] - round(self.bottom_px * down))
        columns = slice(round(self.left_px * across), image.shape[1] - round(self.right_px * across))
        return image[rows, columns]


def read_crop(file: Path, number: int, streams: int, width_px: int, height_px: int) -> Crop | None:
    """Crop that the container declares for one of its video streams.

    Args:
        file: a regular file.
        number: position of the stream among the video streams of the file.
        streams: number of video streams; still items precede tracks.
        width_px: as encoded; clap is relative to the centre.
        height_px: as encoded.

    Returns:
        None where none is declared or it cannot be parsed.
    """
    try:
        with file.open("rb") as opened:
            if opened.read(4) == _EBML:
                crops = list(_matroska_crops(opened))
                return crops[number] if number < len(crops) else None
            clap = _clap(opened, number, streams)
        return None if clap is None else _crop_of_clap(clap, width_px, height_px)
    except (OSError, ValueError, IndexError, struct.error):
        return None


def _clap(opened: IO[bytes], number: int, streams: int) -> bytes | None:
    """The clean aperture of a track, or of the primary item where no track has that number."""
    top = _top_boxes(opened)
    tracks = [
        track
        for kind, track in _boxes(top.get(b"moov", b""))
        if kind == b"trak" and _within(track, b"mdia", b"minf", b"vmhd")
    ]
    at = number - (streams - len(tracks))
    if 0 <= at < len(tracks):
        entries = _within(tracks[at], b"mdia", b"minf", b"stbl", b"stsd") or b""
        for _, entry in _boxes(entries[8:]):  # behind version, flags and count
            return dict(_boxes(entry[_VISUAL_ENTRY_BYTES:])).get(b"clap")
    return _clap_of_primary(top[b"meta"][4:]) if b"meta" in top else None


def _clap_of_primary(meta: bytes) -> bytes | None:
    boxes = dict(_boxes(meta))
    wide = boxes[b"pitm"][0] > 0 if b"pitm" in boxes else False
    primary = int.from_bytes(boxes.get(b"pitm", b"")[4 : 8 if wide else 6], "big")
    properties = dict(_boxes(boxes.get(b"iprp", b"")))
    listed = list(_boxes(properties.get(b"ipco", b"")))
    for at in _associated(properties.get(b"ipma", b""), primary):
        if 0 < at <= len(listed) and listed[at - 1][0] == b"clap":
            return listed[at - 1][1]
    return None


def _associated(ipma: bytes, item: int) -> list[int]:
    """Numbers of the properties of an item, counted from 1 (ISO/IEC 23008-12, 9.3.1)."""
    id_bytes, wide = 4 if ipma[:1] > b"\0" else 2, bool(len(ipma) > 3 and ipma[3] & 1)
    at = 8
    while at + id_bytes < len(ipma):
        found, count = int.from_bytes(ipma[at : at + id_bytes], "big"), ipma[at + id_bytes]
        at += id_bytes + 1
        size = count * (2 if wide else 1)
        if found == item:
            numbers = struct.unpack(f">{count}{'H' if wide else 'B'}", ipma[at : at + size])
            return [each & (0x7FFF if wide else 0x7F) for each in numbers]
        at += size
    return []


def _crop_of_clap(clap: bytes, width_px: int, height_px: int) -> Crop | None:
    wide, wide_of, high, high_of, right, right_of, down, down_of = struct.unpack(">4I2i2i", clap[:32])
    if not (wide_of and high_of and right_of and down_of):
        return None
    visible_width_px, visible_height_px = wide / wide_of, high / high_of
    left_px = right / right_of + (width_px - visible_width_px) / 2
    top_px = down / down_of + (height_px - visible_height_px) / 2
    sides = [left_px, top_px, width_px - left_px - visible_width_px, height_px - top_px - visible_height_px]
    if min(sides) < -0.5 or visible_width_px < 1 or visible_height_px < 1:
        return None
    left, top, end, bottom = (max(0, round(side)) for side in sides)
    return Crop(left_px=left, top_px=top, right_px=end, bottom_px=bottom)


def _top_boxes(opened: IO[bytes]) -> dict[bytes, bytes]:
    """Contents of moov and meta."""
    size, at, found = opened.seek(0, os.SEEK_END), 0, dict[bytes, bytes]()
    for _ in range(_MAX_BOXES):
        opened.seek(at)
        head = opened.read(16)
        length, begin = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, begin = int.from_bytes(head[8:], "big"), 16
        length = length or size - at
        if length < begin or at + length > size:
            break
        if head[4:8] in (b"moov", b"meta") and length <= MAX_HEADER_BYTES:
            opened.seek(at + begin)
            found[head[4:8]] = opened.read(length - begin)
        at += length
    return found


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + length]
        at += length


def _within(data: bytes, *path: bytes) -> bytes | None:
    """Content of the box at a path; None where it is missing."""
    for kind in path:
        found = dict(_boxes(data)).get(kind)
        if found is None:
            return None
        data = found
    return data


def _matroska_crops(opened: IO[bytes]) -> Iterator[Crop]:
    """Crops of all video tracks, in order (RFC 9559)."""
    opened.seek(0)
    size = opened.seek(0, os.SEEK_END)
    for segment, begin, end in _elements(opened, 0, size):
        if segment != _SEGMENT:
            continue
        for tracks, first, last in _elements(opened, begin, end):
            if tracks != _TRACKS:
                continue
            for _, *track in _elements(opened, first, last):
                for kind, *video in _elements(opened, *track):
                    if kind == _VIDEO:
                        yield _pixel_crop(opened, *video)
            return


def _pixel_crop(opened: IO[bytes], begin: int, end: int) -> Crop:
    sides = dict[str, int]()
    for kind, first, last in _elements(opened, begin, end):
        if kind in _CROPS:
            opened.seek(first)
            sides[_CROPS[kind]] = int.from_bytes(opened.read(min(8, last - first)), "big")
    return Crop(**sides)


def _elements(opened: IO[bytes], begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, begin and end of the elements in a range."""
    for _ in range(_MAX_BOXES):
        if begin >= end:
            return
        opened.seek(begin)
        head = opened.read(12)
        kind_bytes = 9 - head[0].bit_length()
        length_bytes = 9 - head[kind_bytes].bit_length()
        kind = int.from_bytes(head[:kind_bytes], "big")
        length = int.from_bytes(head[kind_bytes : kind_bytes + length_bytes], "big") & ((1 << 7 * length_bytes) - 1)
        unknown = length == (1 << 7 * length_bytes) - 1
        first = begin + kind_bytes + length_bytes
        last = end if unknown else min(end, first + length)
        yield kind, first, last
        begin = last
