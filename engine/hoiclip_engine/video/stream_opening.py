"""Opens streams and cameras: who may be talked to, how long for, and what to say when it fails.

One attempt per call; trying again is connector.py. What a server sends cannot make us open files of this machine, nor
speak another protocol than its address asked for.
"""

from __future__ import annotations

import av
from av.container import InputContainer

from hoiclip_engine.video.address import Address
from hoiclip_engine.video.hardware import open_decoding_by
from hoiclip_engine.video.opening import FORMATS
from hoiclip_engine.video.source_config import SourceConfig

# ffmpeg checks these for every connection that a stream leads to: redirects, and what a playlist names.
_WEB = "http,https,tcp,tls,httpproxy,crypto"
PROTOCOLS = {
    "rtsp": "tcp,udp,rtp",
    "rtsps": "tcp,tls,udp,rtp,srtp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "http": _WEB,
    "https": _WEB,
    "udp": "udp",
    "tcp": "tcp",
}
_WEB_FORMATS = FORMATS + ",hls,mpjpeg"
STREAM_FORMATS = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "rtmp": "flv,live_flv",
    "rtmps": "flv,live_flv",
    "http": _WEB_FORMATS,
    "https": _WEB_FORMATS,
    "udp": FORMATS,
    "tcp": FORMATS,
}
PROBE_S = 1.0
"""How much of a stream is looked at before it is decoded; ffmpeg's five seconds would pass after every reconnect."""
OPEN_S = 10.0
"""For one attempt. More than a silence may last: a busy machine needs seconds although every step is answered, and
giving that up would only start all over again."""
HLS_TIMEOUT_S = 30.0
"""A live playlist says nothing while a segment is being filmed; those last ten seconds and more."""


def open_stream(address: Address, config: SourceConfig, within_s: float = OPEN_S) -> InputContainer:
    """Opens a stream or camera once.

    Args:
        address: of kind stream or webcam.
        config: how it is reached.
        within_s: for all of it, from the name of the host to the first packets.

    Raises:
        SourceError: the decoder asked for is not there.
        av.FFmpegError: ffmpeg's. Its text may hold the password: print reason_of() instead.
    """
    timeout_s = read_timeout_s(address, config)
    if address.kind == "webcam":
        options, form = {"max_pixels": str(config.max_pixels)}, "v4l2"
    else:
        options, form = stream_options(address, config), None
    return open_decoding_by(
        config.hwaccel,
        address.location,
        address.name,
        options=options,
        format=form,
        timeout=(within_s, timeout_s),
    )


def read_timeout_s(address: Address, config: SourceConfig) -> float:
    """Seconds without a packet after which the stream is lost."""
    is_hls = address.scheme in ("http", "https") and ".m3u8" in address.location
    return max(config.timeout_s, HLS_TIMEOUT_S) if is_hls else config.timeout_s


def stream_options(address: Address, config: SourceConfig) -> dict[str, str]:
    """Options of ffmpeg's demuxers and protocols for this address.

    Not among them: fflags=nobuffer. It throws away what was read while probing, which holds the key frame, so that
    the first picture comes up to a group of pictures later; and what is buffered there is decoded at once anyway.
    """
    scheme = address.scheme
    options = {
        "protocol_whitelist": PROTOCOLS[scheme],
        "format_whitelist": STREAM_FORMATS[scheme],
        "pattern_type": "none",
        "max_pixels": str(config.max_pixels),
        "analyzeduration": str(int(PROBE_S * 1e6)),
        "fpsprobesize": "0",  # the rate is not needed: frames have times
    }
    microseconds = str(int(config.timeout_s * 1e6))
    match scheme:
        case "rtsp" | "rtsps":
            return options | {
                "rtsp_transport": config.transport,
                "allowed_media_types": "video",
                "timeout": microseconds,
            }
        case "http" | "https":
            # A file that breaks off is asked for from there on. A live stream is not: its decoder has to start anew.
            return options | {"reconnect": "1", "reconnect_delay_max": "2", "rw_timeout": microseconds}
        case "udp":
            return options | {"overrun_nonfatal": "1", "fifo_size": "50000"}  # of 188 bytes: 9 MB
        case _:
            return options


def is_finite(container: InputContainer) -> bool:
    """Whether what an HTTP server sends has an end: a file with a length, or a playlist that says it is complete."""
    if container.format.name == "hls":
        return bool(container.duration)
    return (container.size or 0) > 0 or bool(container.duration)


def is_hopeless(error: Exception) -> bool:
    """Whether a first connection that failed like this need not be tried again; locks out nobody by wrong passwords."""
    return isinstance(
        error, (av.HTTPUnauthorizedError, av.HTTPForbiddenError, av.ProtocolNotFoundError, av.ArgumentError)
    )


def reason_of(error: BaseException | None) -> str:
    """What went wrong in words of our own: ffmpeg's hold the address with its password."""
    for kind, words in _REASONS:
        if isinstance(error, kind):
            return words
    return "the stream ended" if error is None else f"ffmpeg failed ({type(error).__name__})"


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (av.HTTPUnauthorizedError, "user or password refused"),
    (av.HTTPForbiddenError, "access forbidden"),
    (av.HTTPNotFoundError, "the server has nothing at this address"),
    (av.HTTPError, "the server answered with an error"),
    (av.ConnectionRefusedError, "connection refused"),
    (ConnectionError, "connection broken"),
    (av.ExitError, "no data in time"),
    (TimeoutError, "no data in time"),
    (av.EOFError, "the stream ended"),
    (av.InvalidDataError, "no answer in time, or nothing that is video"),
    (av.FileNotFoundError, "no such device"),
    (PermissionError, "not permitted"),
    (OSError, "connection failed or broken, host unknown, or nothing that is video"),
)
