"""Connections to streams and cameras: limits on protocols and hosts, time limits, retries, and reasons of failures.

A server cannot make us open files of this machine, nor speak another protocol than that of its address. ffmpeg cannot
be interrupted from outside, it only gives up by its own timeouts: calls that may block run in a background thread, so
that the caller can give up at once. An abandoned thread ends by itself and frees its resources.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Generic, TypeVar

import av
from av.container import InputContainer

from hoiclip.core.errors import SourceError
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.container import FORMATS, open_with_decoder
from hoiclip_engine.sources.uri import SourceAddress

# ffmpeg checks these for every connection that a stream leads to: redirects, and entries of playlists.
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
"""Length of a stream that is probed before decoding; ffmpeg's five seconds would pass after every reconnect."""
OPEN_S = 10.0
"""Time limit of one attempt. Longer than the read timeout: a busy machine needs seconds although every step is
answered, and giving up would only start over."""
HLS_TIMEOUT_S = 30.0
"""A live playlist delivers nothing while a segment is being recorded; those last ten seconds and more."""
FIRST_RETRY_DELAY_S = 0.1
"""Delay after the second failure; after the first one there is none, since most losses are short."""
MAX_RETRY_DELAY_S = 0.5
"""Short enough to be connected within two seconds of a server's return, however long it was down."""
MAX_QUEUED = 2
"""Items; bounds memory."""
CLOSE_WAIT_S = 0.2
"""Time that closing waits for a background thread; it ends by itself later."""
_POLL_S = 0.1
"""Interval at which waiting threads check whether they were stopped; items wake them at once."""
T = TypeVar("T")


def open_stream(address: SourceAddress, config: SourceConfig, within_s: float = OPEN_S) -> InputContainer:
    """Opens a stream or camera once.

    Args:
        address: of kind stream or webcam.
        config: transport, timeout, decoder and limits.
        within_s: time limit for everything, from resolving the host name to the first packets.

    Raises:
        SourceError: the requested decoder is missing.
        av.FFmpegError: ffmpeg's. Its text may hold the password: print reason_of() instead.
    """
    timeout_s = read_timeout_s(address, config)
    if address.kind == "webcam":
        options, form = {"max_pixels": str(config.max_pixels)}, "v4l2"
    else:
        options, form = stream_options(address, config), None
    return open_with_decoder(
        config.hwaccel,
        address.location,
        address.name,
        options=options,
        device_frames=config.device_frames,
        format=form,
        timeout=(within_s, timeout_s),
    )


def read_timeout_s(address: SourceAddress, config: SourceConfig) -> float:
    """Seconds without a packet after which the stream is lost."""
    is_hls = address.scheme in ("http", "https") and ".m3u8" in address.location
    return max(config.timeout_s, HLS_TIMEOUT_S) if is_hls else config.timeout_s


