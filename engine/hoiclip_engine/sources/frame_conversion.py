"""Conversion of decoded frames to images: RGB, square pixels, cropped, upright, not too big.

Knows colour matrices, ranges, alpha, pixel aspect and display matrices. Only quarter turns and mirrors: other angles
are rounded to the nearest, as cameras never mean them. Still images are turned by hoiclip.data.image_file.
"""

from __future__ import annotations

import gc
import logging
import struct
import threading
import weakref
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, cast

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from hoiclip.core.array_types import U8
from hoiclip.core.errors import SourceError
from hoiclip_engine.sources.container import fraction
from hoiclip_engine.sources.cropping import Crop
from hoiclip_engine.types.frame import DecodedImage, DeviceImage, FrameImage
from hoiclip_kernels.preprocess.yuv420 import Yuv420

if TYPE_CHECKING:
    from hoiclip_kernels.preprocess.nv12 import Matrix

MAX_SANE_ASPECT = 8
"""Maximum plausible pixel aspect ratio; anamorphic video has 2."""
HD_HEIGHT_PX = 720
"""Unlabelled video from this height on is BT.709, below it BT.601, as players assume."""
_ANIMATIONS = frozenset(("apng", "gif", "webp"))
TRANSPARENT_CODECS = _ANIMATIONS | {"bmp", "jpeg2000", "jpegxl", "png", "qoi", "targa", "tiff"}
"""Codecs whose alpha is transparency. Of others it is a padding byte of screen and camera captures, or a mask for an
editor, and players show the colours. Images in a video may have such a byte too: it is zero all over."""
_AVCOL_RGB = 0
_BT2020 = 9
"""SWS_CS_BT2020, for which PyAV 17, the last one for Python 3.10, has no name."""
# AVColorSpace of the stream → the matrix swscale knows.
_MATRICES: dict[int, int] = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: _BT2020,
    10: _BT2020,
}
_PLANE_MATRICES: dict[int, Matrix] = {
    Colorspace.ITU709: "bt709",
    Colorspace.ITU601: "bt601",
    _BT2020: "bt2020",
}
"""Those of swscale that preprocessing of planes knows."""
_PLANAR = ("yuv420p", "yuvj420p")
"""Pixel formats whose planes the model reads."""
_BORROWING_CODECS = frozenset(("rawvideo", "wrapped_avframe"))
"""Their frames may lie in the few buffers of a camera's driver, which an image that waits would keep from it."""
_FULL_RANGE = 2
"""AVCOL_RANGE_JPEG"""
_DEVICE_BYTES = 2**28
"""Of frames of one source that stay on a GPU at a time, as NV12: as many as wait for reader and model together."""
_MIN_DEVICE_IMAGES = 4
_log = logging.getLogger("hoiclip")
_DISPLAY_MATRIX = struct.Struct("=9i")
_HELD_BYTES = 8 << 20


