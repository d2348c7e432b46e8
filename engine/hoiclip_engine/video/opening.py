"""Opens a local file or pipe so that it can hurt nobody: no other files, no network, no giant pictures.

Everything that can be wrong with a path is told here, in words that name what to do. Streams: stream_opening.py.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

import av
from av.container import InputContainer

from hoiclip.errors import SourceError
from hoiclip_engine.video.hardware import open_decoding_by
from hoiclip_engine.video.redact import is_url, redact
from hoiclip_engine.video.source_config import Hwaccel

# ffmpeg's names of containers that hold their own data. Left out on purpose: whatever names other files or hosts (hls,
# dash, concat, sdp, rtsp, imf, avisynth) and devices (lavfi, v4l2).
FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,gif,apng,ogg,asf,mxf,nut,dv,rm,wtv,ivf,yuv4mpegpipe,"
    "h261,h263,h264,hevc,vvc,av1,obu,vc1,mjpeg,mjpeg_2000,"
    "image2,jpeg_pipe,jpegls_pipe,jpegxl_pipe,j2k_pipe,png_pipe,webp_pipe,webp,bmp_pipe,tiff_pipe,ppm_pipe,pgm_pipe,pam_pipe,"
    "mp3,wav,aac,ac3,eac3,flac,aiff,amr,caf,opus"  # to say "only sound" rather than "not a video"
)
_HEAD_BYTES = 32
_WEBP_ANIMATED = 0x02
_PLAYLISTS = (b"#EXTM3U", b"ffconcat version", b"[playlist]")
_MOST_BOXES = 64


def regular_file(source: str | Path) -> Path:
    """The absolute path of a file that is there and holds something.

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
        raise SourceError(_why_not_there(text, error)) from None
    if stat.S_ISDIR(found.st_mode):
        raise SourceError(f"expected a video file, found the directory {name}; name one file in it")
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(f"expected a video file, found the device or pipe {name}; only files are read here")
    if found.st_size == 0:
        raise SourceError(f"expected a video file, found {name} empty; copy or record it again")
    return path.absolute()


def _why_not_there(text: str, error: OSError) -> str:
    name = redact(text)
    if is_url(text) or text == "-" or text.isdigit() or text.startswith("v4l2:"):
        return f"expected a file, found {name}, a stream or device; only files are read here: record it to one"
    if isinstance(error, PermissionError):
        return f"may not read {name}; give yourself the right to, or copy the file"
    return f"expected a video file, found nothing at {name}; check the path"


def open_container(file: Path | IO[bytes], max_pixels: int, hwaccel: Hwaccel = "none") -> InputContainer:
    """Opens with whitelists.

    Args:
        file: an open pipe, or an absolute path, so that "concat:a.mp4" in a name is not taken for a protocol.
        max_pixels: per picture.
        hwaccel: what decodes.

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
        return open_decoding_by(hwaccel, target, name, options=options)
    except av.FFmpegError as error:
        if isinstance(file, Path) and _has_no_index(file):
            raise SourceError(
                f"expected a whole video file, found {name} without the index at its end: it was not finished or not "
                "copied whole; copy or record it again"
            ) from None
        # ffmpeg's own text may hold more than a reader should see: only the kind of error is told.
        raise SourceError(
            f"expected a video or image file, found something else or a damaged one in {name} "
            f"({type(error).__name__}); try to play it, or convert it to MP4"
        ) from None


def _refuse_unsupported(file: Path, name: str) -> None:
    """Raises SourceError for what ffmpeg would call damaged and which is not."""
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
    except OSError:
        return  # ffmpeg says it
    if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & _WEBP_ANIMATED:
        raise SourceError(f"expected a video or image, found an animated WebP in {name}; convert it to GIF or MP4")
    if head.startswith(_PLAYLISTS):
        raise SourceError(f"expected a video or image file, found a playlist in {name}; name the files in it")


def _has_no_index(file: Path) -> bool:
    """Whether an MP4 lacks its moov box: a recording or transfer that was cut off."""
    try:
        with file.open("rb") as opened:
            size, at, kinds = opened.seek(0, os.SEEK_END), 0, set[bytes]()
            while at + 8 <= size and len(kinds) < _MOST_BOXES:
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