def stream_options(address: SourceAddress, config: SourceConfig) -> dict[str, str]:
    """Options of ffmpeg's demuxers and protocols for this address.

    Not among them: fflags=nobuffer. It discards the packets read while probing, which hold the keyframe, so that the
    first image comes up to a GOP later; and buffered packets are decoded at once anyway.
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
            # An interrupted file transfer resumes. A live stream does not: its decoder has to start anew.
            return options | {"reconnect": "1", "reconnect_delay_max": "2", "rw_timeout": microseconds}
        case "udp":
            return options | {"overrun_nonfatal": "1", "fifo_size": "50000"}  # of 188 bytes: 9 MB
        case _:
            return options


def is_permanent(error: Exception) -> bool:
    """Whether retrying is pointless after this error; repeating a wrong password could lock the account."""
    return isinstance(
        error, (av.HTTPUnauthorizedError, av.HTTPForbiddenError, av.ProtocolNotFoundError, av.ArgumentError)
    )


def failure_reason(error: BaseException | None) -> str:
    """Reason in words of our own: messages of ffmpeg hold the address with its password."""
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


def retry_delay_s(failures: int, rng: random.Random) -> float:
    """Delay after so many consecutive failures: doubling up to the maximum, up to half of it random."""
    if failures < 2:
        return 0.0
    full_s = min(MAX_RETRY_DELAY_S, FIRST_RETRY_DELAY_S * 2.0 ** min(failures - 2, 30))
    return full_s * rng.uniform(0.5, 1.0)


class Connector:
    """Connects to one address, with growing delays between failures, never in step with other cameras.

    Use it from one thread; only `stopped` may be set from others. The caller reports whether a connection delivered.
    """

    def __init__(self, address: SourceAddress, config: SourceConfig, rng: random.Random | None = None) -> None:
        self.address, self.config = address, config
        self.stopped = threading.Event()
        """Ends all waiting, here and in readers of the connection."""
        self._rng = rng or random.Random()
        self._failures = 0
        self._reason = ""

    def connect(self, give_up_at_s: float, *, first: bool = False) -> InputContainer | None:
        """Opens the stream, retrying until it succeeds.

        Args:
            give_up_at_s: by time.monotonic().
            first: permanent errors end it at once.

        Returns:
            An open container, or None once stopped.

        Raises:
            SourceError: no connection until then; the message has the reason of the last failure.
        """
        while not self.stopped.wait(max(0.0, min(self._retry_delay_s(), give_up_at_s - time.monotonic()))):
            if time.monotonic() >= give_up_at_s and self._failures:
                break
            try:
                return self._attempt(give_up_at_s)
            except ReadTimeout:
                # Our time is over, not ffmpeg's: the reason of an earlier failure says more.
                self.failed(self._reason if self._failures else failure_reason(TimeoutError()))
            except av.FFmpegError as error:
                self.failed(failure_reason(error))
                if first and is_permanent(error):
                    break
        if self.stopped.is_set():
            return None
        name = self.address.name
        raise SourceError(f"expected video from {name}, found none: {self._reason}; check address, network and server")

    def failed(self, reason: str) -> None:
        """Records a failure; the next delay is longer."""
        self._failures += 1
        self._reason = reason

    def succeeded(self) -> None:
        """Records a received image; after the next loss the first retry is immediate."""
        self._failures = 0

    def _retry_delay_s(self) -> float:
        return retry_delay_s(self._failures, self._rng)

    def _attempt(self, give_up_at_s: float) -> InputContainer | None:
        remaining_s = max(0.0, give_up_at_s - time.monotonic())

        def open_once(_abandoned: threading.Event) -> Generator[InputContainer, None, None]:
            yield open_stream(self.address, self.config, min(OPEN_S, remaining_s))

        attempt = BackgroundIterator(open_once, self.stopped)
        try:
            return attempt.get(remaining_s)
        finally:
            attempt.abandon()


class ReadTimeout(Exception):
    """No item arrived in time."""


class BackgroundIterator(Generic[T]):
    """Runs a generator in a daemon thread and hands out its items."""

    def __init__(self, make: Callable[[threading.Event], Generator[T, None, None]], stopped: threading.Event) -> None:
        """Starts the thread.

        Args:
            make: the generator; its argument is an event that is set once its items are no longer needed.
            stopped: event of the owner that ends all waiting.
        """
        self.keeps_all = True
        """False: the oldest items are dropped when the queue is full, instead of waiting for a reader."""
        self._stopped = stopped
        self._abandoned = threading.Event()
        self._items: queue.Queue[T | _End] = queue.Queue(MAX_QUEUED)
        self._thread = threading.Thread(target=self._run, args=(make,), name="hoiclip-source", daemon=True)
        self._thread.start()

    def get(self, timeout_s: float = float("inf")) -> T | None:
        """The next item; None at the end, or once the owner has stopped.

        Raises:
            ReadTimeout: no item arrived within timeout_s.
            BaseException: the error that ended the generator.
        """
        until_s = time.monotonic() + timeout_s
        while not self._is_cancelled:
            try:
                item = self._items.get(timeout=min(_POLL_S, max(0.0, until_s - time.monotonic())))
            except queue.Empty:
                if time.monotonic() >= until_s:
                    raise ReadTimeout from None
                continue
            if not isinstance(item, _End):
                return item
            self._abandoned.set()
            if item.error is not None:
                raise item.error
        return None

    def abandon(self, wait_s: float = 0.0) -> None:
        """Signals the thread to end, and waits so long for that; may be called twice."""
        self._abandoned.set()
        self._thread.join(wait_s)

    @property
    def _is_cancelled(self) -> bool:
        return self._stopped.is_set() or self._abandoned.is_set()

    def _run(self, make: Callable[[threading.Event], Generator[T, None, None]]) -> None:
        error: BaseException | None = None
        items = make(self._abandoned)
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as caught:
            error = caught
        finally:
            items.close()
        self._put(_End(error))

    def _put(self, item: T | _End) -> bool:
        while not self._is_cancelled:
            try:
                self._items.put(item, timeout=_POLL_S if self.keeps_all else 0)
                return True
            except queue.Full:
                if not self.keeps_all:
                    self._drop_oldest()
        return False

    def _drop_oldest(self) -> None:
        with suppress(queue.Empty):
            self._items.get_nowait()


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error