class FrameConverter:
    """Converts the frames of one stream to images. Use it from one thread."""

    def __init__(
        self,
        stream: VideoStream,
        max_pixels: int,
        *,
        is_image: bool,
        crop: Crop | None = None,
        device_images: DeviceImages | None = None,
    ) -> None:
        """Creates a converter.

        Args:
            stream: of the frames.
            max_pixels: per image.
            is_image: whether the container is an image file.
            crop: margins that the container hides, for frames of the size that it declares.
            device_images: makes images of frames that are on a GPU; None brings all to the host.
        """
        self._stream = stream
        self._crop, self._coded_px = crop, (stream.codec_context.width, stream.codec_context.height)
        self._device_images = device_images
        self._turn: tuple[int, Orientation] | None = None
        self._max_pixels = max_pixels
        codec = stream.codec_context.codec.canonical_name
        self._converter = RgbConverter(codec, is_image=is_image)
        self._keeps_planes = not is_image and codec not in _BORROWING_CODECS
        self._container_aspect = fraction(stream.sample_aspect_ratio)
        # The container takes precedence over the codec. Only where both agree may the codec change it along the way,
        # as broadcasters do between 4:3 and 16:9.
        codec_aspect = fraction(stream.codec_context.sample_aspect_ratio)
        self._follow_codec = codec_aspect is not None and codec_aspect == self._container_aspect

    def orientation(self, frame: VideoFrame) -> Orientation:
        """Orientation of a frame, read once per angle: PyAV keeps every frame alive whose side data was read."""
        angle_deg = frame.rotation
        if self._turn is None or self._turn[0] != angle_deg:
            self._turn = angle_deg, orientation_of(frame)
        return self._turn[1]

    def convert(self, frame: VideoFrame) -> FrameImage:
        """(H, W, 3) contiguous RGB; a frame that is upright, whole and of square pixels stays as it is if the model can
        read that, also on a GPU where that is wanted.

        Raises:
            SourceError: the image is bigger than max_pixels.
            av.FFmpegError: the pixel format cannot be converted.
        """
        aspect = self._aspect()
        size_px = square_size_px(frame.width, frame.height, aspect)
        check_size(*size_px, self._max_pixels)
        is_cropped = self._crop is not None and (frame.width, frame.height) == self._coded_px
        has_square_pixels = size_px == (frame.width, frame.height)
        is_whole = has_square_pixels and not is_cropped and self.orientation(frame) == Orientation()
        if self._device_images is not None and is_on_gpu(frame):
            image = self._device_images.take(frame, is_whole=is_whole)
            if image is not None:
                return image
        planes = host_planes(frame) if self._keeps_planes and is_whole else None
        if planes is not None:
            return DecodedImage(planes, (frame.height, frame.width), partial(self._converter.convert, frame, None))
        rgb = self._converter.convert(frame, aspect)
        if is_cropped:
            assert self._crop is not None
            rgb = np.ascontiguousarray(self._crop.apply(rgb, frame.width, frame.height))
        return self.orientation(frame).apply(rgb)

    def _aspect(self) -> Fraction | None:
        if self._follow_codec:
            return fraction(self._stream.codec_context.sample_aspect_ratio)
        return self._container_aspect


def host_planes(frame: VideoFrame) -> Yuv420 | None:
    """Planes of a frame, in the decoder's memory; None where preprocessing does not know its format or colours."""
    if frame.format.name not in _PLANAR or frame.width % 2 or frame.height % 2 or _matrix(frame) not in _PLANE_MATRICES:
        return None
    if any(plane.line_size < plane.width for plane in frame.planes):  # rows from the bottom up
        return None
    y, u, v = (
        np.ndarray((plane.height, plane.width), np.uint8, cast(bytes, plane), strides=(plane.line_size, 1))
        for plane in frame.planes
    )
    is_full = frame.color_range == _FULL_RANGE or frame.format.name == "yuvj420p"
    return Yuv420(y, u, v, _PLANE_MATRICES[cast(int, _matrix(frame))], is_full)


def is_on_gpu(frame: VideoFrame) -> bool:
    """Whether the decoder left it there. From PyAV 18 on; with older ones none stays there."""
    return getattr(frame, "sw_format", None) is not None


def pixel_format(frame: VideoFrame) -> str:
    """ffmpeg's name; of a frame on a GPU that of its pixels there."""
    return (frame.sw_format if is_on_gpu(frame) and frame.sw_format is not None else frame.format).name


