"""A server on loopback for downloads: breaks, redirects, false sizes, ignored ranges, web pages, new versions."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIRMATION = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download anyway"/><input \
type="hidden" name="id" value="1q3J"><input type="hidden" name="confirm" value="t"></form></body></html>"""
QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file <a href="/x">recently</a>.</p>
</body></html>"""


@dataclass
class CheckpointServer:
    """What the next requests get; may be changed while it runs."""

    content: bytes = b""
    etag: str | None = '"first"'
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    """Bytes of the body after which each of the next answers ends."""
    announced: int | None = None
    """Content-Length instead of the true one."""
    page: str = ""
    """Sent instead of the file, except to requests that confirm."""
    page_type: str = "text/html; charset=utf-8"
    status: int = 200
    redirect: str = ""
    """Location of a redirect from every address but /moved."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers in place of the true ones."""
    paused: Callable[[], None] = lambda: None
    """Called when half of a body has been sent."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    conditions: list[str | None] = field(default_factory=list)
    """If-Range of each request."""
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        self.conditions.append(handler.headers.get("If-Range"))
        if self.redirect and not handler.path.startswith("/moved"):
            self._head(handler, 302, {"Location": self.redirect, "Content-Length": "0"})
        elif self.page and "confirm=" not in handler.path:
            body = self.page.encode()
            self._head(handler, self.status, {"Content-Type": self.page_type, "Content-Length": str(len(body))})
            handler.wfile.write(body)
        elif self.status != 200:
            self._head(handler, self.status, {"Content-Length": "0"})
        else:
            self._file(handler, asked)

    def _file(self, handler: BaseHTTPRequestHandler, asked: str | None) -> None:
        content, begin = self.content, 0
        current = handler.headers.get("If-Range") in (None, self.etag)
        if asked and self.ranges and current:
            found = re.fullmatch(r"bytes=(\d+)-", asked)
            assert found is not None
            begin = int(found[1])
        if begin >= len(content) and begin:
            self._head(handler, 416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        length = len(content) - begin if self.announced is None else self.announced
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        if self.etag:
            headers["ETag"] = self.etag
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._head(handler, 206 if begin else 200, {**headers, **self.headers})
        end = begin + self.breaks.pop(0) if self.breaks else len(content)
        middle = (begin + end) // 2
        handler.wfile.write(content[begin:middle])
        handler.wfile.flush()
        self.paused()
        handler.wfile.write(content[middle:end])

    @staticmethod
    def _head(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()


@contextmanager
def serving(**settings: Any) -> Iterator[CheckpointServer]:
    """A server with these settings, until the block ends."""
    server = CheckpointServer(**settings)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):
                server.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            return

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, args=(0.02,), name="test-server", daemon=True).start()
    server.url = f"http://127.0.0.1:{listener.server_address[1]}"
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()


def write_table(path: Path, **entries: dict[str, Any]) -> Path:
    """A table of released checkpoints, such as hoiclip/checkpoint/released.toml."""
    lines = []
    for name, fields in entries.items():
        lines.append(f"[{name.replace('_', '-')}]")
        defaults = {"about": "a stand-in", "kind": "detr", "licence": "of the tests"}
        for key, value in {**defaults, **fields}.items():
            lines.append(f"{key} = {str(value).lower() if isinstance(value, bool) else repr(str(value))}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
