"""Writes RGB images with their own times into a video file.

Variable frame rates, gaps and late starts survive: every image is stored at the tick nearest to its time.
The file of a killed process can be played: MP4 is written in fragments of half a second, Matroska in clusters. A file
that is ended becomes an ordinary MP4, for which the offsets of all its images are kept in memory; a live one stays in
fragments and needs no such memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from numba import njit
from numpy.typing import NDArray

from hoiclip.core.array_types import I32, U8
from hoiclip_engine.sources.frame_conversion import HD_HEIGHT_PX
from hoiclip_kernels.preprocess.nv12 import RED_BLUE, Matrix

MATROSKA_TIME_BASE = Fraction(1, 1000)
FALLBACK_TIME_BASE = Fraction(1, 90_000)
_MIN_TICKS_PER_S = 10_000
_MAX_TICKS_PER_S = 1_000_000
_MPEG4_TIME_BASE = Fraction(1, 60_000)  # MPEG-4 part 2 counts with 16 bits
_NOMINAL_STEP_S = 0.04
_FRAGMENT_MS = 500
_LONGEST_STEP = 2_000_000_000
"""Ticks from image to image at most: MP4 stores a duration in 32 bits, of which readers use less than 31."""
_LAST_STAYS_S = 10.0
"""Longest duration of the last image, whatever the step before it."""
_AVCOL_BT709, _AVCOL_SMPTE170M = 1, 6


def output_time_base(source: Fraction, suffix: str) -> Fraction:
    """Ticks in which the source's own times are whole numbers, fine enough for times between them."""
    if suffix == ".mkv":
        return MATROSKA_TIME_BASE
    ticks_per_s = source.denominator
    if source <= 0 or ticks_per_s > _MAX_TICKS_PER_S:
        return FALLBACK_TIME_BASE
    while ticks_per_s < _MIN_TICKS_PER_S:
        ticks_per_s *= 2
    return Fraction(1, ticks_per_s)


