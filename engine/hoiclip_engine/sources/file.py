"""Video and image files, also on standard input: every frame that can be decoded, upright, in order, at its own time.

Frames are decoded one at a time and none is kept. Still images are decoded by hoiclip.data.image_file, so that the
model gets the same pixels in `run` as in training and evaluation.
"""

from __future__ import annotations

import math
import os
import select
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO, RawIOBase
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from hoiclip.core.errors import SourceError
from hoiclip.data.image_file import ImageError, ImageFile
from hoiclip_engine.sources.base import SourceConfig, SourceCounters, SourceInfo
from hoiclip_engine.sources.container import (
    SEEKABLE_FORMATS,
    choose_stream,
    is_photo,
    open_container,
    resolve_regular_file,
)
from hoiclip_engine.sources.decoder import VideoReader
from hoiclip_engine.sources.frame_conversion import check_size, clockwise_deg
from hoiclip_engine.sources.packet_ring import set_time
from hoiclip_engine.sources.uri import redact
from hoiclip_engine.types.frame import Frame

SEEK_FROM_S = 5.0
"""Start times from which seeking is faster than decoding."""
_IMAGE_CODECS = frozenset(("mjpeg", "png", "webp", "tiff", "bmp", "ppm", "pgm", "pbm", "jpeg2000", "gif"))
"""Decoded by hoiclip.data.image_file; still images of other codecs, such as JPEG-LS, by ffmpeg."""
_MAX_IMAGE_BYTES = 1 << 30
"""Maximum size of an image file; an uncompressed one with the most pixels and 16 bits per channel has half of it."""
_IMAGE_RATE = Fraction(25)
"""Nominal rate of the only frame, which has no time."""
STDIN_NAME = "standard input"
_POLL_S = 0.1
_ROUNDING_S = 1e-6  # so that "--start 1" keeps the frame at 0.067 + 1.0


def open_video(path: str | Path, config: SourceConfig | None = None) -> VideoSource:
    """Opens a video or image file and decodes its first frame.

    Raises:
        SourceError: nothing can be read from it; the message says why.
    """
    config = config or SourceConfig()
    file = resolve_regular_file(path)
    container = open_container(file, config.max_pixels, config.hwaccel, device_frames=config.device_frames)
    return VideoSource(container, redact(str(path)), config)


