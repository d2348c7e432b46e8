"""Live streams and cameras: lost, reconnected, with true images and times throughout.

Between two connections there are events instead of images. Every connection is decoded in a background thread
(connection.py), so that `stop` works at once and a silent stream blocks nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import av
from av.container import InputContainer

from hoiclip.core.errors import SourceError
from hoiclip_engine.sources.base import SourceConfig, SourceCounters, SourceInfo
from hoiclip_engine.sources.connection import (
    CLOSE_WAIT_S,
    BackgroundIterator,
    Connector,
    ReadTimeout,
    failure_reason,
    read_timeout_s,
)
from hoiclip_engine.sources.decoder import VideoReader
from hoiclip_engine.sources.packet_ring import KeptPacket, kept_packet
from hoiclip_engine.sources.playback import Pacer
from hoiclip_engine.sources.timestamps import LiveClock, nominal_step_s
from hoiclip_engine.types.frame import Frame, FrameImage, SourceEvent

KEYFRAME_WAIT_S = 10.0
"""Extra wait for the first image of a connection: cameras send keyframes that far apart."""
LATE_S = 0.5
"""A playlist whose frames are later than this stays behind: playback restarts its clock. A first image that is older
than this when it is requested is no longer current."""
_AFTER_FFMPEG_S = 0.5  # ffmpeg's own error for a silence is better than ours


@dataclass(frozen=True, slots=True)
class LiveImage:
    """A decoded image of one connection."""

    image: FrameImage
    pts: int | None
    time_base: Fraction | None
    arrived_s: float
    """Time of decoding, by time.monotonic()."""
    errors: int
    """Decoding errors of this connection so far."""
    info: SourceInfo | None
    """Metadata, with the first image of a connection."""
    packet: KeptPacket | None
    """That it was decoded from, where packets are kept."""


class LiveSource:
    """Frames of a live stream, and events of its losses; for a single pass, from one thread."""

    info: SourceInfo
    is_live = True

    def __init__(self, connector: Connector, container: InputContainer | None, give_up_at_s: float) -> None:
        """Waits for the first image.

        Args:
            connector: of the stream.
            container: a first connection that is already open; ownership is received.
            give_up_at_s: when to give up on a first image, by time.monotonic().

        Raises:
            SourceError: no image arrived; the message says why.
        """
        self._connector, self._config = connector, connector.config
        self._clock = LiveClock()
        self._reader: BackgroundIterator[LiveImage] | None = None
        self._delivered = self._reconnects = self._errors = self._errors_before = 0
        self._pacer: Pacer | None = None
        self._silence_s = read_timeout_s(connector.address, self._config) + _AFTER_FFMPEG_S
        try:
            first = self._reconnect(container, give_up_at_s, first=True)
        except BaseException:
            self._abandon(0.0)
            raise
        if first is None or first.info is None:
            raise SourceError(
                f"expected video from {connector.address.name}, found that it was stopped; start it again"
            )
        self.info = first.info
        self._frames = self._deliver(first)
        assert self._reader is not None
        self._reader.keeps_all = self._pacer is not None  # a playlist waits for us, up to a point

    @property
    def counters(self) -> SourceCounters:
        """Current counts."""
        return SourceCounters(
            decoded=self._delivered,
            decode_errors=self._errors_before + self._errors,
            pts_missing=self._clock.missing,
            pts_repaired=self._clock.repaired,
            reconnects=self._reconnects,
        )

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        return self._frames

    def stop(self) -> None:
        """Ends the frames and all waiting at once."""
        self._connector.stopped.set()

    def close(self) -> None:
        """Frees the connection; may be called twice. Iteration ends."""
        self.stop()
        self._frames.close()
        self._abandon(CLOSE_WAIT_S)

    def _deliver(self, first: LiveImage) -> Generator[Frame | SourceEvent, None, None]:
        duration_s = math.inf if self._config.duration_s is None else self._config.duration_s
        end_s = time.monotonic() + duration_s
        frame = yield from self._follow(self._current_image(first), end_s)
        end_pts_s = (self._clock.last_s or 0.0) + duration_s
        while frame is not None and frame.pts_s < end_pts_s and self._is_due(frame):
            self._delivered += 1
            yield replace(frame, read_s=time.monotonic()) if self._pacer else frame
            if self._delivered == self._config.max_frames:
                return
            frame = yield from self._follow(self._next_image(self._silence_s), end_s)

    def _current_image(self, first: LiveImage) -> LiveImage | str:
        """The current image: a model may have been loaded since the first image arrived."""
        assert self._reader is not None
        is_fresh = self._reader.keeps_all or time.monotonic() - first.arrived_s < LATE_S
        self._reader.keeps_all = True
        return first if is_fresh else self._next_image(self._silence_s)

    def _follow(self, received: LiveImage | str, end_s: float) -> Generator[SourceEvent, None, Frame | None]:
        """Converts an image to a frame; after a loss, the first frame of the next connection."""
        if isinstance(received, LiveImage):
            return self._frame(received)
        return (yield from self._bridge(received, end_s))

    def _bridge(self, reason: str, end_s: float) -> Generator[SourceEvent, None, Frame | None]:
        """Reports a loss and its end, returns the frame after it; None once stopped or at the end of the duration."""
        if self._connector.stopped.is_set():
            return None
        lost_s, reconnect_for_s = time.monotonic(), self._config.reconnect_for_s
        yield SourceEvent(event="source_lost", pts_s=self._clock.last_s or 0.0, reason=reason)
        give_up_s = min(end_s, math.inf if reconnect_for_s is None else lost_s + reconnect_for_s)
        try:
            image = self._reconnect(None, give_up_s)
        except SourceError:
            if give_up_s == end_s:
                return None
            raise
        if image is None:
            return None
        self._reconnects += 1
        frame = self._frame(image)
        reason = f"after {image.arrived_s - lost_s:.1f} s"
        yield SourceEvent(event="source_back", pts_s=frame.pts_s, reason=reason)
        return frame

    def _reconnect(
        self, container: InputContainer | None, give_up_at_s: float, *, first: bool = False
    ) -> LiveImage | None:
        """The first image of a new connection; None once stopped."""
        while True:
            container = container or self._connector.connect(give_up_at_s, first=first)
            if container is None:
                return None
            self._read(container)
            container = None
            received = self._next_image(self._silence_s + KEYFRAME_WAIT_S, first=first)
            if isinstance(received, LiveImage):
                self._connector.succeeded()
                self._clock.restart(nominal_step_s(received.info.average_rate if received.info else None))
                return received
            self._connector.failed(received)

    def _read(self, container: InputContainer) -> None:
        """Starts decoding a new container; the previous one is abandoned."""
        self._abandon(0.0)
        self._pacer = Pacer(max_late_s=LATE_S) if container.format.name == "hls" else None
        name, config = self._connector.address.name, self._config
        self._reader = BackgroundIterator(
            lambda abandoned: _images(container, name, config, abandoned), self._connector.stopped
        )

    def _next_image(self, timeout_s: float, *, first: bool = False) -> LiveImage | str:
        """Next image of this connection, or the reason why there is none."""
        assert self._reader is not None
        try:
            image = self._reader.get(timeout_s)
        except ReadTimeout:
            return f"no image for {timeout_s:.0f} s"
        except av.FFmpegError as error:
            return failure_reason(error)
        except SourceError:  # sound only, giant images: reported to the user for a first connection
            if first:
                raise
            return "nothing that is video"
        if image is None:
            return failure_reason(None)
        self._errors = image.errors
        return image

    def _frame(self, image: LiveImage) -> Frame:
        pts_s = self._clock.next(image.pts, image.time_base, image.arrived_s)
        if image.packet is not None:
            image.packet.pts_s = pts_s
        return Frame(image.image, pts_s, self._delivered, image.arrived_s)

    def _is_due(self, frame: Frame) -> bool:
        """Waits where frames arrive in bursts; False once stopped."""
        return not self._connector.stopped.is_set() and (
            self._pacer is None or self._pacer.wait(frame.pts_s, self._connector.stopped)
        )

    def _abandon(self, wait_s: float) -> None:
        if self._reader is not None:
            self._reader.abandon(wait_s)
        self._errors_before, self._errors = self._errors_before + self._errors, 0


def _images(
    container: InputContainer, name: str, config: SourceConfig, abandoned: threading.Event
) -> Generator[LiveImage, None, None]:
    """Images of one connection. Frames that the decoder marks as damaged are counted as errors and left out."""
    try:
        video = VideoReader(container, name, replace(config, frame_threads=False), stopped=abandoned)
        info: SourceInfo | None = None
        for frame in video.frames:
            arrived_s = time.monotonic()
            image = None if frame.is_corrupt else video.image(frame)
            video.decoder.errors += frame.is_corrupt
            if image is None:
                continue
            first, info = info is None, info or video.describe(frame, image)
            errors = video.decoder.errors
            known, packet = info if first else None, kept_packet(frame)
            yield LiveImage(image, frame.pts, video.time_base(frame), arrived_s, errors, known, packet)
        if video.decoder.ended_by is not None:
            raise video.decoder.ended_by
    finally:
        container.close()
