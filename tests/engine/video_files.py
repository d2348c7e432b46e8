"""Small clips for tests: each frame is a flat grey whose level encodes its index, with a red upper left quarter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

GREY_STEP = 8
RED = (230, 20, 20)


def grey_of(index: int) -> int:
    return 20 + index * GREY_STEP % 200


def image(index: int, width_px: int = 64, height_px: int = 48) -> NDArray[np.uint8]:
    """Image (H, W, 3) from which the index of the frame and its orientation can be read."""
    rgb = np.full((height_px, width_px, 3), grey_of(index), np.uint8)
    rgb[: height_px // 2, : width_px // 2] = RED
    return rgb


def index_of(rgb: NDArray[np.uint8]) -> float:
    """Index of the frame, from its lower right quarter."""
    height_px, width_px = rgb.shape[:2]
    return (float(rgb[height_px * 5 // 8 :, width_px * 5 // 8 :].mean()) - 20) / GREY_STEP


def write_clip(
    path: Path,
    pts: Sequence[int],
    time_base: Fraction = Fraction(1, 1000),
    *,
    size_px: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    b_frames: int = 0,
    gop: int = 12,
    rotation_deg: int = 0,
    aspect: Fraction | None = None,
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Writes one frame per presentation timestamp.

    rotation_deg is counterclockwise, as ffmpeg stores it; options are for the encoder.
    """
    with av.open(str(path), mode="w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = *size_px, pix_fmt
        context.time_base = stream.time_base = time_base
        context.max_b_frames, context.gop_size = b_frames, gop
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if codec == "libx264":
            context.options = {"crf": "10", "preset": "ultrafast" if not b_frames else "veryfast"}
        context.options = {**context.options, **(options or {})}
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        for index, ticks in enumerate(pts):
            frame = VideoFrame.from_ndarray(image(index, *size_px), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = ticks, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
