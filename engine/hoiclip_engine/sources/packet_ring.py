"""Latest encoded packets of a source, from which clips are cut without encoding them again.

The decoder's thread adds packets, the source says at what time the frame of each is shown, and a consumer cuts.
Payloads are copied: packets of cameras lie in buffers of the driver, which end with their device. What cannot be copied
into a video file, such as raw video, is encoded as it is read. Files are written by events/clip.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from itertools import accumulate
from typing import cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

RING_BYTES = 32 << 20
"""Default limit of a source: 38 seconds of a camera with 7 Mbit/s."""
_PACKET_COST = 400
"""Bytes that a packet takes besides its payload."""
_MP4_CODECS = frozenset(("h264", "hevc", "av1", "vp9", "mpeg4"))
"""Codecs that players expect in MP4; others go into Matroska."""
_UNCOMPRESSED = frozenset(("rawvideo", "wrapped_avframe", "v210", "v308", "v408", "v410", "yuv4", "r210", "bitpacked"))
"""Matroska could hold some of them, but a second of them fills a ring."""
_ENCODED_GOP = 30


@dataclass(slots=True, eq=False)
class KeptPacket:
    """An encoded frame."""

    data: bytes
    pts: int | None
    """Timestamp in the source's ticks, where it has one."""
    is_keyframe: bool
    pts_s: float | None = None
    """Time of its frame on the clock of the stream; None until the frame was timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketClip:
    """Consecutive packets in decoding order, the first a keyframe that nothing before it is needed for."""

    template: VideoStream
    """Parameters of the codec."""
    extradata: bytes | None
    """Replaces that of the template; None where the template's is current."""
    suffix: str
    """Suffix of a file that can hold it: .mp4 or .mkv."""
    time_base: Fraction
    packets: tuple[KeptPacket, ...]
    pts_s: tuple[float, ...]
    """Time of each packet's frame on the clock of the stream."""
    reencoded: bool
    truncated: bool
    """Whether the beginning had left the ring."""

    @property
    def size(self) -> int:
        """Bytes of all payloads."""
        return sum(len(packet.data) for packet in self.packets)


@dataclass(slots=True, eq=False)
class _Gop:
    tap: PacketTap
    packets: list[KeptPacket] = field(default_factory=list)
    size: int = 0

    @property
    def start_s(self) -> float | None:
        return self.packets[0].pts_s


