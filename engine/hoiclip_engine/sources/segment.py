"""Segments of a file: ranges between keyframes that are decoded independently, with the frames of the whole file.

A file is split only where its container knows the time of every frame and can seek to it. Frames before a split in
presentation order may follow it in decoding order (open GOPs), so a segment is decoded beyond its end to
the first frame of the next one. Both segments keep a hash of that frame: where the hashes are equal and all expected
frames were decoded, splitting has changed nothing. The caller checks this by `segments_match`, and otherwise reads the
file as a whole.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from hoiclip_engine.sources.base import SourceConfig, SourceCounters
from hoiclip_engine.sources.container import (
    SEEKABLE_FORMATS,
    choose_stream,
    is_photo,
    open_container,
    resolve_regular_file,
)
from hoiclip_engine.sources.decoder import VideoReader
from hoiclip_engine.sources.timestamps import pts_to_seconds
from hoiclip_engine.sources.uri import redact
from hoiclip_engine.types.frame import Frame, FrameImage, host_rgb


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSegment:
    """Range of a file from one keyframe to just before another, in presentation order."""

    start_pts: int | None
    """Timestamp of its keyframe, in ticks of the stream; None for the first segment."""
    end_pts: int | None
    """Timestamp of the next segment; None for the last one."""
    first_index: int
    """Index of its first frame among all frames of the file."""
    frames: int
    """Expected number of frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentIntegrity:
    """Completeness of a decoded segment, and hashes of the images at its borders."""

    complete: bool
    """Whether all frames were decoded, undamaged, each with its own timestamp."""
    first_print: str
    """Hash of its first image; empty for none."""
    next_print: str
    """Hash of the image after its last frame, decoded in the same pass; empty for none."""


def split_file(path: str | Path, segment_s: float, config: SourceConfig | None = None) -> tuple[FileSegment, ...]:
    """Plans segments of at least segment_s seconds that cover the file; none where it cannot be split.

    Reads the file once, at the speed of the disk.

    Raises:
        SourceError: it is no video file.
        ValueError: segment_s is not positive.
    """
    if not segment_s > 0:
        raise ValueError(f"segments must be longer than 0 s, got {segment_s} s")
    config = config or SourceConfig()
    file = resolve_regular_file(path)
    with open_container(file, config.max_pixels) as container:
        if is_photo(container) or not container.format.name.startswith(SEEKABLE_FORMATS):
            return ()
        stream, _ = choose_stream(container, str(path), config.max_pixels)
        times = _read_packet_times(container, stream)
        return () if times is None else _segments(times, stream, segment_s)


def segments_match(segments: Sequence[SegmentIntegrity]) -> bool:
    """Whether the segments of a file, in order, have the frames of the whole file."""
    return all(segment.complete for segment in segments) and all(
        before.next_print == after.first_print for before, after in pairwise(segments)
    )


