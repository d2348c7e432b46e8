"""Decoding of one video stream of an open container: frames, their images, and metadata of both.

The caller opens the container, chooses the range of frames and decides when to stop; clocks are in timestamps.py.
Each packet is decoded once and each seek is requested by the caller, so that no file can cause an endless loop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from hoiclip.core.errors import SourceError
from hoiclip_engine.sources.base import SourceConfig, SourceCounters, SourceInfo
from hoiclip_engine.sources.container import choose_stream, fraction, is_photo
from hoiclip_engine.sources.cropping import Crop, read_crop
from hoiclip_engine.sources.frame_conversion import DeviceImages, FrameConverter, check_size, pixel_format
from hoiclip_engine.sources.packet_ring import PacketRing, PacketTap
from hoiclip_engine.sources.timestamps import MAX_WINDOW, PresentationClock, nominal_step_s, pts_to_seconds
from hoiclip_engine.types.frame import FrameImage

# Damage is counted and reported in one line; ffmpeg would log every macroblock on stderr, and URLs with passwords.
av.logging.set_level(av.logging.PANIC)
_WINDOW_BYTES = 64 << 20
"""Memory for decoded frames that wait for their timestamps to be checked."""
_MIN_WINDOW = 4
"""Frames, however big: as far as encoders reorder them by default."""


class VideoReader:
    """Reads the video stream of a container. Use it from one thread; close the container after it."""

    def __init__(
        self,
        container: InputContainer,
        name: str,
        config: SourceConfig,
        *,
        stopped: threading.Event | None = None,
    ) -> None:
        """Chooses the stream and sets its decoder up.

        Args:
            container: open; the first frames are read from it by first().
            name: printable and without credentials.
            config: how big images may be, and threads.
            stopped: ends the frames.

        Raises:
            SourceError: no video in it, or giant images.
        """
        self.container, self._name, self._config = container, name, config
        self.stream, self._notes = choose_stream(container, name, config.max_pixels)
        stream = self.stream
        check_size(stream.codec_context.width, stream.codec_context.height, config.max_pixels)
        stream.codec_context.options = {"max_pixels": str(config.max_pixels)}
        self.decoder = FrameDecoder(
            container,
            stream,
            frame_threads=config.frame_threads,
            threads=config.decoder_threads,
            stopped=stopped,
            packets=config.packets,
        )
        codec = stream.codec_context.codec.canonical_name
        self._converter = FrameConverter(
            stream,
            config.max_pixels,
            is_image=is_photo(container),
            crop=_crop(container, stream) if container.file is None else None,
            device_images=DeviceImages(name, codec) if config.device_frames else None,
        )
        self.frames = self.decoder.frames()

    def first(self) -> tuple[VideoFrame, FrameImage]:
        """First frame that can be converted, and its image; `frames` continues after it.

        Raises:
            SourceError: no frame can be converted, or it is too big.
        """
        for frame in self.frames:
            try:
                return frame, self._converter.convert(frame)
            except av.FFmpegError:
                self.decoder.errors += 1
        if self.decoder.cause:
            raise SourceError(f"expected frames in {self._name}, found {self.decoder.cause}; convert it to MP4 or PNG")
        raise SourceError(
            f"expected at least one frame that can be decoded in {self._name}, found none "
            f"({self.decoder.errors} damaged packets); record or convert it again"
        )

    def image(self, frame: VideoFrame) -> FrameImage | None:
        """(H, W, 3), upright; None, and counted as an error, where the frame cannot be converted."""
        try:
            return self._converter.convert(frame)
        except (av.FFmpegError, SourceError):
            self.decoder.errors += 1
            return None

    def time_base(self, frame: VideoFrame) -> Fraction | None:
        """Time base of the frame, else of the stream: frames that the decoder held back to the end come without."""
        return fraction(frame.time_base) or fraction(self.stream.time_base)

    def counters(self, delivered: int, clock: PresentationClock) -> SourceCounters:
        """Current counters of a file whose frames were timed by a clock."""
        return SourceCounters(
            decoded=delivered,
            decode_errors=self.decoder.errors,
            pts_missing=clock.missing,
            pts_repaired=clock.repaired,
            notes=clock.notes,
        )

    def clock(self, first: VideoFrame) -> PresentationClock:
        """Clock for the frames of this stream; its window is bounded by memory."""
        stream, flags = self.stream, self.container.format.flags
        room = _WINDOW_BYTES // max(1, sum(plane.buffer_size for plane in first.planes))
        return PresentationClock(
            nominal_step_s(fraction(stream.average_rate), fraction(stream.guessed_rate)),
            may_jump=bool(Flags(flags) & Flags.ts_discont),
            window=min(MAX_WINDOW, max(_MIN_WINDOW, room)),
        )

    def timestamp_s(self, frame: VideoFrame) -> float | None:
        """Timestamp of a frame as the file has it, in seconds."""
        return pts_to_seconds(frame.pts, self.time_base(frame))

    def describe(self, first: VideoFrame, image: FrameImage, *, alone: bool = False) -> SourceInfo:
        """Source metadata, known once the first image is decoded.

        Args:
            first: the first frame.
            image: its image.
            alone: whether no other frame follows it.
        """
        stream, duration_s = self.stream, _duration_s(self.container, self.stream)
        return SourceInfo(
            name=self._name,
            width_px=int(image.shape[1]),
            height_px=int(image.shape[0]),
            time_base=self.time_base(first) or Fraction(1, 90_000),
            frames_declared=stream.frames or None,
            duration_s=duration_s,
            average_rate=fraction(stream.average_rate),
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=pixel_format(first),
            is_photo=is_photo(self.container) or (alone and duration_s is None),
            rotation_deg=self._converter.orientation(first).clockwise_deg,
            notes=self._notes,
        )


def _crop(container: InputContainer, stream: VideoStream) -> Crop | None:
    """Crop of a local file, in a container that can declare one."""
    file, context = Path(container.name), stream.codec_context
    if not container.format.name.startswith(("mov", "matroska")) or not file.is_file():
        return None
    videos = container.streams.video
    number = [video.index for video in videos].index(stream.index)
    return read_crop(file, number, len(videos), context.width, context.height)


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    duration_s = pts_to_seconds(stream.duration, stream.time_base) or pts_to_seconds(
        container.duration, Fraction(1, av.time_base)
    )
    return duration_s if duration_s is not None and duration_s > 0 else None


def default_decoder_threads(cpus: int) -> int:
    """Number of threads that ffmpeg chooses by itself for a process on so many processors.

    Source: libavcodec, ff_slice_thread_init: one more than processors, at most 16; a single one gets no threads.
    """
    return min(cpus + 1, 16) if cpus > 1 else 1


class FrameDecoder:
    """Decodes the frames of one stream in presentation order and counts decoding errors."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        frame_threads: bool,
        threads: int = 0,
        stopped: threading.Event | None = None,
        packets: PacketRing | None = None,
    ) -> None:
        """Sets the decoder up.

        Args:
            container: open; read from its position on.
            stream: one of its video streams.
            threads: 0 for the choice of ffmpeg.
            frame_threads: quicker on many cores, but loses more frames after damage.
            stopped: ends the frames, also while the container delivers only sound.
            packets: keeps all packets that are decoded, for clips.
        """
        self.errors = 0
        self.cause = ""
        """Why packets could not be decoded, where it is not damage."""
        self.ended_by: av.FFmpegError | None = None
        """Error of the container; None at a proper end."""
        self._container = container
        self._stream = stream
        self._stopped = stopped or threading.Event()
        self._ring = packets
        stream.codec_context.copy_opaque = packets is not None
        # Measured on damaged VP9 and a truncated fragmented MP4: 72 and 23 frames by frame threads, 80 and 25 by slice.
        # On live streams frame threads would also delay every frame by as many frames as there are threads.
        stream.codec_context.thread_count = threads
        stream.thread_type = av.codec.context.ThreadType.AUTO if frame_threads else av.codec.context.ThreadType.SLICE

    def frames(self) -> Iterator[VideoFrame]:
        """Frames from the current position to the end."""
        return self._decode_all(self._packets())

    def frames_from(self, key_pts: int, *, seek_to: int) -> Iterator[VideoFrame] | None:
        """Frames from one packet to the end; None where seeking lands behind that packet.

        Args:
            key_pts: timestamp of the packet, a keyframe; unique in the file.
            seek_to: a time at or before it.
        """
        if not self.seek(seek_to):
            return None
        packets = self._packets()
        first = packet = next(packets, None)
        while packet is not None and packet.pts != key_pts:
            if packet is first and (packet.pts is None or packet.pts > key_pts):
                return None
            packet = next(packets, None)
        return None if packet is None else self._decode_all(chain([packet], packets))

    def seek(self, pts: int) -> bool:
        """Seeks to the last keyframe at or before pts; False where the file cannot. Call frames() again after it."""
        try:
            self._container.seek(pts, stream=self._stream, backward=True)
        except av.FFmpegError:
            return False
        return True

    def _decode_all(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        if self._ring is not None:
            yield from self._decode_and_keep(packets, self._ring.connect(self._stream))
            return
        for packet in packets:
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode_and_keep(self, packets: Iterator[Packet[VideoStream]], tap: PacketTap) -> Iterator[VideoFrame]:
        for packet in chain(packets, (None,)):
            if packet is not None:
                tap = tap.add(packet)
            for frame in self._decode(packet):
                tap.add_frame(frame)
                yield frame

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        # All streams, so that stopping is possible at every packet of any of them.
        packets = self._container.demux()
        while not self._stopped.is_set():
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self.errors += 1  # the file ends in the middle of something
                self.ended_by = error
                return
            # An empty packet would signal the end of the stream to the decoder; AVI has them for repeated frames.
            if packet.size and packet.stream.index == self._stream.index:
                yield packet  # type: ignore[misc]  # its stream is the video stream

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        if packet is not None and packet.has_sidedata("encryption_info"):
            # Not left to the decoder: it makes images of noise of one encrypted video in twenty.
            self.errors += 1
            self.cause = "it encrypted"
            return []
        try:
            return self._stream.decode(packet)
        except av.EOFError:
            if packet is None:
                return []
            # The decoder takes the stream for ended and would refuse all further packets.
            self._stream.codec_context.flush_buffers()
        except av.FFmpegError as error:
            self.errors += 1
            if isinstance(error, (av.PatchWelcomeError, av.error.NotImplementedError)):
                self.cause = f"a kind of {self._stream.codec_context.codec.canonical_name} that ffmpeg does not decode"
            return []
        return self._decode_after_flush(packet)

    def _decode_after_flush(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        try:
            return self._stream.decode(packet)
        except av.FFmpegError:
            self.errors += 1
            return []
