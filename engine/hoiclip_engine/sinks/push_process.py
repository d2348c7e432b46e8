"""Sends a video that comes on standard input to an address; a process of its own, started by stream_sink.py.

libavformat connects and says goodbye without a time limit, and PyAV holds the interpreter's lock meanwhile: a peer
that takes the connection and then says nothing would stop every thread of a run. Here an alarm ends the process.

    python -m hoiclip_engine.sinks.push_process

Standard input: a line with the address (which `ps` should not show), a line with the container's format, then the
video as FLV, which is not encoded anew. Standard output: a line "connected", then at most one line with the reason of a
failure, never the address.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import av
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

CONNECTED = "connected"
PEER_TIMEOUT_S = 10
"""A peer that does not answer or take a packet for so long is given up."""
_OUTPUT_OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}, "flv": {"flvflags": "no_duration_filesize"}}


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run drains; so must we
    with open(0, "rb", buffering=0) as pipe:  # unbuffered: a buffered read would wait for more than one picture
        url, container_format = (pipe.readline().decode().rstrip("\n") for _ in range(2))
        try:
            with av.open(pipe, format="flv", options={"analyzeduration": "200000"}) as source:
                _send(source, url, container_format)
        except (av.FFmpegError, OSError, ValueError) as error:
            number = getattr(error, "errno", None)
            print(getattr(error, "strerror", None) or (os.strerror(number) if number else type(error).__name__))
            return 1
    return 0


def _send(source: InputContainer, url: str, container_format: str) -> None:
    coming = source.streams.video[0]
    options = {"flush_packets": "1", **_OUTPUT_OPTIONS.get(container_format, {})}
    target: OutputContainer = av.open(url, mode="w", format=container_format, options=options)
    going: VideoStream = target.add_stream_from_template(coming)
    with in_time():
        target.start_encoding()
    print(CONNECTED, flush=True)
    try:
        for packet in source.demux(coming):
            if packet.dts is not None:
                packet.stream = going
                with in_time():
                    target.mux(packet)
    finally:
        with in_time():
            target.close()


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """SIGALRM, unhandled, ends the process."""
    signal.alarm(PEER_TIMEOUT_S)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    sys.exit(main())
