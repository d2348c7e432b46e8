"""Containers of local files and pipes: opened with safe limits, with a decoder and the video stream to read.

A file can make us open no other files, no network connections and no giant images. Errors name the remedy. Network
streams are opened by connection.py with the same decoder choice.
"""

from __future__ import annotations

import logging
import os
import stat
from fractions import Fraction
from functools import cache
from numbers import Rational
from pathlib import Path
from typing import IO, Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from hoiclip.core.errors import SourceError
from hoiclip_engine.sources.base import Hwaccel
from hoiclip_engine.sources.uri import is_url, redact

# ffmpeg's names of containers that hold their own data. Left out on purpose: those that name other files or hosts (hls,
# dash, concat, sdp, rtsp, imf, avisynth) and devices (lavfi, v4l2).
FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,gif,apng,ogg,asf,mxf,nut,dv,rm,wtv,ivf,yuv4mpegpipe,"
    "h261,h263,h264,hevc,vvc,av1,obu,vc1,mjpeg,mjpeg_2000,"
    "image2,jpeg_pipe,jpegls_pipe,jpegxl_pipe,j2k_pipe,png_pipe,webp_pipe,webp,bmp_pipe,tiff_pipe,ppm_pipe,pgm_pipe,pam_pipe,"
    "mp3,wav,aac,ac3,eac3,flac,aiff,amr,caf,opus"  # to say "only sound" rather than "not a video"
)
_log = logging.getLogger("hoiclip")
_HEAD_BYTES = 32
_WEBP_ANIMATED = 0x02
_PLAYLISTS = (b"#EXTM3U", b"ffconcat version", b"[playlist]")
_MAX_BOXES = 64
_ATTACHED = Disposition.attached_pic | Disposition.timed_thumbnails
_MAX_COUNTED_PACKETS = 250
"""Limit for the busiest stream: ten seconds at 25 frames a second. A stream with one frame until then is a still."""
SEEKABLE_FORMATS = ("mov", "matroska")
"""Containers in which seeking can be trusted; in MPEG-TS and raw streams it is a guess."""


def resolve_regular_file(source: str | Path) -> Path:
    """Absolute path of an existing file that is not empty.

    Raises:
        SourceError: a URL, a device, a directory, nothing at all, or an empty file.
    """
    text = os.fspath(source)
    name = redact(text)
    if "\0" in text:
        raise SourceError(f"expected the path of a video file, found {name} with a zero byte in it; check the name")
    path = Path(text)
    try:
        found = path.stat()
    except OSError as error:
        raise SourceError(_missing_file_message(text, error)) from None
    if stat.S_ISDIR(found.st_mode):
        raise SourceError(f"expected a video file, found the directory {name}; name one file in it")
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(f"expected a video file, found the device or pipe {name}; only files are read here")
    if found.st_size == 0:
        raise SourceError(f"expected a video file, found {name} empty; copy or record it again")
    return path.absolute()


def open_container(
    file: Path | IO[bytes], max_pixels: int, hwaccel: Hwaccel = "none", *, device_frames: bool = False
) -> InputContainer:
    """Opens a file or pipe with whitelists of protocols and formats.

    Args:
        file: an open pipe, or an absolute path, so that "concat:a.mp4" in a name is not taken for a protocol.
        max_pixels: per image.
        hwaccel: choice of the decoder.
        device_frames: as of SourceConfig.

    Raises:
        SourceError: not a video or image file, one damaged beyond opening, or no such decoder.
    """
    target, name = (str(file), redact(str(file))) if isinstance(file, Path) else (file, "standard input")
    if isinstance(file, Path):
        _refuse_unsupported(file, name)
    options = {
        "protocol_whitelist": "file" if isinstance(target, str) else "pipe",
        "format_whitelist": FORMATS,
        "pattern_type": "none",  # "clip%03d.jpg" is a name here, not a pattern that stands for other files
        "max_pixels": str(max_pixels),
    }
    try:
        return open_with_decoder(hwaccel, target, name, options=options, device_frames=device_frames)
    except av.FFmpegError as error:
        if isinstance(file, Path) and _has_no_index(file):
            raise SourceError(
                f"expected a whole video file, found {name} without the index at its end: it was not finished or not "
                "copied whole; copy or record it again"
            ) from None
        # ffmpeg's own text may hold more than a reader should see: only the kind of error is reported.
        raise SourceError(
            f"expected a video or image file, found something else or a damaged one in {name} "
            f"({type(error).__name__}); try to play it, or convert it to MP4"
        ) from None


