"""Sends the annotated video to an address as it comes: rtmp://, rtmps://, rtsp:// (to a server), udp:// and tcp://.

Images are encoded here and sent by a process of their own (push.py), so that a slow or silent peer stalls nothing: of
a live source, images are skipped meanwhile. Times count from the first image that is sent.
"""

from __future__ import annotations

import contextlib
import time
from fractions import Fraction
from urllib.parse import urlsplit

import av

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.sinks.annotate import FramePainter
from hoiclip_engine.sinks.push import WRITE_TIMEOUT_S, PushPipe
from hoiclip_engine.sinks.video_encoder import EncoderConfig, VideoEncoder
from hoiclip_engine.sources.uri import redact
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink

CONTAINERS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "udp": "mpegts", "tcp": "mpegts"}
FLV_TIME_BASE = Fraction(1, 1000)
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0
GOODBYE_S = 0.7
"""Time to send the remaining images when a run ends, which may be an interrupt."""
_WRITE_ERRORS = (av.FFmpegError, OSError, ValueError, OverflowError)


def is_stream(target: str) -> bool:
    """Whether this names an address to send to rather than a file."""
    return target.partition("://")[0].lower() in CONTAINERS and "://" in target


class StreamSink(Sink):
    """One address. A broken connection of a live run is made again, with growing pauses, while the run continues."""

    def __init__(self, url: str) -> None:
        """Opens nothing.

        Raises:
            UsageError: no known protocol, or no host.
        """
        scheme, _, rest = url.partition("://")
        self._container = CONTAINERS.get(scheme.lower(), "")
        self._name = f"{scheme.lower()}://{_host(url)}"
        if not (self._container and rest and _host(url)) or not url.isprintable():
            known = ", ".join(f"{name}://" for name in CONTAINERS)
            raise UsageError(f"expected {known} and a host to send the video to, found something else; correct it")
        if _host(url) != _host(redact(url)):
            raise UsageError("expected no / ? # @ in the user or password of -o; write them as %2F %3F %23 %40")
        # Whole TS packets, as receivers expect them.
        self._url = f"{url}?pkt_size=1316" if scheme.lower() == "udp" and "?" not in url else url
        self._pipe: PushPipe | None = None
        self._encoder: VideoEncoder | None = None
        self._retry_s, self._next_try_s = FIRST_RETRY_S, 0.0
        self.skipped = 0
        """Images that could not be sent."""

    def start(self, header: RunHeader) -> None:
        """Gets ready; the connection is made with the first image."""
        self._painter = FramePainter(header)
        self._live = header.policy == "latest"
        self._ever_connected = False
        self._broken = False

    def write(self, result: FrameResult) -> None:
        """Sends one image, or skips it where a live source would have to wait.

        Raises:
            SinkError: no receiver answers, or the connection breaks and the source is not live.
        """
        if self._broken or time.monotonic() < self._next_try_s:
            self.skipped += 1
            return
        try:
            push, encoder = self._connection(result.pts_s)
            if self._live and push.is_behind:
                self.skipped += 1
                self._require_progress()
                return
            self._room_s = time.monotonic()
            encoder.write(self._painter.paint(result), result.pts_s - self._begun_s)
        except _WRITE_ERRORS as error:
            self._handle_failure(error)

    def finish(self, summary: RunSummary) -> None:
        """Sends the remaining images and disconnects.

        Raises:
            SinkError: that did not work.
        """
        if self._encoder is None or self._pipe is None:
            return
        try:
            self._encoder.close()
        except _WRITE_ERRORS as error:
            self._handle_failure(error)
            return
        connected, reason = self._disconnect(GOODBYE_S)
        if reason or not connected:
            raise self._failure(reason or "no receiver answers")

    def _connection(self, pts_s: float) -> tuple[PushPipe, VideoEncoder]:
        if self._pipe is None or self._encoder is None:
            self._pipe = PushPipe(self._url, self._container)
            config = EncoderConfig(container="flv", live=True)
            self._encoder = VideoEncoder(self._pipe, *self._painter.size_px, FLV_TIME_BASE, config)
            self._begun_s = pts_s
            self._room_s = time.monotonic()
        return self._pipe, self._encoder

    def _require_progress(self) -> None:
        if time.monotonic() - self._room_s > WRITE_TIMEOUT_S:
            raise TimeoutError

    def _disconnect(self, wait_s: float) -> tuple[bool, str]:
        push, encoder, self._pipe, self._encoder = self._pipe, self._encoder, None, None
        with contextlib.suppress(*_WRITE_ERRORS):
            if encoder is not None:
                encoder.close()
        connected, reason = (False, "") if push is None else push.close(wait_s)
        self._ever_connected |= connected
        return connected, reason

    def _handle_failure(self, error: Exception) -> None:
        """Plans the next try, or raises where there is none."""
        connected, reason = self._disconnect(0.2)
        if self._live and self._ever_connected:
            self._retry_s = FIRST_RETRY_S if connected else min(2 * self._retry_s, LAST_RETRY_S)
            self._next_try_s = time.monotonic() + self._retry_s
            return
        self._broken = True
        raise self._failure(reason or type(error).__name__) from None

    def _failure(self, reason: str) -> SinkError:
        return SinkError(f"cannot send the video to {self._name}: {reason}; start a receiver there")


def _host(url: str) -> str:
    """Host and port alone: paths hold stream keys, and the rest holds passwords."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.hostname and parts.port else parts.hostname or ""
    except ValueError:
        return ""
