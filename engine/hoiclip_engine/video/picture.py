"""Makes of each decoded frame the picture a person should see: RGB, square pixels, upright, not too big."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from hoiclip.errors import SourceError
from hoiclip_engine.video.color import RgbConverter, square_size_px
from hoiclip_engine.video.cropping import Crop
from hoiclip_engine.video.orient import Orientation, orientation_of
from hoiclip_engine.video.pyav import fraction


class PictureMaker:
    """Pictures of one stream. Use it from one thread."""

    def __init__(self, stream: VideoStream, max_pixels: int, *, is_image: bool, crop: Crop | None = None) -> None:
        """
        Args:
            stream: of the frames.
            max_pixels: per image.
            is_image: whether the container is an image file.
            crop: what the container does not show of frames of the size that it declares.
        """
        self._stream = stream
        self._crop, self._coded_px = crop, (stream.codec_context.width, stream.codec_context.height)
        self._turn: tuple[int, Orientation] | None = None
        self._max_pixels = max_pixels
        self._converter = RgbConverter(stream.codec_context.codec.canonical_name, is_image=is_image)
        self._container_aspect = fraction(stream.sample_aspect_ratio)
        # The container's word counts before the codec's. Only where both agree may the codec change it along the way,
        # as broadcasters do between 4:3 and 16:9.
        codec_aspect = fraction(stream.codec_context.sample_aspect_ratio)
        self._follow_codec = codec_aspect is not None and codec_aspect == self._container_aspect

    def orientation(self, frame: VideoFrame) -> Orientation:
        """Looked up in the frame's side data once per angle: PyAV keeps every frame alive whose side data was read."""
        angle_deg = frame.rotation
        if self._turn is None or self._turn[0] != angle_deg:
            self._turn = angle_deg, orientation_of(frame)
        return self._turn[1]

    def make(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) contiguous RGB.

        Raises:
            SourceError: the picture is bigger than max_pixels.
            av.FFmpegError: the pixel format cannot be converted.
        """
        aspect = self._aspect()
        check_size(*square_size_px(frame.width, frame.height, aspect), self._max_pixels)
        rgb = self._converter.convert(frame, aspect)
        if self._crop is not None and (frame.width, frame.height) == self._coded_px:
            rgb = np.ascontiguousarray(self._crop.apply(rgb, frame.width, frame.height))
        return self.orientation(frame).apply(rgb)

    def _aspect(self) -> Fraction | None:
        if self._follow_codec:
            return fraction(self._stream.codec_context.sample_aspect_ratio)
        return self._container_aspect


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Raises SourceError where a picture has more pixels than is sane."""
    if width_px * height_px > max_pixels:
        raise SourceError(
            f"expected pictures of at most {max_pixels} pixels, found {width_px}x{height_px}; scale the file down"
        )