def open_with_decoder(
    choice: Hwaccel,
    target: str | IO[bytes],
    name: str,
    *,
    options: dict[str, str],
    device_frames: bool = False,
    **arguments: Any,
) -> InputContainer:
    """Opens an input with av.open and the chosen decoder.

    Args:
        choice: the user's.
        target: for ffmpeg; may hold a password.
        name: the same without credentials, to print.
        options: of the container and its protocols.
        device_frames: as of SourceConfig.
        arguments: of av.open.

    Raises:
        SourceError: cuda was requested and is missing, or cannot decode this.
        av.FFmpegError: ffmpeg's; its text may hold the password.
    """
    decoder = hardware_accelerator(choice, device_frames=device_frames)
    try:
        container = av.open(target, "r", options=options, hwaccel=decoder, **READS_ANY_METADATA, **arguments)
    except RuntimeError:  # PyAV's error for a codec that a decoder without fallback does not know
        if decoder is None:
            raise
        raise SourceError(f"expected a codec that CUDA decodes in {name}, found another; use --hwaccel auto") from None
    assert isinstance(container, InputContainer)
    return container


def hardware_accelerator(choice: Hwaccel, *, device_frames: bool = False) -> HWAccel | None:
    """Accelerator for av.open; None for decoding in software.

    Args:
        device_frames: leaves frames on the GPU, where that can be done.

    Raises:
        SourceError: cuda was requested and is missing.
    """
    if choice == "none":
        return None
    if cuda_decoding_available():
        owned = _device_accelerator(choice == "auto") if device_frames else None
        return owned or HWAccel("cuda", allow_software_fallback=choice == "auto")
    if choice == "auto":
        return None
    raise SourceError(
        "expected a CUDA device for --hwaccel cuda, found none that ffmpeg can open; "
        "install NVIDIA's driver, or use --hwaccel auto or none"
    )


def _device_accelerator(allow_software_fallback: bool) -> HWAccel | None:
    """Accelerator whose frames stay on the GPU; None, with a warning, where there is none.

    It decodes in torch's context, whose kernels can read no other. ffmpeg's own way to that context (primary_ctx, which
    PyAV takes by default) refuses one that torch has made before, with flags of its own.
    """
    if not hasattr(VideoFrame, "sw_format"):  # PyAV 17, whose frames on a GPU do not say what they hold
        _warn_once("decoded frames are copied to the host: with PyAV 18 they could stay on the GPU")
        return None
    try:
        import torch

        torch.zeros(1, device="cuda:0")  # so that torch's context is that of this thread
        options: dict[str, object] = {"primary_ctx": "0", "current_ctx": "1"}
        accelerator = HWAccel(
            "cuda", allow_software_fallback=allow_software_fallback, options=options, is_hw_owned=True
        )
        accelerator.create(av.Codec("h264", "r"))
    except Exception as error:  # of torch without CUDA, of the driver, or of a PyAV that knows no such frames
        _warn_once(f"decoded frames are copied to the host, as they cannot stay on the GPU ({type(error).__name__})")
        return None
    return accelerator


@cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)


@cache
def cuda_decoding_available() -> bool:
    """Whether ffmpeg can open a CUDA device. That it was built with CUDA says nothing about the machine."""
    try:
        HWAccel("cuda").create(av.Codec("h264", "r"))
    except (av.FFmpegError, NotImplementedError, ValueError):
        return False
    return True


def is_photo(container: InputContainer) -> bool:
    """Whether it is read as an image file; a photo in other containers is recognised by its frames."""
    return container.format.name.endswith(("image2", "_pipe"))


