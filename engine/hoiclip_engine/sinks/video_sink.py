"""Writes the annotated video: the input's images at the input's times, with pairs drawn in.

annotate.py paints and video_encoder.py encodes; this file decides which files are overwritten, kept and removed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import av

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.sinks.annotate import FramePainter
from hoiclip_engine.sinks.video_encoder import EncoderConfig, VideoEncoder, output_time_base
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink

SUFFIXES = (".mp4", ".mkv", ".mov")
_WRITE_ERRORS = (av.FFmpegError, OSError, ValueError, OverflowError)


class VideoSink(Sink):
    """One video file. It gets its name when it is whole; until then it is called NAME.part.SUFFIX.

    After a killed process that file can be played, but for its last second.
    """

    def __init__(self, path: str | Path, overlay: bool = True) -> None:
        """Touches no file.

        Args:
            path: ends in .mp4, .mkv or .mov.
            overlay: whether pairs are drawn in.

        Raises:
            UsageError: the file name has another ending.
        """
        self._path = Path(path)
        if self._path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"expected a video name ending in {', '.join(SUFFIXES)}, found {path}; rename it")
        self._unfinished = unfinished_name(self._path)
        self._overlay = overlay
        self._frames = 0
        self._live = False
        self._shortened_s: list[tuple[float, float]] = []
        self._encoder: VideoEncoder | None = None

    def start(self, header: RunHeader) -> None:
        """Creates the file.

        Raises:
            UsageError: it would overwrite its own source.
            SinkError: it cannot be created.
        """
        for path in (self._path, self._unfinished):  # the unfinished file of a killed run may be the source of the next
            if _same_file(path, header.source):
                raise UsageError(f"expected another output than the source {path}; choose another name")
        if self._path.is_dir():
            raise SinkError(f"expected a file name for the video, found the directory {self._path}; name a file in it")
        if not self._path.parent.is_dir():
            raise SinkError(f"cannot write {self._path}: its folder does not exist; make it first")
        self._painter = FramePainter(header, self._overlay)
        self._live = header.policy == "latest"
        time_base = output_time_base(header.time_base, self._unfinished.suffix)
        try:
            config = EncoderConfig(live=self._live)
            self._encoder = VideoEncoder(self._unfinished, *self._painter.size_px, time_base, config)
        except _WRITE_ERRORS as error:
            raise self._failure(error) from None

    def write(self, result: FrameResult) -> None:
        """Adds one image.

        Raises:
            SinkError: the disk is full or the encoder refuses. The recording until then stays in NAME.part.SUFFIX,
                unless the disk is full and the source can be read again.
        """
        if self._encoder is None:
            return
        rgb = self._painter.paint(result)
        try:
            self._encoder.write(rgb, result.pts_s)
        except _WRITE_ERRORS as error:
            raise self._failure(error) from None
        self._frames += 1

    def finish(self, summary: RunSummary) -> None:
        """Ends the file and gives it its name; a run without a frame leaves no file.

        Raises:
            SinkError: the disk is full.
        """
        if self._encoder is None:
            return
        self._shortened_s = self._encoder.shortened_s
        try:
            self._encoder.close()
            if self._frames:
                os.replace(self._unfinished, self._path)
            else:
                self._unfinished.unlink(missing_ok=True)
        except _WRITE_ERRORS as error:
            raise self._failure(error) from None
        self._encoder = None

    @property
    def notes(self) -> tuple[str, ...]:
        """A line where pauses were too long for the container."""
        if not self._shortened_s:
            return ()
        given_s, written_s = self._shortened_s[0]
        more = f" (and {len(self._shortened_s) - 1} more)" if len(self._shortened_s) > 1 else ""
        return (f"a pause of {given_s:.0f} s{more} is {written_s:.0f} s in {self._path}; a name in .mkv keeps it",)

    def _failure(self, error: Exception) -> SinkError:
        """Ends the file, and returns the error to raise. An unfinished file that can be made again is removed."""
        encoder, self._encoder = self._encoder, None
        with contextlib.suppress(*_WRITE_ERRORS):
            if encoder is not None:
                encoder.close()
        kept = ""
        if self._frames and (self._live or not isinstance(error, OSError)):
            kept = f"; what was recorded until then is in {self._unfinished}"
        else:
            with contextlib.suppress(OSError):
                self._unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            return SinkError(f"cannot write {self._path}: {os.strerror(error.errno)}; choose another place{kept}")
        reason = f"{type(error).__name__} from the encoder or container"
        return SinkError(f"cannot write {self._path}: {reason}; try a name that ends in .mkv{kept}")


def unfinished_name(path: Path) -> Path:
    """Name of a video until it is whole."""
    return path.with_name(f"{path.stem}.part{path.suffix.lower()}")


def _same_file(path: Path, source: str) -> bool:
    try:
        return path.samefile(source)
    except (OSError, ValueError):
        return False