class Writable(Protocol):
    """Target for bytes."""

    def write(self, data: bytes, /) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Container and latency of an encoder."""

    container: str | None = None
    """ffmpeg's name of the format; None: follows from the file's name."""
    live: bool = False
    """Images leave the encoder as they come, and memory stays flat for months."""

    def options(self, suffix: str, time_base: Fraction) -> dict[str, str]:
        """Options for the container of a file with this ending; every packet goes to the disk at once."""
        if self.container is not None:
            return {"flush_packets": "1"}
        if suffix == ".mkv":
            return {"flush_packets": "1", "cluster_time_limit": str(_FRAGMENT_MS)}
        # delay_moov: else the first fragment begins at zero, whatever its first image says.
        flags = "empty_moov+default_base_moof" if self.live else "hybrid_fragmented"
        return {
            "flush_packets": "1",
            "movflags": f"{flags}+delay_moov",
            "frag_duration": str(_FRAGMENT_MS * 1000),
            # Without movie_timescale the start of an MP4 is rounded to milliseconds.
            "movie_timescale": str(time_base.denominator),
        }


class VideoEncoder:
    """One H.264 stream in one file; MPEG-4 part 2 where ffmpeg was built without x264."""

    def __init__(
        self,
        target: Path | Writable,
        width_px: int,
        height_px: int,
        time_base: Fraction,
        config: EncoderConfig | None = None,
    ) -> None:
        """Creates the file.

        Raises:
            av.FFmpegError, OSError, ValueError: it cannot be created or no encoder takes this size.
        """
        self._codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._time_base = time_base if self._codec == "libx264" else max(time_base, _MPEG4_TIME_BASE)
        self._config = config or EncoderConfig()
        suffix = target.suffix if isinstance(target, Path) else ""
        self._container: OutputContainer = av.open(
            str(target) if isinstance(target, Path) else target,
            mode="w",
            format=self._config.container,
            options=self._config.options(suffix, self._time_base),
        )
        # 4:2:0 needs even sizes.
        self._width_px, self._height_px = width_px + width_px % 2, height_px + height_px % 2
        self._is_hd = self._height_px >= HD_HEIGHT_PX
        self._last_pts: int | None = None
        self._shift_s = 0.0
        self._capped = suffix in (".mp4", ".mov")
        self.shortened_s: list[tuple[float, float]] = []
        """Pauses that were longer than the container can store: seconds in the source, and as written."""
        self._step = max(1, round(_NOMINAL_STEP_S / self._time_base))
        self._stream = self._add_stream()
        try:
            self._container.start_encoding()  # else a folder without permission would show only after many frames
        except BaseException:
            self._container.close()
            raise

    def write(self, rgb: NDArray[np.uint8], pts_s: float) -> None:
        """Encodes an image. Images come in order; one at the same tick as the last moves to the next tick.

        Raises:
            av.FFmpegError, OSError, ValueError, OverflowError: the encoder or the disk refuses.
        """
        if self._last_pts is None:
            # MP4 has no times before zero; shifted, no image is lost.
            self._shift_s = max(0.0, -pts_s)
        pts = round((pts_s + self._shift_s) / self._time_base)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
            if self._capped and pts - self._last_pts > _LONGEST_STEP:
                pts = self._shortened(pts, self._last_pts)
            self._step = pts - self._last_pts
        self._last_pts = pts
        frame = self._frame(rgb)
        frame.pts, frame.time_base = pts, self._time_base
        self._mux(self._stream.encode(frame))

    def _shortened(self, pts: int, last_pts: int) -> int:
        """The latest time that can be written; all that follows is as much earlier."""
        step_s = float((pts - last_pts) * self._time_base)
        longest_s = float(_LONGEST_STEP * self._time_base)
        self._shift_s -= step_s - longest_s
        self.shortened_s.append((step_s, longest_s))
        return last_pts + _LONGEST_STEP

    def close(self) -> None:
        """Writes what is still in the encoder and ends the file.

        Raises:
            av.FFmpegError, OSError: the disk refuses.
        """
        try:
            if self._last_pts is not None:
                self._mux(self._stream.encode(None))
        finally:
            self._container.close()

    def _add_stream(self) -> VideoStream:
        stream = cast(VideoStream, self._container.add_stream(self._codec, rate=round(1 / _NOMINAL_STEP_S)))
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = self._width_px, self._height_px, "yuv420p"
        context.time_base = stream.time_base = self._time_base
        context.color_range = ColorRange.MPEG
        context.colorspace = _AVCOL_BT709 if self._is_hd else _AVCOL_SMPTE170M
        # Without B-frames decoding order is showing order, and no file begins before its first image.
        context.max_b_frames = 0
        context.gop_size = 60
        if self._codec == "libx264":
            context.options = {"preset": "veryfast", "crf": "20"} | (
                {"tune": "zerolatency"} if self._config.live else {}
            )
        else:
            context.bit_rate = max(1_000_000, 4 * self._width_px * self._height_px)
        return stream

    def _frame(self, rgb: NDArray[np.uint8]) -> VideoFrame:
        height_px, width_px = rgb.shape[:2]
        if (width_px, height_px) != (self._width_px, self._height_px):
            below_px, right_px = self._height_px - height_px, self._width_px - width_px
            rgb = np.asarray(cv2.copyMakeBorder(rgb, 0, below_px, 0, right_px, cv2.BORDER_REPLICATE), np.uint8)
        frame = VideoFrame(self._width_px, self._height_px, "yuv420p")
        frame.colorspace, frame.color_range = self._stream.codec_context.colorspace, ColorRange.MPEG
        planes = [np.ndarray((plane.height, plane.line_size), np.uint8, cast(bytes, plane)) for plane in frame.planes]
        _fill_planes(
            np.ascontiguousarray(rgb).reshape(len(rgb), -1), _factors("bt709" if self._is_hd else "bt601"), *planes
        )
        return frame

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            # The container needs a duration of the last image; that of the one before is the best guess.
            packet.duration = min(self._step, round(_LAST_STAYS_S / self._time_base))
            self._container.mux(packet)


_SHIFT = 16
"""Fraction bits of the factors."""


@lru_cache(maxsize=2)
def _factors(matrix: Matrix) -> I32:
    """(3, 3) from red, green and blue to brightness in 16..235 and colours in 16..240, as 1 << _SHIFT.

    Source: ITU-R BT.601 and BT.709.
    """
    red, blue = RED_BLUE[matrix]
    y = np.array([red, 1 - red - blue, blue])
    u, v = (np.eye(3)[2] - y) / (2 - 2 * blue), (np.eye(3)[0] - y) / (2 - 2 * red)
    scaled = np.stack([219 * y, 224 * u, 224 * v]) / 255
    return np.asarray(np.rint(scaled * (1 << _SHIFT)), np.int32)


_u = np.uint64  # of a signed index the compiler tests whether it counts from the end, and makes no vectors


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill_planes(rgb: U8, factors: I32, y_plane: Any, u_plane: Any, v_plane: Any) -> None:
    """(H, 3 W) RGB of even sides to planes with padded rows; a colour is the mean of its four pixels.

    A third of swscale's time: that resizes colours in both directions although they are only halved.
    """
    width = rgb.shape[1] // 3
    reds, greens, blues = np.empty(width, np.uint16), np.empty(width, np.uint16), np.empty(width, np.uint16)
    y_offset, half = np.int32((16 << _SHIFT) + (1 << (_SHIFT - 1))), np.int32(1 << (_SHIFT + 1))
    for row in range(rgb.shape[0] // 2):
        reds[:], greens[:], blues[:] = 0, 0, 0
        for k in range(2):
            n = _u(2 * row + k)
            for x in range(width):
                red, green, blue = rgb[n, _u(3 * x)], rgb[n, _u(3 * x + 1)], rgb[n, _u(3 * x + 2)]
                light = factors[0, 0] * np.int32(red) + factors[0, 1] * np.int32(green) + factors[0, 2] * np.int32(blue)
                y_plane[n, _u(x)] = (light + y_offset) >> _SHIFT
                reds[x] += red
                greens[x] += green
                blues[x] += blue
        for x in range(width // 2):
            red = np.int32(reds[2 * x]) + np.int32(reds[2 * x + 1])
            green = np.int32(greens[2 * x]) + np.int32(greens[2 * x + 1])
            blue = np.int32(blues[2 * x]) + np.int32(blues[2 * x + 1])
            u = factors[1, 0] * red + factors[1, 1] * green + factors[1, 2] * blue
            v = factors[2, 0] * red + factors[2, 1] * green + factors[2, 2] * blue
            u_plane[_u(row), _u(x)] = 128 + ((u + half) >> (_SHIFT + 2))
            v_plane[_u(row), _u(x)] = 128 + ((v + half) >> (_SHIFT + 2))
