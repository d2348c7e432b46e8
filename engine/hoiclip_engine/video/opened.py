"""One video stream of an open container: its frames, the pictures of them, and what is known of both.

Whoever opened the container says which part is wanted and when to stop; times are timestamps.py and live_clock.py.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from hoiclip.errors import SourceError
from hoiclip_engine.video.cropping import Crop, crop_of
from hoiclip_engine.video.decode import FrameDecoder
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo
from hoiclip_engine.video.picture import PictureMaker, check_size
from hoiclip_engine.video.pyav import fraction
from hoiclip_engine.video.source_config import SourceConfig
from hoiclip_engine.video.stream_choice import choose_stream
from hoiclip_engine.video.timestamps import LOOK_AHEAD, PresentationClock, nominal_step_s, seconds

# Damage is counted and told in one line; ffmpeg would tell it per macroblock, on stderr, and addresses with passwords.
av.logging.set_level(av.logging.PANIC)
_AHEAD_BYTES = 64 << 20
"""Of decoded frames that wait for their time."""
_LEAST_AHEAD = 4
"""Frames, however big: as far as encoders reorder them by default."""


class OpenedVideo:
    """Use it from one thread; close the container after it."""

    def __init__(
        self,
        container: InputContainer,
        name: str,
        config: SourceConfig,
        *,
        stopped: threading.Event | None = None,
    ) -> None:
        """Picks the stream and sets its decoder up.

        Args:
            container: open; the first frames are read from it by first().
            name: printable and without credentials.
            config: how big pictures may be, and threads.
            stopped: ends the frames.

        Raises:
            SourceError: no video in it, or giant pictures.
        """
        self.container, self._name, self._config = container, name, config
        self.stream, self._notes = choose_stream(container, name, config.max_pixels)
        stream = self.stream
        check_size(stream.codec_context.width, stream.codec_context.height, config.max_pixels)
        stream.codec_context.options = {"max_pixels": str(config.max_pixels)}
        self.decoder = FrameDecoder(
            container, stream, frame_threads=config.frame_threads, threads=config.decoder_threads, stopped=stopped
        )
        crop = _crop(container, stream) if container.file is None else None
        self._pictures = PictureMaker(stream, config.max_pixels, is_image=is_photo(container), crop=crop)
        self.frames = self.decoder.frames()

    def first(self) -> tuple[VideoFrame, NDArray[np.uint8]]:
        """The first frame that makes a picture, and the picture; frames goes on after it.

        Raises:
            SourceError: there is none, or it is too big.
        """
        for frame in self.frames:
            try:
                return frame, self._pictures.make(frame)
            except av.FFmpegError:
                self.decoder.errors += 1
        if self.decoder.cause:
            raise SourceError(f"expected frames in {self._name}, found {self.decoder.cause}; convert it to MP4 or PNG")
        raise SourceError(
            f"expected at least one frame that can be decoded in {self._name}, found none "
            f"({self.decoder.errors} damaged packets); record or convert it again"
        )

    def picture(self, frame: VideoFrame) -> NDArray[np.uint8] | None:
        """(H, W, 3) RGB, upright; None, and counted, where it cannot be made."""
        try:
            return self._pictures.make(frame)
        except (av.FFmpegError, SourceError):
            self.decoder.errors += 1
            return None

    def time_base(self, frame: VideoFrame) -> Fraction | None:
        """The frame's own; the last frames of a stream, which no packet brought, come without."""
        return fraction(frame.time_base) or fraction(self.stream.time_base)

    def counters(self, delivered: int, clock: PresentationClock) -> SourceCounters:
        """As of now, of a file whose frames were timed by a clock."""
        return SourceCounters(
            decoded=delivered,
            decode_errors=self.decoder.errors,
            pts_missing=clock.missing,
            pts_repaired=clock.repaired,
            notes=clock.notes,
        )

    def clock(self, first: VideoFrame) -> PresentationClock:
        """A clock for the frames of this stream, that reads no more of them ahead than memory has room for."""
        stream, flags = self.stream, self.container.format.flags
        room = _AHEAD_BYTES // max(1, sum(plane.buffer_size for plane in first.planes))
        return PresentationClock(
            nominal_step_s(fraction(stream.average_rate), fraction(stream.guessed_rate)),
            may_jump=bool(Flags(flags) & Flags.ts_discont),
            look_ahead=min(LOOK_AHEAD, max(_LEAST_AHEAD, room)),
        )

    def stamp_s(self, frame: VideoFrame) -> float | None:
        """Seconds that the file gives a frame."""
        return seconds(frame.pts, self.time_base(frame))

    def describe(self, first: VideoFrame, rgb: NDArray[np.uint8], *, alone: bool = False) -> SourceInfo:
        """What is known once there is an image.

        Args:
            first: the first frame.
            rgb: its image.
            alone: no other frame follows it.
        """
        stream, duration_s = self.stream, _duration_s(self.container, self.stream)
        return SourceInfo(
            name=self._name,
            width_px=int(rgb.shape[1]),
            height_px=int(rgb.shape[0]),
            time_base=self.time_base(first) or Fraction(1, 90_000),
            frames_declared=stream.frames or None,
            duration_s=duration_s,
            average_rate=fraction(stream.average_rate),
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=first.format.name,
            is_photo=is_photo(self.container) or (alone and duration_s is None),
            rotation_deg=self._pictures.orientation(first).clockwise_deg,
            notes=self._notes,
        )


def _crop(container: InputContainer, stream: VideoStream) -> Crop | None:
    """Of a file of this machine in a container that can say it."""
    file, context = Path(container.name), stream.codec_context
    if not container.format.name.startswith(("mov", "matroska")) or not file.is_file():
        return None
    videos = container.streams.video
    number = [video.index for video in videos].index(stream.index)
    return crop_of(file, number, len(videos), context.width, context.height)


def is_photo(container: InputContainer) -> bool:
    """Whether it is read as an image file; what is a photo in other containers, its frames tell."""
    return container.format.name.endswith(("image2", "_pipe"))


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    duration_s = seconds(stream.duration, stream.time_base) or seconds(container.duration, Fraction(1, av.time_base))
    return duration_s if duration_s is not None and duration_s > 0 else None