class DeviceImages:
    """Images of one stream that stay on the GPU, a bounded number at a time. For one thread; the images are for any.

    ffmpeg copies every frame out of the decoder's few surfaces into memory of a pool that grows, on the default stream
    of the device. So any number may be held, but all of them cost memory: beyond the limit, and where a frame is
    not as the model's preprocessing takes it, it is converted on the host, which is reported once.
    """

    def __init__(self, name: str, codec: str) -> None:
        """
        Args:
            name: of the source, printable and without credentials.
            codec: ffmpeg's name.
        """
        self._name = name
        self._alive: weakref.WeakSet[DeviceImage] = weakref.WeakSet()
        self._converter = RgbConverter(codec, is_image=False)
        self._reported: set[str] = set()

    @property
    def alive(self) -> int:
        """Images that are still referred to."""
        return len(self._alive)

    def take(self, frame: VideoFrame, *, is_whole: bool) -> DeviceImage | None:
        """The image of a frame on a GPU; None where it has to be converted on the host.

        Args:
            is_whole: whether it has square pixels, upright, none of them hidden.
        """
        from hoiclip_kernels.preprocess.nv12 import Nv12

        reason = self._reason_for_host(frame, is_whole)
        if reason:
            if reason not in self._reported:
                _log.warning("%s: frames are copied from the GPU before inference: %s", self._name, reason)
                self._reported.add(reason)
            return None
        luma, chroma = frame.planes
        matrix = _PLANE_MATRICES[cast(int, _matrix(frame))]
        planes = Nv12(cast(U8, luma), cast(U8, chroma), matrix, frame.color_range == _FULL_RANGE)
        image = DeviceImage(planes, (frame.height, frame.width), partial(self._download, frame))
        self._alive.add(image)
        return image

    def _reason_for_host(self, frame: VideoFrame, is_whole: bool) -> str:
        pixels = pixel_format(frame)
        if not is_whole:
            return "they are turned, cropped or without square pixels"
        if pixels != "nv12":
            return f"their pixels are {pixels}, not nv12"
        if frame.width % 2 or frame.height % 2:  # PyAV leaves out the last column or row of the colours
            return f"{frame.width}x{frame.height} px is not even"
        if _matrix(frame) not in _PLANE_MATRICES:
            return "their colour matrix is not BT.601, BT.709 or BT.2020"
        if self.alive >= max(_MIN_DEVICE_IMAGES, _DEVICE_BYTES * 2 // (3 * frame.width * frame.height)):
            return f"{self.alive} of them are held there already"
        return ""

    def _download(self, frame: VideoFrame) -> NDArray[np.uint8]:
        try:
            return self._converter.convert(frame, None)
        except av.FFmpegError as error:
            raise SourceError(
                f"expected a decoded frame of {self._name} on the GPU, found that it cannot be copied from there "
                f"({type(error).__name__}); use --hwaccel none"
            ) from None


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Raises SourceError where an image has too many pixels."""
    if width_px * height_px > max_pixels:
        raise SourceError(
            f"expected images of at most {max_pixels} pixels, found {width_px}x{height_px}; scale the file down"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """One of the eight orientations of an image on a pixel grid: transpose first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def clockwise_deg(self) -> int:
        """Clockwise rotation; of a mirrored image, the rotation besides the mirror."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The upright image, contiguous; the argument itself where it is upright already."""
        turned = np.asarray(cv2.transpose(rgb), np.uint8) if self.transpose else rgb
        if not (self.flip_x or self.flip_y):
            return turned
        code = -1 if self.flip_x and self.flip_y else (1 if self.flip_x else 0)
        return np.asarray(cv2.flip(turned, code), np.uint8)


def orientation_from_matrix(matrix: bytes) -> Orientation:
    """Reads ffmpeg's display matrix: x' = a x + c y and y' = b x + d y, y pointing down, order a b u c d v x y w."""
    if len(matrix) != _DISPLAY_MATRIX.size:
        return Orientation()
    a, b, _, c, d, *_ = _DISPLAY_MATRIX.unpack(matrix)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(flip_x=a < 0, flip_y=d < 0)
    return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Orientation that the frame declares; upright where it declares none."""
    _held.add(frame)
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18.1 cannot list side data of a kind it has no name for, such as EXIF; the angle is still available.
        return _turned(frame.rotation)
    return Orientation() if data is None else orientation_from_matrix(bytes(cast(Buffer, data)))


def clockwise_deg(exif: int) -> int:
    """Clockwise rotation of an EXIF orientation (1 to 8); of a mirrored one, besides the mirror."""
    return _EXIF[exif].clockwise_deg


class _HeldFrames:
    """Frees frames whose side data was read, before they are many.

    PyAV 18.1 ties such a frame and its side data to each other, so that only a full collection frees its image.
    Python does not see the size of the image and delays that for hours. It happens once for each opened source.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0

    def add(self, frame: av.VideoFrame) -> None:
        with self._lock:
            self._bytes += sum(plane.buffer_size for plane in frame.planes)
            full = self._bytes > _HELD_BYTES
            if full:
                self._bytes = 0
        if full:
            gc.collect()


_held = _HeldFrames()


def _turned(counterclockwise_deg: int) -> Orientation:
    quarter_turns = round(-counterclockwise_deg / 90) % 4
    return (_EXIF[1], _EXIF[6], _EXIF[3], _EXIF[8])[quarter_turns]


_EXIF = {
    1: Orientation(),
    2: Orientation(flip_x=True),
    3: Orientation(flip_x=True, flip_y=True),
    4: Orientation(flip_y=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, flip_x=True),
    7: Orientation(transpose=True, flip_x=True, flip_y=True),
    8: Orientation(transpose=True, flip_y=True),
}


def default_color_matrix(height_px: int) -> Colorspace:
    """Colour matrix that players assume for video without a label."""
    return Colorspace.ITU709 if height_px >= HD_HEIGHT_PX else Colorspace.ITU601


def square_size_px(width_px: int, height_px: int, aspect: Fraction | None) -> tuple[int, int]:
    """Size with square pixels. The image only ever grows, so that no detail is lost."""
    if aspect is None or aspect == 1 or not Fraction(1, MAX_SANE_ASPECT) <= aspect <= MAX_SANE_ASPECT:
        return width_px, height_px
    if aspect > 1:
        return round(width_px * aspect), height_px
    return width_px, round(height_px / aspect)


class RgbConverter:
    """Converts frames of one stream; keeps the scaler between calls. May be called from any thread."""

    def __init__(self, codec: str = "png", *, is_image: bool = True) -> None:
        """Creates a converter.

        Args:
            codec: ffmpeg's name of the codec of the frames.
            is_image: whether they come from an image file.
        """
        self._reformatter = VideoReformatter()
        self._lock = threading.Lock()
        self._transparent = codec in TRANSPARENT_CODECS
        self._padded = not is_image and codec not in _ANIMATIONS

    def convert(self, frame: av.VideoFrame, aspect: Fraction | None) -> NDArray[np.uint8]:
        """(H, W, 3) RGB with square pixels; transparent areas of images and animations become black.

        Raises:
            av.FFmpegError: the pixel format cannot be converted.
        """
        width_px, height_px = square_size_px(frame.width, frame.height, aspect)
        transparent = self._transparent and _has_alpha(frame)
        # Hardly any decoder sets it, and the default of swscale is BT.601 even for 4K.
        with self._lock:
            rgb = self._reformatter.reformat(
                frame,
                width=width_px,
                height=height_px,
                format="rgba" if transparent else "rgb24",
                src_colorspace=_matrix(frame),
            )
        pixels = np.asarray(rgb.to_ndarray(), np.uint8)
        if transparent and self._padded and not pixels[..., 3].any():
            return np.ascontiguousarray(pixels[..., :3])
        return np.ascontiguousarray(_on_black(pixels) if transparent else pixels)


def _matrix(frame: av.VideoFrame) -> int | None:
    if frame.colorspace == _AVCOL_RGB or frame.format.is_rgb:
        return None
    return _MATRICES.get(frame.colorspace, default_color_matrix(frame.height))


def _has_alpha(frame: av.VideoFrame) -> bool:
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def _on_black(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return rgba[..., :3]
    return ((rgba[..., :3].astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