class PacketRing:
    """Whole GOPs, the oldest dropped first. Any thread may call it; one pass over one source fills it."""

    def __init__(self, seconds: float, max_bytes: int = RING_BYTES) -> None:
        """
        Args:
            seconds: kept before the time that the consumer has reached.
            max_bytes: limit of all packets, also of those the consumer has not reached.

        Raises:
            ValueError: one is not positive.
        """
        if not seconds > 0 or max_bytes < 1:
            raise ValueError(f"expected positive seconds and max_bytes, got {seconds} and {max_bytes}")
        self.seconds, self.max_bytes = seconds, max_bytes
        self._gops: deque[_Gop] = deque()
        self._tap: PacketTap | None = None
        self._lock = threading.Lock()
        self._size = 0
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes kept now."""
        return self._size

    def connect(self, stream: VideoStream) -> PacketTap:
        """The way in for packets of a connection, or of a file after a seek; from now on no other one is open."""
        tap = PacketTap(self, stream)
        with self._lock:
            self._tap = tap
        return tap

    def reached(self, pts_s: float) -> None:
        """Drops what is older than `seconds` before this time, which the consumer has reached."""
        with self._lock:
            outdated = 0
            for number, gop in enumerate(self._gops):
                if gop.start_s is not None:
                    if gop.start_s > pts_s - self.seconds:
                        break
                    outdated = number
            for _ in range(outdated):
                self._drop_oldest()

    def cut(self, start_s: float, end_s: float, at_s: float) -> PacketClip | None:
        """Packets from the last keyframe at or before start_s to the frame at end_s, as far as they are kept.

        Args:
            at_s: a time between; of several connections the one that this time belongs to is cut.

        Returns:
            The clip, which never spans two connections; None where no packet of that time is kept.
        """
        with self._lock:
            tap = self._tap_at(at_s)
            gops = [(list(gop.packets), gop.start_s) for gop in self._gops if gop.tap is tap]
            lost = tap is not None and tap.lost
        if tap is None or tap.template is None or not gops:
            return None
        before = [number for number, (_, gop_s) in enumerate(gops) if gop_s is not None and gop_s <= start_s]
        packets = [packet for kept, _ in gops[before[-1] if before else 0 :] for packet in kept]
        timed = list(zip(packets, _times_s(packets, tap.time_base), strict=True))
        # Frames of an open GOP that are shown before its keyframe need the GOP before.
        timed = [(packet, pts_s) for packet, pts_s in timed if pts_s >= timed[0][1]]
        timed = timed[: _closed_length([pts_s for _, pts_s in timed], end_s)]
        if not timed or timed[0][1] > end_s:
            return None
        return PacketClip(
            template=tap.template,
            extradata=tap.extradata,
            suffix=tap.suffix,
            time_base=tap.time_base,
            packets=tuple(packet for packet, _ in timed),
            pts_s=tuple(pts_s for _, pts_s in timed),
            reencoded=tap.reencodes,
            truncated=lost and not before,
        )

    def close(self) -> None:
        """Frees all packets; later ones are not kept."""
        with self._lock:
            self._closed, self._tap, self._size = True, None, 0
            self._gops.clear()

    def append(self, tap: PacketTap, packet: KeptPacket) -> None:
        """Keeps a packet of the open connection; those of a connection that was given up are ignored."""
        with self._lock:
            if self._closed or tap is not self._tap:
                return
            if packet.is_keyframe:
                self._gops.append(_Gop(tap))
            elif not self._gops or self._gops[-1].tap is not tap:
                return  # begins in the middle of a GOP
            gop, cost = self._gops[-1], len(packet.data) + _PACKET_COST
            gop.packets.append(packet)
            gop.size += cost
            self._size += cost
            while self._size > self.max_bytes:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        gop = self._gops.popleft()
        gop.tap.lost = True
        self._size -= gop.size

    def _tap_at(self, at_s: float) -> PacketTap | None:
        """The last connection that began at or before this time, else the first one."""
        found: PacketTap | None = None
        for gop in self._gops:
            if found is None or (gop.tap is not found and gop.start_s is not None and gop.start_s <= at_s):
                found = gop.tap
        return found


class PacketTap:
    """Takes the packets of one connection. Use it from the thread that decodes."""

    def __init__(self, ring: PacketRing, stream: VideoStream) -> None:
        self.lost = False
        """Whether a beginning was dropped."""
        self.time_base = Fraction(stream.time_base or Fraction(1, 90_000))
        self.extradata: bytes | None = None
        self._ring, self._stream = ring, stream
        self._encoder: _FrameEncoder | None = None
        self.suffix = ".mp4" if stream.codec_context.codec.canonical_name in _MP4_CODECS else ".mkv"
        template = _copy_parameters(stream, self.suffix)
        self.reencodes = template is None
        if template is None:
            self.suffix = ".mp4"
            with suppress(av.FFmpegError, ValueError):  # a size that no encoder takes: then nothing is kept
                self._encoder = _FrameEncoder(stream)
                template = self._encoder.stream
        self.template = template
        """Parameters of the codec; None where nothing can be kept."""

    def add(self, packet: Packet[VideoStream]) -> PacketTap:
        """Keeps a packet that is about to be decoded: its frames hold it as `opaque`.

        Returns:
            The tap for the packets that follow: another one where the parameters of the codec change.
        """
        if self.reencodes:
            return self
        tap = self._changed(packet)
        kept = KeptPacket(bytes(packet), packet.pts, packet.is_keyframe)
        packet.opaque = kept
        self._ring.append(tap, kept)
        return tap

    def add_frame(self, frame: VideoFrame) -> None:
        """Encodes a decoded frame of a codec that cannot be copied; does nothing for others."""
        if self._encoder is not None:
            for packet in self._encoder.encode(frame):
                kept = KeptPacket(bytes(packet), frame.pts, packet.is_keyframe)
                frame.opaque = kept
                self._ring.append(self, kept)

    def _changed(self, packet: Packet[VideoStream]) -> PacketTap:
        if not packet.has_sidedata("new_extradata"):
            return self
        extradata = bytes(packet.get_sidedata("new_extradata"))
        if self.template is None or extradata == (self.extradata or self.template.codec_context.extradata):
            return self
        tap = self._ring.connect(self._stream)
        tap.extradata = extradata
        return tap


def kept_packet(frame: VideoFrame) -> KeptPacket | None:
    """The packet that a frame was decoded from; None where packets are not kept."""
    return frame.opaque if isinstance(frame.opaque, KeptPacket) else None


def set_time(frame: VideoFrame, pts_s: float) -> None:
    """Records the time of a frame with the packet it was decoded from, if that is kept."""
    packet = kept_packet(frame)
    if packet is not None:
        packet.pts_s = pts_s


class _FrameEncoder:
    """Encodes frames one by one as H.264, quickly; MPEG-4 part 2 where ffmpeg was built without x264."""

    def __init__(self, source: VideoStream) -> None:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        container = av.open(BytesIO(), "w", format="mp4")
        context = source.codec_context
        self.stream = cast(VideoStream, container.add_stream(codec, rate=25))
        self.stream.width, self.stream.height = context.width + context.width % 2, context.height + context.height % 2
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.gop_size, self.stream.codec_context.max_b_frames = _ENCODED_GOP, 0
        if codec == "libx264":
            self.stream.codec_context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
        container.start_encoding()  # completes the stream's parameters
        self._reformatter = VideoReformatter()
        self._count = 0

    def encode(self, frame: VideoFrame) -> Sequence[Packet[VideoStream]]:
        """Packets of a frame: one, or none where it cannot be encoded. The frame keeps its timestamp."""
        pts, time_base = frame.pts, frame.time_base
        with suppress(av.FFmpegError, ValueError):
            image = self._reformatter.reformat(frame, self.stream.width, self.stream.height, "yuv420p")
            try:  # it may be the same frame
                image.pts, image.time_base, image.pict_type = self._count, Fraction(1, 25), 0
                self._count += 1
                return self.stream.encode(image)
            finally:
                frame.pts, frame.time_base = pts, time_base
        return ()


def _copy_parameters(stream: VideoStream, suffix: str) -> VideoStream | None:
    """A stream with these parameters that outlives the container; None where a file cannot hold its packets."""
    if stream.codec_context.codec.canonical_name in _UNCOMPRESSED:
        return None
    container: OutputContainer = av.open(BytesIO(), "w", format=container_format(suffix))
    try:
        # opaque: the decoder's own description serves; for some codecs there is no encoder to describe them.
        return container.add_stream_from_template(stream, opaque=True)
    except (ValueError, av.FFmpegError):
        return None


def container_format(suffix: str) -> str:
    """ffmpeg's name of the container."""
    return "mp4" if suffix == ".mp4" else "matroska"


