"""Where a file can be cut into parts that are decoded each on its own: at key frames, found without decoding.

A cut is proposed only where the container knows every frame's time and can be wound to it. Whether a part then really
is what the whole file would have shown, its reader finds out (part_source.py).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from hoiclip_engine.video.opened import is_photo
from hoiclip_engine.video.opening import open_container, regular_file
from hoiclip_engine.video.source_config import SourceConfig
from hoiclip_engine.video.stream_choice import choose_stream
from hoiclip_engine.video.timestamps import seconds

INDEXED = ("mov", "matroska")
"""Containers that seeking can be trusted in; in MPEG-TS and raw streams it is a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Frames of a file from one key frame to before another, in the order in which they are shown."""

    start_pts: int | None
    """Time stamp of its key frame, in ticks of the stream; None for the file's first part."""
    end_pts: int | None
    """That of the part after it; None for the last one."""
    first_index: int
    """Of its first frame among all frames of the file."""
    frames: int
    """How many it should have."""


@dataclass(slots=True)
class _Seen:
    """What the packets of a file say."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    """Of every frame that will be shown, in the order of decoding."""
    keys: array[int] = field(default_factory=lambda: array("q"))
    """Of those frames that can be begun with: all that were decoded before them are shown before them."""


def parts_of(path: str | Path, part_s: float, config: SourceConfig | None = None) -> tuple[Part, ...]:
    """Parts of at least part_s seconds, together the whole file; none where it cannot be cut.

    Reads the file once, at the speed of the disk.

    Raises:
        SourceError: it is no video file.
        ValueError: part_s is not positive.
    """
    if not part_s > 0:
        raise ValueError(f"parts must be longer than nothing, got {part_s} s")
    config = config or SourceConfig()
    file = regular_file(path)
    with open_container(file, config.max_pixels) as container:
        if is_photo(container) or not container.format.name.startswith(INDEXED):
            return ()
        stream, _ = choose_stream(container, str(path), config.max_pixels)
        seen = _look_through(container, stream)
        return () if seen is None else _cut(seen, stream, part_s)


def _look_through(container: InputContainer, stream: VideoStream) -> _Seen | None:
    """None where times are missing or come twice, or where the file ends in the middle of something."""
    seen, latest = _Seen(), None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.pts is None or seconds(packet.pts, stream.time_base) is None or packet.is_corrupt:
                return None
            if packet.is_discard:
                continue
            seen.pts.append(packet.pts)
            if packet.is_keyframe and latest is not None and packet.pts > latest:
                seen.keys.append(packet.pts)
            latest = packet.pts if latest is None else max(latest, packet.pts)
    except av.FFmpegError:
        return None
    return seen if len(set(seen.pts)) == len(seen.pts) else None


def _cut(seen: _Seen, stream: VideoStream, part_s: float) -> tuple[Part, ...]:
    shown = sorted(seen.pts)
    if not shown or not stream.time_base:
        return ()
    least = part_s / float(stream.time_base)
    cuts: list[int] = []
    last = shown[0]
    for pts in seen.keys:
        if pts - last >= least:
            cuts.append(pts)
            last = pts
    if not cuts:
        return ()
    at = [0, *(bisect_left(shown, pts) for pts in cuts), len(shown)]
    starts, ends = [None, *cuts], [*cuts, None]
    return tuple(
        Part(start_pts=start, end_pts=end, first_index=first, frames=after - first)
        for start, end, first, after in zip(starts, ends, at[:-1], at[1:], strict=True)
    )
