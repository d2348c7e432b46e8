"""Reads a video file or image: every frame that can be decoded, upright, in order, at its own time.

Files only; live sources need clocks and reconnects. Frames are made one at a time and none is kept. Read and close a
source from one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from hoiclip.errors import SourceError
from hoiclip_engine.frame import Frame
from hoiclip_engine.video.decode import FrameDecoder
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo
from hoiclip_engine.video.opening import open_container, pick_video, regular_file
from hoiclip_engine.video.orient import orientation_of_photo
from hoiclip_engine.video.picture import PictureMaker, check_size
from hoiclip_engine.video.redact import redact
from hoiclip_engine.video.timestamps import PresentationClock, nominal_step_s, seconds

# Damage is counted and told in one line; ffmpeg would tell it per macroblock, on stderr.
av.logging.set_level(av.logging.PANIC)

SEEK_FROM_S = 5.0
"""Below this it is quicker to decode than to seek."""
_ROUNDING_S = 1e-6  # so that "--start 1" keeps the frame at 0.067 + 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Which part of a file is read, and what is too big to be meant."""

    start_s: float = 0.0
    """Seconds after the first frame."""
    duration_s: float | None = None
    """Seconds from start_s on; None for all."""
    max_frames: int | None = None
    max_pixels: int = 2**26
    """Twice 8K video; 192 MiB as RGB."""
    frame_threads: bool = False
    """Decode several frames at a time: faster on many cores, but loses more frames after damage."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < float("inf"):
            raise ValueError(f"start_s must be zero or more, got {self.start_s}")
        if self.duration_s is not None and not self.duration_s > 0:
            raise ValueError(f"duration_s must be positive, got {self.duration_s}")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {self.max_frames}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {self.max_pixels}")


def open_video(path: str | Path, config: SourceConfig | None = None) -> VideoSource:
    """Opens a file and decodes its first frame.

    Raises:
        SourceError: nothing can be read from it; the message says why.
    """
    return VideoSource(path, config or SourceConfig())


class VideoSource:
    """Frames of one file; a context manager and an iterable that can be gone through once."""

    info: SourceInfo
    is_live = False

    def __init__(self, path: str | Path, config: SourceConfig) -> None:
        """Use open_video."""
        file = regular_file(path)
        self._config = config
        self._name = redact(str(path))
        self._delivered = 0
        self._container = open_container(file, config.max_pixels)
        try:
            self._open(file)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    @property
    def counters(self) -> SourceCounters:
        """As of now."""
        return SourceCounters(
            decoded=self._delivered,
            decode_errors=self._decoder.errors,
            pts_missing=self._clock.missing,
            pts_repaired=self._clock.repaired,
        )

    def stop(self) -> None:
        """A file never keeps anybody waiting."""

    def close(self) -> None:
        """Frees the file; may be called twice. Iteration ends."""
        self._frames.close()
        self._container.close()

    def _open(self, file: Path) -> None:
        stream = self._stream = pick_video(self._container, self._name)
        check_size(stream.codec_context.width, stream.codec_context.height, self._config.max_pixels)
        stream.codec_context.options = {"max_pixels": str(self._config.max_pixels)}
        self._decoder = FrameDecoder(self._container, stream, frame_threads=self._config.frame_threads)
        self._is_photo = self._container.format.name.endswith(("image2", "_pipe"))
        photo = orientation_of_photo(file) if self._is_photo else None
        self._pictures = PictureMaker(stream, photo, self._config.max_pixels)
        self._clock = PresentationClock(nominal_step_s(stream.average_rate, stream.guessed_rate))
        self._decoded = self._decoder.frames()
        first, rgb = self._first_frame()
        self.info = self._describe(first, rgb)
        self._frames = self._deliver(first)

    def _first_frame(self) -> tuple[VideoFrame, NDArray[np.uint8]]:
        for frame in self._decoded:
            try:
                return frame, self._pictures.make(frame)
            except av.FFmpegError:
                self._decoder.errors += 1
        raise SourceError(
            f"expected at least one frame that can be decoded in {self._name}, found none "
            f"({self._decoder.errors} damaged packets); record or convert it again"
        )

    def _describe(self, first: VideoFrame, rgb: NDArray[np.uint8]) -> SourceInfo:
        stream = self._stream
        return SourceInfo(
            name=self._name,
            width_px=int(rgb.shape[1]),
            height_px=int(rgb.shape[0]),
            time_base=self._time_base(first) or Fraction(1, 90_000),
            frames_declared=stream.frames or None,
            duration_s=_duration_s(self._container, stream),
            average_rate=stream.average_rate,
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=first.format.name,
            is_photo=self._is_photo,
            rotation_deg=self._pictures.orientation(first).clockwise_deg,
        )

    def _deliver(self, first: VideoFrame) -> Generator[Frame, None, None]:
        config = self._config
        first_s = seconds(first.pts, self._time_base(first)) or 0.0
        start_s = first_s + config.start_s - _ROUNDING_S
        end_s = math.inf if config.duration_s is None else start_s + config.duration_s
        pts_s = first_s
        for frame in self._frames_around(first, start_s):
            pts_s = self._clock.next(frame.pts, self._time_base(frame))
            if pts_s >= end_s or self._delivered == config.max_frames:
                break
            rgb = self._picture(frame) if pts_s >= start_s else None
            if rgb is not None:
                self._delivered += 1
                yield Frame(rgb, pts_s, self._delivered - 1, time.monotonic())
        if not self._delivered:
            raise SourceError(
                f"expected a frame {config.start_s:g} s after the start of {self._name}, found that it ends after "
                f"{pts_s - first_s:.2f} s; start earlier"
            )

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8] | None:
        try:
            return self._pictures.make(frame)
        except (av.FFmpegError, SourceError):
            self._decoder.errors += 1
            return None

    def _frames_around(self, first: VideoFrame, start_s: float) -> Iterator[VideoFrame]:
        """All frames from start_s on, and before it as many as are cheap to decode."""
        time_base = self._time_base(first)
        if self._config.start_s >= SEEK_FROM_S and self._has_index() and first.pts is not None and time_base:
            for pts in (int(start_s / time_base), first.pts):
                if not self._decoder.seek(pts):
                    break
                frames = self._decoder.frames()
                frame = next(frames, None)
                # Some files land behind the asked time: then go back to the start and decode all.
                if frame is not None and frame.pts is not None and frame.pts <= pts:
                    return chain([frame], frames)
        return chain([first], self._decoded)

    def _time_base(self, frame: VideoFrame) -> Fraction | None:
        """The frame's own; the last frames of a stream, which no packet brought, come without."""
        return frame.time_base or self._stream.time_base

    def _has_index(self) -> bool:
        """Whether seeking can be trusted; in MPEG-TS and raw streams it is a guess."""
        return self._container.format.name.startswith(("mov", "matroska"))


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    duration_s = seconds(stream.duration, stream.time_base) or seconds(container.duration, Fraction(1, av.time_base))
    return duration_s if duration_s is not None and duration_s > 0 else None
