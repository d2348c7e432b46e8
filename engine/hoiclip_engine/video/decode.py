"""Takes every frame out of a stream that its decoder can make, however damaged the packets are.

Each packet is decoded once and each seek is asked for from outside, so that no file can make this loop for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream


def threads_for(cpus: int) -> int:
    """As many as ffmpeg takes by itself where a process may run on so many processors.

    Source: libavcodec, ff_slice_thread_init: one more than there are, at most 16; a single one gets no threads.
    """
    return min(cpus + 1, 16) if cpus > 1 else 1


class FrameDecoder:
    """Decoded frames of one stream in presentation order; counts what could not be decoded."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        frame_threads: bool,
        threads: int = 0,
        stopped: threading.Event | None = None,
    ) -> None:
        """Sets the decoder up.

        Args:
            container: open; read from its position on.
            stream: one of its video streams.
            threads: 0 for what ffmpeg takes by itself.
            frame_threads: quicker on many cores, but loses more frames after damage.
            stopped: ends the frames, also while the container brings nothing but sound.
        """
        self.errors = 0
        self.cause = ""
        """Why packets could not be decoded, where it is not damage."""
        self.ended_by: av.FFmpegError | None = None
        """What the container failed with; None at a proper end."""
        self._container = container
        self._stream = stream
        self._stopped = stopped or threading.Event()
        # Measured on damaged VP9 and a cut fragmented MP4: with frame threads 72 and 23 frames, with slices 80 and 25.
        # On live streams frame threads would also delay every frame by as many frames as there are threads.
        stream.codec_context.thread_count = threads
        stream.thread_type = av.codec.context.ThreadType.AUTO if frame_threads else av.codec.context.ThreadType.SLICE

    def frames(self) -> Iterator[VideoFrame]:
        """From where the file stands to its end."""
        return self._decode_all(self._packets())

    def frames_from(self, key_pts: int, *, seek_to: int) -> Iterator[VideoFrame] | None:
        """From one packet on to the end; None where it is not behind the place that the file winds to.

        Args:
            key_pts: time stamp of the packet, a key frame that has it alone.
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
        """Goes to the last key frame at or before pts; False where the file cannot. Call frames() anew after it."""
        try:
            self._container.seek(pts, stream=self._stream, backward=True)
        except av.FFmpegError:
            return False
        return True

    def _decode_all(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        for packet in packets:
            yield from self._decode(packet)
        yield from self._decode(None)

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        # All streams, so that every packet of any of them is a moment to stop at.
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
            # An empty packet would tell the decoder that the stream is over; AVI has them for repeated frames.
            if packet.size and packet.stream.index == self._stream.index:
                yield packet  # type: ignore[misc]  # its stream is the video stream

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            return self._stream.decode(packet)
        except av.EOFError:
            if packet is None:
                return []
            # The decoder thinks that the stream is over and would refuse all that follows.
            self._stream.codec_context.flush_buffers()
        except av.FFmpegError as error:
            self.errors += 1
            if packet is not None and packet.has_sidedata("encryption_info"):
                self.cause = "it encrypted"
            elif isinstance(error, (av.PatchWelcomeError, av.error.NotImplementedError)):
                self.cause = f"a kind of {self._stream.codec_context.codec.canonical_name} that ffmpeg does not decode"
            return []
        return self._decode_after_flush(packet)

    def _decode_after_flush(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        try:
            return self._stream.decode(packet)
        except av.FFmpegError:
            self.errors += 1
            return []