class SegmentSource:
    """Frames of one segment, for a single pass. Read and close it from one thread."""

    is_live = False

    def __init__(self, path: str | Path, segment: FileSegment, config: SourceConfig | None = None) -> None:
        """Opens the file and decodes its first frame, which has the orientation of all.

        Raises:
            SourceError: nothing can be read from it; the message says why.
        """
        config = config or SourceConfig()
        self._segment = segment
        self._delivered = 0
        self._pts_missing = False
        self._hashes = ["", ""]
        self._container = open_container(
            resolve_regular_file(path), config.max_pixels, config.hwaccel, device_frames=config.device_frames
        )
        try:
            self._video = video = VideoReader(self._container, redact(str(path)), config)
            self._first, image = video.first()
            self.info = video.describe(self._first, image)
            self._clock = video.clock(self._first)
            self._frames = self._deliver()
        except BaseException:
            self._container.close()
            raise

    @property
    def counters(self) -> SourceCounters:
        """Current counts."""
        return self._video.counters(self._delivered, self._clock)

    @property
    def integrity(self) -> SegmentIntegrity:
        """Final once the iteration has ended."""
        counters = self.counters
        damaged = self._pts_missing or counters.decode_errors or counters.pts_missing or counters.pts_repaired
        ended = self._segment.end_pts is None or bool(self._hashes[1])
        return SegmentIntegrity(
            complete=not damaged and ended and self._delivered == self._segment.frames,
            first_print=self._hashes[0],
            next_print=self._hashes[1],
        )

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def stop(self) -> None:
        """Does nothing: reading a file does not block."""

    def close(self) -> None:
        """Frees the file; may be called twice. Iteration ends."""
        self._frames.close()
        self._container.close()

    def _deliver(self) -> Generator[Frame, None, None]:
        for frame, pts_s in self._clock.timed(self._segment_frames(), self._video.timestamp_s):
            image = self._video.image(frame)
            if image is None:
                continue
            if not self._delivered:
                self._hashes[0] = _hash_image(image)
            self._delivered += 1
            yield Frame(image, pts_s, self._segment.first_index + self._delivered - 1, time.monotonic())

    def _segment_frames(self) -> Iterator[VideoFrame]:
        """Decoded frames within the segment."""
        segment = self._segment
        for frame in self._decode():
            if frame.pts is None:
                self._pts_missing = True
                continue
            if segment.start_pts is not None and frame.pts < segment.start_pts:
                continue  # depends on frames before the split; the previous segment has it
            if segment.end_pts is not None and frame.pts >= segment.end_pts:
                self._hashes[1] = _hash_image(self._video.image(frame))
                return
            yield frame

    def _decode(self) -> Iterator[VideoFrame]:
        """Frames from the keyframe of the segment on; none where seeking does not find it."""
        start_pts = self._segment.start_pts
        if start_pts is None:
            return chain([self._first], self._video.frames)
        # Seeking in some files lands after the requested time: then decode from the start.
        for pts in (start_pts, self._first.pts):
            frames = None if pts is None else self._video.decoder.frames_from(start_pts, seek_to=pts)
            if frames is not None:
                return frames
        return iter(())


def _hash_image(image: FrameImage | None) -> str:
    """Hash of the size and pixels of an image."""
    if image is None:
        return ""
    rgb = host_rgb(image)
    return hashlib.blake2b(rgb.data, digest_size=16, salt=repr(rgb.shape[:2]).encode()[:16]).hexdigest()


@dataclass(slots=True)
class _PacketTimes:
    """Timestamps of the packets of a file."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    """Timestamps of all presented frames, in decoding order."""
    keyframe_pts: array[int] = field(default_factory=lambda: array("q"))
    """Timestamps of frames at which decoding can start: all frames decoded before are presented before them."""


def _read_packet_times(container: InputContainer, stream: VideoStream) -> _PacketTimes | None:
    """None where timestamps are missing or repeated, or where the file is truncated."""
    times, latest = _PacketTimes(), None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.pts is None or pts_to_seconds(packet.pts, stream.time_base) is None or packet.is_corrupt:
                return None
            if packet.is_discard:
                continue
            times.pts.append(packet.pts)
            if packet.is_keyframe and latest is not None and packet.pts > latest:
                times.keyframe_pts.append(packet.pts)
            latest = packet.pts if latest is None else max(latest, packet.pts)
    except av.FFmpegError:
        return None
    return times if len(set(times.pts)) == len(times.pts) else None


def _segments(times: _PacketTimes, stream: VideoStream, segment_s: float) -> tuple[FileSegment, ...]:
    presented = sorted(times.pts)
    if not presented or not stream.time_base:
        return ()
    min_ticks = segment_s / float(stream.time_base)
    splits: list[int] = []
    last_split = presented[0]
    for pts in times.keyframe_pts:
        if pts - last_split >= min_ticks:
            splits.append(pts)
            last_split = pts
    if not splits:
        return ()
    indices = [0, *(bisect_left(presented, pts) for pts in splits), len(presented)]
    starts, ends = [None, *splits], [*splits, None]
    return tuple(
        FileSegment(start_pts=start, end_pts=end, first_index=first, frames=after - first)
        for start, end, first, after in zip(starts, ends, indices[:-1], indices[1:], strict=True)
    )