def decode_image(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Decodes an image from the bytes of its file, to upright (H, W, 3) RGB.

    Raises:
        SourceError: no image, damaged, a video, or too big.
    """
    if not data:
        raise SourceError("expected the bytes of an image's file, found none")
    config = SourceConfig(max_frames=1, max_pixels=max_pixels)
    try:
        container = open_container(BytesIO(data), max_pixels)
    except SourceError:
        raise SourceError("expected the bytes of a JPEG, PNG or other image, found something else") from None
    if not is_photo(container):
        kind = container.format.name
        container.close()
        raise SourceError(f"expected one image, found {kind}; send its frames one by one")
    try:
        with VideoSource(container, "encoded image", config) as source:
            return next(iter(source)).rgb
    except SourceError:  # ffmpeg does not report which
        raise SourceError(
            f"expected an image that can be decoded, found a damaged one or more than {max_pixels} pixels"
        ) from None


class VideoSource:
    """Frames of one finite container; a context manager, and an iterable for a single pass.

    Read and close it from one thread.
    """

    info: SourceInfo
    is_live = False

    def __init__(self, container: InputContainer, name: str, config: SourceConfig) -> None:
        """Takes ownership of the container; use open_video for files.

        Args:
            container: open, at its start; closed with the source.
            name: printable and without credentials.
            config: range of frames and limits.

        Raises:
            SourceError: no frame can be decoded.
        """
        self._config, self._name = config, name
        self._delivered = 0
        self._container = container
        self._video: VideoReader | None = None
        try:
            still = read_still_image(container, name, config.max_pixels)
            if still is None:
                self._open()
            else:
                self.info, self._frames = still.info, self._deliver_still(still)
        except BaseException:
            container.close()
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
        """Current counts."""
        if self._video is None:
            return SourceCounters(decoded=self._delivered)
        return self._video.counters(self._delivered, self._clock)

    def stop(self) -> None:
        """Does nothing: reading a file does not block."""

    def close(self) -> None:
        """Frees the file; may be called twice. Iteration ends."""
        self._frames.close()
        self._container.close()

    def _open(self) -> None:
        self._video = video = VideoReader(self._container, self._name, self._config)
        first, image = video.first()
        self._clock = video.clock(first)
        second = next(video.frames, None)
        self.info = video.describe(first, image, alone=second is None)
        self._frames = self._deliver(video, [first] if second is None else [first, second])

    def _deliver_still(self, still: StillImage) -> Generator[Frame, None, None]:
        if self._config.start_s:
            raise self._ended_before_start(0.0)
        self._delivered = 1
        yield Frame(still.rgb, 0.0, 0, time.monotonic())

    def _deliver(self, video: VideoReader, opened: Sequence[VideoFrame]) -> Generator[Frame, None, None]:
        config = self._config
        end_s = math.inf if config.duration_s is None else config.start_s + config.duration_s
        frames, zero_s = self._frames_near_start(video, opened)
        since_s = 0.0
        for frame, pts_s in self._clock.timed(frames, video.timestamp_s):
            set_time(frame, pts_s)
            zero_s = pts_s if zero_s is None else zero_s
            since_s = pts_s - zero_s + _ROUNDING_S
            if since_s >= end_s or self._delivered == config.max_frames:
                break
            image = video.image(frame) if since_s >= config.start_s else None
            if image is not None:
                self._delivered += 1
                yield Frame(image, pts_s, self._delivered - 1, time.monotonic())
        if not self._delivered:
            raise self._ended_before_start(since_s)

    def _ended_before_start(self, length_s: float) -> SourceError:
        return SourceError(
            f"expected a frame {self._config.start_s:g} s after the start of {self._name}, found that it ends after "
            f"{length_s:.2f} s; start earlier"
        )

    def _frames_near_start(
        self, video: VideoReader, opened: Sequence[VideoFrame]
    ) -> tuple[Iterator[VideoFrame], float | None]:
        """Frames from the requested start on, and those before it that are cheap to decode.

        Returns:
            The frames, and the time of the first frame of the file where they begin after it.
        """
        decoder, first = video.decoder, opened[0]
        time_base, first_s = video.time_base(first), video.timestamp_s(first)
        if self._config.start_s >= SEEK_FROM_S and self._is_seekable() and first_s is not None and time_base:
            for pts in (int((first_s + self._config.start_s) / time_base), first.pts):
                if pts is None or not decoder.seek(pts):
                    break
                frames = decoder.frames()
                frame = next(frames, None)
                # Seeking in some files lands after the requested time: then go back to the start and decode all.
                if frame is not None and frame.pts is not None and frame.pts <= pts:
                    return chain([frame], frames), first_s
        return chain(opened, video.frames), None

    def _is_seekable(self) -> bool:
        """Whether seeking can be trusted."""
        return self._container.format.name.startswith(SEEKABLE_FORMATS)


class StdinSource:
    """Video on standard input: read as it arrives, to its end, without hanging on a writer that stalls."""

    is_live = False

    def __init__(self, config: SourceConfig, descriptor: int | None = None) -> None:
        """Reads from a file descriptor, which stays open; None is standard input.

        Raises:
            SourceError: nothing is piped in, or no video.
        """
        self._stopped = threading.Event()
        self._pipe = _StoppablePipe(_standard_input() if descriptor is None else descriptor, self._stopped)
        file = cast(IO[bytes], self._pipe)
        container = open_container(file, config.max_pixels, config.hwaccel, device_frames=config.device_frames)
        self._source = VideoSource(container, STDIN_NAME, config)

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def counters(self) -> SourceCounters:
        """Current counts."""
        return self._source.counters

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._source)

    def stop(self) -> None:
        """Treats the data read so far as the whole input."""
        self._stopped.set()

    def close(self) -> None:
        """Frees the container; may be called twice. Iteration ends."""
        self._stopped.set()
        self._source.close()


class _StoppablePipe(RawIOBase):
    """File descriptor whose reads end once stopped. Seeks where the descriptor can: `hoiclip run - < clip.mp4`."""

    name = STDIN_NAME

    def __init__(self, descriptor: int, stopped: threading.Event) -> None:
        self._descriptor, self._stopped = descriptor, stopped

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        try:
            os.lseek(self._descriptor, 0, os.SEEK_CUR)
        except OSError:
            return False
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._stopped.is_set():
            if select.select([self._descriptor], [], [], _POLL_S)[0]:
                return os.read(self._descriptor, size if size > 0 else 2**16)
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)


def _standard_input() -> int:
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        raise SourceError("expected video on standard input, found it closed; pipe a file into it") from None
    if os.isatty(descriptor):
        raise SourceError(
            "expected video on standard input, found a keyboard; pipe a file into it, as in: ... < clip.mp4"
        )
    return descriptor


@dataclass(frozen=True, slots=True)
class StillImage:
    """An upright image and its metadata."""

    rgb: NDArray[np.uint8]
    """(H, W, 3)"""
    info: SourceInfo


def read_still_image(container: InputContainer, name: str, max_pixels: int) -> StillImage | None:
    """Decodes the image of a container; None, with nothing read, where it holds something else.

    Raises:
        SourceError: the image cannot be decoded, is too big, or has colours that are not read.
    """
    if not is_photo(container):
        return None
    stream, _ = choose_stream(container, name, max_pixels)
    context = stream.codec_context
    if context.codec.canonical_name not in _IMAGE_CODECS:
        return None
    check_size(context.width, context.height, max_pixels)
    return _decode_still_image(_read_bytes(container, name), name, max_pixels)


def _read_bytes(container: InputContainer, name: str) -> BinaryIO:
    file, size = BytesIO(), 0
    try:
        for packet in container.demux():
            size += packet.size
            if size > _MAX_IMAGE_BYTES:
                raise SourceError(
                    f"expected an image of at most {_MAX_IMAGE_BYTES >> 20} MiB, found {name} larger; convert it"
                )
            file.write(bytes(packet))
    except av.FFmpegError as error:
        raise SourceError(
            f"expected an image in {name}, found that it cannot be read to its end ({type(error).__name__}); "
            "copy or save it again"
        ) from None
    file.seek(0)
    return file


def _decode_still_image(file: BinaryIO, name: str, max_pixels: int) -> StillImage:
    try:
        with ImageFile(file, max_pixels) as image:
            rgb = np.array(image.rgb())
            info = SourceInfo(
                name=name,
                width_px=rgb.shape[1],
                height_px=rgb.shape[0],
                time_base=1 / _IMAGE_RATE,
                frames_declared=1,
                duration_s=None,
                average_rate=_IMAGE_RATE,
                codec=image.format.lower(),
                pixel_format=image.mode,
                is_photo=True,
                rotation_deg=clockwise_deg(image.orientation),
            )
    except ImageError as error:
        raise SourceError(
            f"expected an image that can be decoded in {name}, found {error}; save it again as PNG or JPEG"
        ) from error
    return StillImage(rgb, info)
