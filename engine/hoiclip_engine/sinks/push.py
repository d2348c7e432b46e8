"""A pipe into a process that sends a video to an address; push_process.py is the other end.

Writing never waits longer than WRITE_TIMEOUT_S, and whether it would wait at all can be asked before.
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

from hoiclip_engine.sinks.push_process import CONNECTED, PEER_TIMEOUT_S

START_S = 6.0
"""A new process needs half a second on an idle machine, and seconds on a busy one."""
WRITE_TIMEOUT_S = PEER_TIMEOUT_S + 1.0
"""Longer than the process gives its peer, so that the process is the one to say what is wrong."""
PIPE_BYTES = 1 << 20
"""Key frames of 1080p fit into half of it."""


class Push:
    """Takes an FLV stream as a file object does. `failure` says in a few words what went wrong."""

    def __init__(self, url: str, container: str) -> None:
        self._made_s = time.monotonic()
        # A session of its own: control-C in the terminal is for the run, which then ends the stream in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hoiclip_engine.sinks.push_process"],
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
        """Whether so much waits to be sent that writing a picture might wait too."""
        (waiting_bytes,) = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)))
        return bool(waiting_bytes > PIPE_BYTES // 2 or not self._poll.poll(0))

    def write(self, data: bytes, /) -> int:
        """All of it.

        Raises:
            OSError: the other end is gone, or takes nothing for WRITE_TIMEOUT_S.
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
        """Ends the stream; the process is gone afterwards.

        Returns:
            Whether it ever was connected, and what went wrong, empty if nothing did.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        # One that was only just made may still be starting, however ready the other side is.
        wait_s = max(wait_s, START_S - (time.monotonic() - self._made_s))
        try:
            code = self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._process.stdout as said:
            lines = said.read().decode(errors="replace").splitlines()
        connected = CONNECTED in lines
        if code in (-signal.SIGALRM, -signal.SIGKILL):
            return connected, "the other side does not take what is sent"
        if code:
            reason = lines[-1] if lines and lines[-1] != CONNECTED else "the sending process has failed"
            return connected, reason
        return connected, ""