def choose_stream(container: InputContainer, name: str, max_pixels: int) -> tuple[VideoStream, tuple[str, ...]]:
    """Video stream that players show, and a note where there were several.

    Covers, thumbnails and still items come last. A stream of several frames precedes a still one, a default one
    precedes others; of equals the first is taken.

    Args:
        container: open, at its start, where it stays.
        name: printable and without credentials.
        max_pixels: per image.

    Raises:
        SourceError: no stream that is an image or video by itself, or no decoder for it.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _ATTACHED]
    if not streams:
        names = {"video": "a cover image"}
        kinds = sorted({names.get(stream.type, stream.type) for stream in container.streams})
        raise SourceError(f"expected video in {name}, found {' and '.join(kinds) or 'no streams'}; choose another file")
    whole = [stream for stream in streams if not stream.disposition & Disposition.dependent]
    if not whole:
        raise SourceError(
            f"expected an image in one piece in {name}, found a grid of {len(streams)} tiles, which is not supported; "
            "convert it to JPEG or PNG"
        )
    known = [stream for stream in whole if stream.codec_context is not None]
    if not known:
        raise SourceError(f"expected a codec that ffmpeg decodes in {name}, found an unknown one; convert it to H.264")
    if len(known) == 1:
        return known[0], ()
    still = _still_streams(container, known, max_pixels)
    chosen = min(known, key=lambda stream: (stream.index in still, not stream.disposition & Disposition.default))
    return chosen, (_choice_note(chosen, known, still),)


def _missing_file_message(text: str, error: OSError) -> str:
    name = redact(text)
    if is_url(text) or text == "-" or text.isdigit() or text.startswith("v4l2:"):
        return f"expected a file, found {name}, a stream or device; only files are read here: record it to one"
    if isinstance(error, PermissionError):
        return f"may not read {name}; give yourself the right to, or copy the file"
    return f"expected a video file, found nothing at {name}; check the path"


def _refuse_unsupported(file: Path, name: str) -> None:
    """Raises SourceError for intact files that ffmpeg would call damaged."""
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
    except OSError:
        return  # ffmpeg reports it
    if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & _WEBP_ANIMATED:
        raise SourceError(f"expected a video or image, found an animated WebP in {name}; convert it to GIF or MP4")
    if head.startswith(_PLAYLISTS):
        raise SourceError(f"expected a video or image file, found a playlist in {name}; name the files in it")


def _has_no_index(file: Path) -> bool:
    """Whether an MP4 lacks its moov box: a recording or transfer that was interrupted."""
    try:
        with file.open("rb") as opened:
            size, at, kinds = opened.seek(0, os.SEEK_END), 0, set[bytes]()
            while at + 8 <= size and len(kinds) < _MAX_BOXES:
                opened.seek(at)
                head = opened.read(16)
                length = int.from_bytes(head[:4], "big")
                length = int.from_bytes(head[8:], "big") if length == 1 else length
                kinds.add(head[4:8])
                if length < 8:
                    break
                at += length
    except OSError:
        return False
    return b"ftyp" in kinds and not kinds & {b"moov", b"meta"}


def _choice_note(chosen: VideoStream, streams: list[VideoStream], still: set[int]) -> str:
    context = chosen.codec_context
    why = "the first"
    if chosen.index not in still and still:
        why = "not a still image"
    elif chosen.disposition & Disposition.default:
        why = "the default one"
    return (
        f"holds {len(streams)} images or video streams; number {streams.index(chosen) + 1} is read "
        f"({context.codec.canonical_name}, {context.width}x{context.height}, {why})"
    )


def _still_streams(container: InputContainer, streams: list[VideoStream], max_pixels: int) -> set[int]:
    """Indices of streams with a single frame, by the container or by its first packets."""
    frames = {stream.index: stream.frames for stream in streams}
    if not all(frames.values()) and container.file is None and Path(container.name).is_file():
        frames = _count_packets(Path(container.name), list(frames), max_pixels)
    return {index for index, count in frames.items() if count == 1}


def _count_packets(file: Path, indices: list[int], max_pixels: int) -> dict[int, int]:
    """Packets of each stream near the start. The file is opened again: not every container can be rewound."""
    counts = dict.fromkeys(indices, 0)
    with open_container(file, max_pixels) as container:
        try:
            for packet in container.demux([container.streams[index] for index in indices]):
                counts[packet.stream.index] += packet.size > 0
                if min(counts.values()) > 1 or max(counts.values()) >= _MAX_COUNTED_PACKETS:
                    break
        except av.FFmpegError:
            pass  # what was counted until then decides
    return counts


READS_ANY_METADATA: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Arguments of av.open that tolerate metadata that is not UTF-8. From 19 on it always does, without an argument."""


def fraction(value: Rational | None) -> Fraction | None:
    """Converts a rate, an aspect or a time base; None where unknown: None up to PyAV 18, from 19 on zero or x/0."""
    return Fraction(int(value.numerator), int(value.denominator)) if value else None
