"""Servers on loopback for tests: a stream in real time that can be interrupted, and a folder of files."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.engine.video_files import write_clip

LIVE = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n"
FRAME_S = 0.04


def transport_stream(folder: Path, frames: int = 250, first_ms: int = 0) -> bytes:
    """An MPEG-TS of 25 frames a second with a keyframe every fifth."""
    path = folder / f"{frames}_{first_ms}.ts"
    if not path.exists():
        write_clip(path, [first_ms + i * 40 for i in range(frames)], gop=5, container_format="mpegts")
    return path.read_bytes()


class StreamServer:
    """Sends the same bytes to every client, from the beginning and at the pace of the video; as HTTP or bare."""

    def __init__(self, data: bytes, *, frames: int = 250, header: bytes = LIVE, speed: float = 1.0) -> None:
        self.connection_count = 0
        """Connections so far."""
        self.quiet = False
        """Keeps connections open without sending anything more."""
        self._data, self._header = data, header
        self._bytes_s = len(data) / (frames * FRAME_S) * speed
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://user:secret@127.0.0.1:{self.port}/live"

    def start(self) -> None:
        """Starts to listen, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="test-server", daemon=True).start()

    def kill(self) -> None:
        """Stops like a killed process: closes the listener and resets all connections."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        connections, self._open = self._open, []
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def __enter__(self) -> StreamServer:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.kill()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connection_count += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), name="test-server", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            if self._header:
                connection.recv(4096)
                connection.sendall(self._header)
            began_s, sent = time.monotonic(), 0
            while sent < len(self._data):
                due = min(len(self._data), int((time.monotonic() - began_s + FRAME_S) * self._bytes_s))
                if not self.quiet:
                    connection.sendall(self._data[sent:due])
                    sent = due
                time.sleep(FRAME_S / 4)
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class _Ranges(SimpleHTTPRequestHandler):
    """Handler that serves byte ranges up to the end of files, like a real web server."""

    truncated_once: set[str]
    """Files whose first response ends in the middle."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        requested_range = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = min(int(requested_range[1]), len(data)) if requested_range else 0
        self.send_response(206 if requested_range else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - begin))
        if requested_range:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        end = len(data)
        if path.name in self.truncated_once and begin < len(data) // 2:
            self.truncated_once.remove(path.name)
            end = len(data) // 2
        with suppress(OSError):
            self.wfile.write(data[begin:end])

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def serve_folder(folder: Path, *, truncated_once: str = "") -> Iterator[str]:
    """Serves the files of a folder, with their lengths; the first transfer of one of them may be truncated."""
    handler = type("Handler", (_Ranges,), {"truncated_once": {truncated_once}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), name="test-server", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
