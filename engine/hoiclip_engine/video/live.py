"""A camera or stream that goes on without us: lost, found again, never lying about what it saw or when.

Between two connections there are events instead of pictures. Every connection is decoded in a thread of its own
(own_thread.py), so that `stop` works at once and a stream that went quiet keeps nobody waiting.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from hoiclip.errors import SourceError
from hoiclip_engine.frame import Frame, SourceEvent
from hoiclip_engine.video.connector import Connector
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo
from hoiclip_engine.video.live_clock import LiveClock
from hoiclip_engine.video.opened import OpenedVideo
from hoiclip_engine.video.own_thread import END_S, OwnThread, Silence
from hoiclip_engine.video.paced import Pacer
from hoiclip_engine.video.source_config import SourceConfig
from hoiclip_engine.video.stream_opening import read_timeout_s, reason_of
from hoiclip_engine.video.timestamps import nominal_step_s

KEY_FRAME_S = 10.0
"""How much longer than between pictures the first may take: cameras send key frames that far apart."""
LATE_S = 0.5
"""A playlist whose frames come later than this is behind for good: then a new beat starts. And a first picture that is
older when somebody asks for it is not what the source shows now."""
_AFTER_FFMPEG_S = 0.5  # ffmpeg's own word for a silence is better than ours


@dataclass(frozen=True, slots=True)
class LivePicture:
    """A decoded picture of one connection."""

    rgb: NDArray[np.uint8]
    pts: int | None
    time_base: Fraction | None
    arrived_s: float
    """time.monotonic() when it was decoded."""
    errors: int
    """Of this connection so far."""
    info: SourceInfo | None
    """With the first one."""


class LiveSource:
    """Frames of a live stream, and events of its losses; to be gone through once, from one thread."""

    info: SourceInfo
    is_live = True

    def __init__(self, connector: Connector, container: InputContainer | None, give_up_at_s: float) -> None:
        """Waits for the first picture.

        Args:
            connector: of the stream.
            container: a first connection that is open already; taken over.
            give_up_at_s: when to give up on a first picture, by time.monotonic().

        Raises:
            SourceError: none came; the message says why.
        """
        self._connector, self._config = connector, connector.config
        self._clock = LiveClock()
        self._reader: OwnThread[LivePicture] | None = None
        self._delivered = self._reconnects = self._errors = self._errors_before = 0
        self._pacer: Pacer | None = None
        self._quiet_s = read_timeout_s(connector.address, self._config) + _AFTER_FFMPEG_S
        try:
            first = self._come_back(container, give_up_at_s, first=True)
        except BaseException:
            self._leave(0.0)
            raise
        if first is None or first.info is None:
            raise SourceError(
                f"expected video from {connector.address.name}, found that it was stopped; start it again"
            )
        self.info = first.info
        self._frames = self._deliver(first)
        assert self._reader is not None
        self._reader.awaited = self._pacer is not None  # a playlist waits for us, up to a point

    @property
    def counters(self) -> SourceCounters:
        """As of now."""
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
        """Ends the frames at once, whatever is being waited for."""
        self._connector.stopped.set()

    def close(self) -> None:
        """Frees the connection; may be called twice. Iteration ends."""
        self.stop()
        self._frames.close()
        self._leave(END_S)

    def _deliver(self, first: LivePicture) -> Generator[Frame | SourceEvent, None, None]:
        duration_s = math.inf if self._config.duration_s is None else self._config.duration_s
        end_s = time.monotonic() + duration_s
        frame = yield from self._follow(self._freshest(first), end_s)
        end_pts_s = (self._clock.last_s or 0.0) + duration_s
        while frame is not None and frame.pts_s < end_pts_s and self._is_due(frame):
            self._delivered += 1
            yield replace(frame, read_s=time.monotonic()) if self._pacer else frame
            if self._delivered == self._config.max_frames:
                return
            frame = yield from self._follow(self._take(self._quiet_s), end_s)

    def _freshest(self, first: LivePicture) -> LivePicture | str:
        """What is live now: a model may have been loaded since the first picture came."""
        assert self._reader is not None
        is_fresh = self._reader.awaited or time.monotonic() - first.arrived_s < LATE_S
        self._reader.awaited = True
        return first if is_fresh else self._take(self._quiet_s)

    def _follow(self, taken: LivePicture | str, end_s: float) -> Generator[SourceEvent, None, Frame | None]:
        """The frame of a picture, or what comes after a loss."""
        if isinstance(taken, LivePicture):
            return self._frame(taken)
        return (yield from self._bridge(taken, end_s))

    def _bridge(self, reason: str, end_s: float) -> Generator[SourceEvent, None, Frame | None]:
        """From a loss to the frame after it; None once stopped or when the time asked for is over."""
        if self._connector.stopped.is_set():
            return None
        lost_s, keeps_on_s = time.monotonic(), self._config.reconnect_for_s
        yield SourceEvent(event="source_lost", pts_s=self._clock.last_s or 0.0, reason=reason)
        give_up_s = min(end_s, math.inf if keeps_on_s is None else lost_s + keeps_on_s)
        try:
            picture = self._come_back(None, give_up_s)
        except SourceError:
            if give_up_s == end_s:
                return None
            raise
        if picture is None:
            return None
        self._reconnects += 1
        frame = self._frame(picture)
        reason = f"after {picture.arrived_s - lost_s:.1f} s"
        yield SourceEvent(event="source_back", pts_s=frame.pts_s, reason=reason)
        return frame

    def _come_back(
        self, container: InputContainer | None, give_up_at_s: float, *, first: bool = False
    ) -> LivePicture | None:
        """The first picture of a new connection; None once stopped."""
        while True:
            container = container or self._connector.connect(give_up_at_s, first=first)
            if container is None:
                return None
            self._read(container)
            container = None
            taken = self._take(self._quiet_s + KEY_FRAME_S, first=first)
            if isinstance(taken, LivePicture):
                self._connector.succeeded()
                self._clock.restart(nominal_step_s(taken.info.average_rate if taken.info else None))
                return taken
            self._connector.failed(taken)

    def _read(self, container: InputContainer) -> None:
        """Starts to decode a fresh container; what was read before is left."""
        self._leave(0.0)
        self._pacer = Pacer(max_late_s=LATE_S) if container.format.name == "hls" else None
        name, config = self._connector.address.name, self._config
        self._reader = OwnThread(lambda left: _pictures(container, name, config, left), self._connector.stopped)

    def _take(self, timeout_s: float, *, first: bool = False) -> LivePicture | str:
        """The next picture of this connection, or why there is none."""
        assert self._reader is not None
        try:
            picture = self._reader.get(timeout_s)
        except Silence:
            return f"no picture for {timeout_s:.0f} s"
        except av.FFmpegError as error:
            return reason_of(error)
        except SourceError:  # sound only, giant pictures: of a first connection that is the user's to know
            if first:
                raise
            return "nothing that is video"
        if picture is None:
            return reason_of(None)
        self._errors = picture.errors
        return picture

    def _frame(self, picture: LivePicture) -> Frame:
        pts_s = self._clock.next(picture.pts, picture.time_base, picture.arrived_s)
        return Frame(picture.rgb, pts_s, self._delivered, picture.arrived_s)

    def _is_due(self, frame: Frame) -> bool:
        """Waits where frames come in bursts; False once stopped."""
        return not self._connector.stopped.is_set() and (
            self._pacer is None or self._pacer.wait(frame.pts_s, self._connector.stopped)
        )

    def _leave(self, wait_s: float) -> None:
        if self._reader is not None:
            self._reader.leave(wait_s)
        self._errors_before, self._errors = self._errors_before + self._errors, 0


def _pictures(
    container: InputContainer, name: str, config: SourceConfig, left: threading.Event
) -> Generator[LivePicture, None, None]:
    """Everything that one connection shows. Frames that the decoder itself calls damaged are counted, not shown."""
    try:
        video = OpenedVideo(container, name, replace(config, frame_threads=False), stopped=left)
        info: SourceInfo | None = None
        for frame in video.frames:
            arrived_s = time.monotonic()
            rgb = None if frame.is_corrupt else video.picture(frame)
            video.decoder.errors += frame.is_corrupt
            if rgb is None:
                continue
            first, info = info is None, info or video.describe(frame, rgb)
            errors = video.decoder.errors
            yield LivePicture(rgb, frame.pts, video.time_base(frame), arrived_s, errors, info if first else None)
        if video.decoder.ended_by is not None:
            raise video.decoder.ended_by
    finally:
        container.close()
