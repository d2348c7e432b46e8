"""Both ends of a pipe into a process that sends a video to an address.

libavformat connects and disconnects without a time limit, and PyAV holds the interpreter's lock meanwhile: a peer that
accepts the connection and then stays silent would stop every thread of a run. So a process of its own sends, and an
alarm ends it. The run's end, `PushPipe`, never waits longer than WRITE_TIMEOUT_S to write, and can be asked before
whether a write would wait at all.

    python -m hoiclip_engine.sinks.push

Standard input of the process: a line with the address (which `ps` should not show), a line with the container's format,
then the video as FLV, which is not encoded anew. Its standard output: a line "connected", then at most one line with
the reason of a failure, never the address.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import av
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

CONNECTED = "connected"
PEER_TIMEOUT_S = 10
"""A peer that does not answer or take a packet for so long is given up."""
_OUTPUT_OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}, "flv": {"flvflags": "no_duration_filesize"}}
START_S = 6.0
"""A new process needs half a second on an idle machine, and seconds on a busy one."""
WRITE_TIMEOUT_S = PEER_TIMEOUT_S + 1.0
"""Longer than the process gives its peer, so that the process reports what is wrong."""
PIPE_BYTES = 1 << 20
"""Half of it holds a keyframe of 1080p."""


class PushPipe:
    """Sends an FLV stream to the process, as a file object does."""

    def __init__(self, url: str, container: str) -> None:
        self._made_s = time.monotonic()
        # A session of its own: control-C in the terminal is for the run, which then ends the stream in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hoiclip_engine.sinks.push"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # a limit of this system; the pipe is then smaller
                fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLOUT)
        self.write(f"{url}\n{container}\n".encode())

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be sent that writing an image might wait too."""
        (waiting_bytes,) = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)))
        return bool(waiting_bytes > PIPE_BYTES // 2 or not self._poll.poll(0))

    def write(self, data: bytes, /) -> int:
        """Writes all of it.

        Raises:
            OSError: the other end has exited, or takes nothing for WRITE_TIMEOUT_S.
        """
        left = memoryview(data)
        deadline_s = time.monotonic() + WRITE_TIMEOUT_S
        while left:
            if not self._poll.poll(max(0.0, deadline_s - time.monotonic()) * 1e3):
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            try:
                left = left[os.write(self._pipe, left) :]
            except BlockingIOError:  # room, but less than the kernel wants to see at once
                time.sleep(0.001)
        return len(data)

    def close(self, wait_s: float) -> tuple[bool, str]:
        """Ends the stream and the process.

        Returns:
            Whether it ever was connected, and the reason of a failure, empty where there was none.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        # A process that was only just started may not be up yet, however ready the other side is.
        wait_s = max(wait_s, START_S - (time.monotonic() - self._made_s))
        try:
            code = self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._process.stdout as output:
            lines = output.read().decode(errors="replace").splitlines()
        connected = CONNECTED in lines
        if code in (-signal.SIGALRM, -signal.SIGKILL):
            return connected, "the other side does not take what is sent"
        if code:
            reason = lines[-1] if lines and lines[-1] != CONNECTED else "the sending process has failed"
            return connected, reason
        return connected, ""


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run drains its queues; so must this process
    with open(0, "rb", buffering=0) as pipe:  # unbuffered: a buffered read would wait for more than one image
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
