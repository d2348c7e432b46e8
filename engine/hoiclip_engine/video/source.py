"""Reads a video file or image: every frame that can be decoded, upright, in order, at its own time.

For whatever has an end; live sources, which need clocks and reconnects, are live.py. Frames are made one at a time and
none is kept. Read and close a source from one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType

from av.container import InputContainer
from av.video.frame import VideoFrame

from hoiclip.errors import SourceError
from hoiclip_engine.frame import Frame
from hoiclip_engine.video.cutting import INDEXED
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo
from hoiclip_engine.video.opened import OpenedVideo
from hoiclip_engine.video.opening import open_container, regular_file
from hoiclip_engine.video.redact import redact
from hoiclip_engine.video.source_config import SourceConfig
from hoiclip_engine.video.still import Still, read_still

SEEK_FROM_S = 5.0
"""Below this it is quicker to decode than to seek."""
_ROUNDING_S = 1e-6  # so that "--start 1" keeps the frame at 0.067 + 1.0


def open_video(path: str | Path, config: SourceConfig | None = None) -> VideoSource:
    """Opens a file and decodes its first frame.

    Raises:
        SourceError: nothing can be read from it; the message says why.
    """
    config = config or SourceConfig()
    file = regular_file(path)
    return VideoSource(open_container(file, config.max_pixels, config.hwaccel), redact(str(path)), config)


class VideoSource:
    """Frames of one container with an end; a context manager and an iterable that can be gone through once."""

    info: SourceInfo
    is_live = False

    def __init__(self, container: InputContainer, name: str, config: SourceConfig) -> None:
        """Takes the container over; use open_video for files.

        Args:
            container: open, at its start; closed with the source.
            name: printable and without credentials.
            config: which part is read.

        Raises:
            SourceError: no frame can be decoded.
        """
        self._config, self._name = config, name
        self._delivered = 0
        self._container = container
        self._video: OpenedVideo | None = None
        try:
            still = read_still(container, name, config.max_pixels)
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
        """As of now."""
        if self._video is None:
            return SourceCounters(decoded=self._delivered)
        return self._video.counters(self._delivered, self._clock)

    def stop(self) -> None:
        """A file never keeps anybody waiting."""

    def close(self) -> None:
        """Frees the file; may be called twice. Iteration ends."""
        self._frames.close()
        self._container.close()

    def _open(self) -> None:
        self._video = video = OpenedVideo(self._container, self._name, self._config)
        first, rgb = video.first()
        self._clock = video.clock(first)
        second = next(video.frames, None)
        self.info = video.describe(first, rgb, alone=second is None)
        self._frames = self._deliver(video, [first] if second is None else [first, second])

    def _deliver_still(self, still: Still) -> Generator[Frame, None, None]:
        if self._config.start_s:
            raise self._ended_before_start(0.0)
        self._delivered = 1
        yield Frame(still.rgb, 0.0, 0, time.monotonic())

    def _deliver(self, video: OpenedVideo, opened: Sequence[VideoFrame]) -> Generator[Frame, None, None]:
        config = self._config
        end_s = math.inf if config.duration_s is None else config.start_s + config.duration_s
        frames, zero_s = self._frames_around(video, opened)
        since_s = 0.0
        for frame, pts_s in self._clock.timed(frames, video.stamp_s):
            zero_s = pts_s if zero_s is None else zero_s
            since_s = pts_s - zero_s + _ROUNDING_S
            if since_s >= end_s or self._delivered == config.max_frames:
                break
            rgb = video.picture(frame) if since_s >= config.start_s else None
            if rgb is not None:
                self._delivered += 1
                yield Frame(rgb, pts_s, self._delivered - 1, time.monotonic())
        if not self._delivered:
            raise self._ended_before_start(since_s)

    def _ended_before_start(self, length_s: float) -> SourceError:
        return SourceError(
            f"expected a frame {self._config.start_s:g} s after the start of {self._name}, found that it ends after "
            f"{length_s:.2f} s; start earlier"
        )

    def _frames_around(
        self, video: OpenedVideo, opened: Sequence[VideoFrame]
    ) -> tuple[Iterator[VideoFrame], float | None]:
        """All frames from the asked start on, and before it as many as are cheap to decode.

        Returns:
            The frames, and the seconds of the file's first one where they begin behind it.
        """
        decoder, first = video.decoder, opened[0]
        time_base, first_s = video.time_base(first), video.stamp_s(first)
        if self._config.start_s >= SEEK_FROM_S and self._has_index() and first_s is not None and time_base:
            for pts in (int((first_s + self._config.start_s) / time_base), first.pts):
                if pts is None or not decoder.seek(pts):
                    break
                frames = decoder.frames()
                frame = next(frames, None)
                # Some files land behind the asked time: then go back to the start and decode all.
                if frame is not None and frame.pts is not None and frame.pts <= pts:
                    return chain([frame], frames), first_s
        return chain(opened, video.frames), None

    def _has_index(self) -> bool:
        """Whether seeking can be trusted."""
        return self._container.format.name.startswith(INDEXED)
