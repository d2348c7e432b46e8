"""A headless Chromium for tests, controlled by the Chrome DevTools protocol; only aiohttp is needed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

# Without the network flags, Chromium connects to its maker's hosts at every start.
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-port=0",
]


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab. `complaints` are errors that the page logged."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            reply = await self._socket.receive_json(timeout=20)
            if reply.get("method") == "Log.entryAdded" and reply["params"]["entry"]["level"] == "error":
                self.complaints.append(reply["params"]["entry"]["text"])
            if reply.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(str(reply["params"]["exceptionDetails"]))
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                result: dict[str, Any] = reply["result"]
                return result

    async def run(self, script: str) -> Any:
        """Evaluates a JavaScript expression; promises are awaited."""
        reply = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    async def wait_for(self, condition: str, within_s: float = 15.0) -> None:
        """Waits until the JavaScript expression is true."""
        deadline_s = time.monotonic() + within_s
        while not await self.run(f"!!({condition})"):
            assert time.monotonic() < deadline_s, f"never: {condition}; {self.complaints}"
            await asyncio.sleep(0.05)

    async def open(self, url: str, size_px: tuple[int, int] = (1280, 800), dark: bool = False) -> None:
        width, height = size_px
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=url)

    async def image(self, path: Path) -> None:
        """Writes a screenshot as PNG."""
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[str]:
    """Starts Chromium. Args: folder: for its profile. Yields: the address of its protocol, for `with_page`."""
    program = find_chromium()
    assert program is not None
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port_file = folder / "DevToolsActivePort"
        deadline_s = time.monotonic() + 30
        while not (port_file.exists() and port_file.read_text(encoding="ascii").count("\n")):
            assert process.poll() is None, "Chromium does not start"
            assert time.monotonic() < deadline_s, "Chromium does not report its address"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text(encoding='ascii').splitlines()[0]}"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


def with_page(address: str, drive: Callable[[Page], Any]) -> Any:
    """Runs a coroutine function on a new tab."""

    async def session() -> Any:
        async with aiohttp.ClientSession() as client:
            async with client.put(f"{address}/json/new?about:blank") as response:
                tab = await response.json(content_type=None)
            async with client.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await page.call(f"{domain}.enable")
                return await drive(page)

    return asyncio.run(session())