def _times_s(packets: Iterable[KeptPacket], time_base: Fraction) -> Iterator[float]:
    """Times of packets; those whose frame was never timed, as it was damaged or skipped, by the clock around them."""
    packets = list(packets)
    ticks, per = time_base.numerator, time_base.denominator  # a Fraction would take ten times as long, for each packet
    shifts = [
        None if packet.pts is None or packet.pts_s is None else packet.pts_s - packet.pts * ticks / per
        for packet in packets
    ]
    shift_s = next((shift for shift in shifts if shift is not None), 0.0)
    last_s = next((packet.pts_s for packet in packets if packet.pts_s is not None), 0.0)
    for packet, shift in zip(packets, shifts, strict=True):
        shift_s = shift_s if shift is None else shift
        if packet.pts_s is not None:
            last_s = packet.pts_s
        elif packet.pts is not None:
            last_s = packet.pts * ticks / per + shift_s
        yield last_s


def _closed_length(pts_s: Sequence[float], end_s: float) -> int:
    """Number of packets that hold all frames up to end_s and none without the frames shown before it."""
    latest = list(accumulate(pts_s, max))
    earliest_after = [*list(accumulate(reversed(pts_s), min))[::-1][1:], float("inf")]
    for number, (last_s, next_s) in enumerate(zip(latest, earliest_after, strict=True)):
        if next_s > end_s and next_s > last_s:
            return number + 1
    return len(pts_s)
