"""Runs with passwords in every address: no output, message or response contains any of them."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hoiclip_engine.cli.main import main
from hoiclip_engine.live.address import TOKEN_VARIABLE as LIVE_TOKEN
from hoiclip_engine.sinks.mqtt import PASSWORD_VARIABLE as MQTT_PASSWORD
from hoiclip_engine.sinks.webhook import SECRET_VARIABLE as WEBHOOK_SECRET
from hoiclip_engine.sinks.webhook import TOKEN_VARIABLE as WEBHOOK_TOKEN
from tests.engine.loopback_servers import StreamServer, transport_stream
from tests.engine.mosquitto import PASSWORD as BROKER_PASSWORD
from tests.engine.mosquitto import USER, Mosquitto, subscriber
from tests.engine.run_processes import QUICK_BACKEND, start
from tests.engine.test_webhook import Received, receiver

pytestmark = pytest.mark.thorough

SOURCE_PASSWORD = "s0urcePassw0rd"
HOOK_PASSWORD = "h00kPassw0rd"
TARGET_PASSWORD = "t4rgetPassw0rd"
STREAM_KEY = "str3amKey"
DB_PASSWORD = "d4tabasePassw0rd"
TOKEN = "t0ken-of-the-live-page"
HOOK_TOKEN = "t0ken-of-the-web-hook"
HOOK_SECRET = "s1gning-s3cret-of-the-hook"
SECRETS = (
    *(SOURCE_PASSWORD, HOOK_PASSWORD, TARGET_PASSWORD, STREAM_KEY, DB_PASSWORD, TOKEN, HOOK_TOKEN),
    *(HOOK_SECRET, BROKER_PASSWORD),
)
PATHS = ("/", "/metrics", "/health", "/none", "/health/live", "/health/ready")
"""What is requested of the live page."""
FILES = {"--jsonl": ".jsonl", "--csv": ".csv", "--mot": ".txt", "--vtt": ".vtt", "--coco": ".json"}


def free_port() -> int:
    with socket.socket() as single:
        single.bind(("127.0.0.1", 0))
        return int(single.getsockname()[1])


def files(folder: Path, count: int) -> list[str]:
    """Options of all outputs; folders for several sources."""
    folders = {option: str(folder / "all") for option in ("-o", *FILES)}
    single = {"-o": str(folder / "out.mp4"), **{option: str(folder / f"out{end}") for option, end in FILES.items()}}
    return [word for option in (folders if count > 1 else single).items() for word in option]


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def leaks_in_files(folder: Path) -> list[tuple[str, str]]:
    found = [
        (path.name, path.name + path.read_bytes().decode("latin-1")) for path in folder.rglob("*") if path.is_file()
    ]
    return [(name, secret) for name, text in found for secret in leaks(text)]


class PageClient:
    """Requests everything from the live page during a run, interrupts and restores its source, and ends the run."""

    def __init__(self, port: int, server: StreamServer, process: subprocess.Popen[str]) -> None:
        self.texts: dict[str, str] = {}
        self._port, self._server, self._process = port, server, process
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=work) for work in (self._poll_pages, self._receive_events, self._interrupt_source)
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in self._threads:
                thread.join()

    def _poll_pages(self) -> None:
        while not self._done.wait(0.05):
            for path in PATHS:
                with suppress(OSError, http.client.HTTPException):
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
                    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
                    response = connection.getresponse()
                    self.texts[path] = str(response.getheaders()) + response.read().decode()
                    connection.close()

    def _receive_events(self) -> None:
        async def receive_events() -> None:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            url = f"http://127.0.0.1:{self._port}/events"
            async with aiohttp.ClientSession() as client, client.ws_connect(url, headers=headers) as messages:
                async for message in messages:
                    self.texts["/events"] = self.texts.get("/events", "") + str(message.data)

        while not self._done.wait(0.05):
            with suppress(OSError, aiohttp.ClientError):
                asyncio.run(receive_events())

    def _interrupt_source(self) -> None:
        """Kills and restarts the source, then interrupts the run."""
        if self._until("frames_processed_total", "/metrics"):
            self._server.kill()
            time.sleep(0.3)
            self._server.start()
            self._until("source_back", "/events")
            self._until("status", PATHS[-1])
        self._process.send_signal(signal.SIGINT)

    def _until(self, text: str, path: str) -> bool:
        """Waits for a text in a response; returns whether it came."""
        deadline_s = time.monotonic() + 60
        while not self._done.is_set() and time.monotonic() < deadline_s:
            if text in self.texts.get(path, ""):
                return True
            time.sleep(0.05)
        return False


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIVE_TOKEN, TOKEN)
    monkeypatch.setenv(WEBHOOK_TOKEN, HOOK_TOKEN)
    monkeypatch.setenv(WEBHOOK_SECRET, HOOK_SECRET)


def bodies(received: Received) -> str:
    """Requests that the webhook received, without the header that holds the token."""
    kept = [({key: value for key, value in head.items() if key != "Authorization"}, body) for head, body in received]
    return json.dumps(kept)


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("count", [1, 2])
def test_successful_run_leaks_no_credentials(count: int, model: Path, tmp_path: Path) -> None:
    _, received = run_until_interrupted(model, tmp_path, count)
    assert "source_back" in bodies(received)


@pytest.mark.usefixtures("tokens")
def test_successful_run_with_a_broker_leaks_no_credentials(model: Path, tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker", users={USER: BROKER_PASSWORD}) as broker,
        subscriber(broker, user=USER) as seen,
    ):
        more = ["--mqtt", f"mqtt://{USER}:{BROKER_PASSWORD}@{broker.host}/x", "--mqtt-discovery"]
        more += ["--log-format", "json", "--log-level", "debug", "--webhook-format", "cloudevents"]
        output, received = run_until_interrupted(model, tmp_path, 1, *more)
    assert all(json.loads(line)["level"] for line in output.splitlines())
    published = "".join(found.topic + found.payload for found in seen.seen)
    for text in (published, bodies(received)):
        assert "source_back" in text
    assert leaks(published) == []


def run_until_interrupted(model: Path, tmp_path: Path, count: int, *more: str) -> tuple[str, Received]:
    """A run with all outputs, without leaks. Returns: its output, and what the webhook received."""
    out = tmp_path / "out"
    out.mkdir()
    port = free_port()
    with StreamServer(transport_stream(tmp_path)) as server, receiver() as (hook, received):
        argv = [
            *[server.url.replace(":secret@", f":{SOURCE_PASSWORD}@")] * count,
            "--model",
            str(model),
            "--debug",
            "--min-score",
            "0",
        ]
        argv += ["--timeout", "2", *files(out, count), "--live", f"127.0.0.1:{port}"]
        argv += ["--db", str(tmp_path / "events.sqlite")]
        argv += ["--webhook", f"http://hook:{HOOK_PASSWORD}@{hook}/x", "--outbox", str(out / "outbox.sqlite"), *more]
        process = start(*argv, stdout=subprocess.PIPE)
        page_client = PageClient(port, server, process)
        with page_client.running():
            output = "".join(process.communicate(timeout=240))
    assert process.returncode == 130, output
    assert f"Live page: http://127.0.0.1:{port}/" in output
    assert {*PATHS, "/events"} <= page_client.texts.keys()
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) == (1 + len(FILES)) * count + 1
    assert all(path.stat().st_size for path in written if path.suffix != ".vtt")
    assert leaks(output) == []
    assert leaks("".join(page_client.texts.values())) == []
    assert leaks(bodies(received)) == []
    assert leaks_in_files(tmp_path) == []
    assert (tmp_path / "events.sqlite").stat().st_size
    return output, received


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp"])
@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["", "debug"])
def test_missing_source_leaks_no_credentials(
    scheme: str, debug: list[str], model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"{scheme}://user:{SOURCE_PASSWORD}@127.0.0.1:{free_port()}/live/{STREAM_KEY if scheme == 'rtmp' else 'x'}"
    argv = [
        "run",
        url,
        "--model",
        str(model),
        "--backend",
        QUICK_BACKEND,
        "--timeout",
        "1",
        *debug,
        *files(tmp_path, 1),
    ]
    argv += ["--live", f"127.0.0.1:{free_port()}", "--webhook", f"http://hook:{HOOK_PASSWORD}@127.0.0.1:{free_port()}/"]
    assert main(argv) == 3
    found = leaks("".join(capfd.readouterr()))
    # The key of a stream that is read is part of its name; the user chose to have it there.
    assert found == ([STREAM_KEY] if scheme == "rtmp" else [])
    assert leaks_in_files(tmp_path) == []


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["", "debug"])
def test_missing_outputs_leak_no_credentials(
    debug: list[str], clip: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = f"rtmp://user:{TARGET_PASSWORD}@127.0.0.1:{free_port()}/app/{STREAM_KEY}"
    argv = [
        "run",
        str(clip),
        "-o",
        target,
        "--model",
        str(model),
        "--backend",
        QUICK_BACKEND,
        "--min-score",
        "0",
        *debug,
    ]
    argv += ["--webhook", f"http://hook:{HOOK_PASSWORD}@127.0.0.1:{free_port()}/", "--live", f"127.0.0.1:{free_port()}"]
    argv += ["--db", f"postgresql://keeper:{DB_PASSWORD}@127.0.0.1:{free_port()}/events"]
    argv += ["--mqtt", f"mqtt://{USER}:{BROKER_PASSWORD}@127.0.0.1:{free_port()}/x"]
    assert main(argv) == 7
    output = "".join(capfd.readouterr())
    assert "cannot send the video to rtmp://127.0.0.1:" in output
    assert "not recorded in postgresql://127.0.0.1:" in output
    assert leaks(output) == []


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize(
    "wrong",
    [
        ["--live", "0.0.0.0:port", "--live-token", TOKEN],
        ["--live", "127.0.0.1:1", "--live-token", f"{TOKEN} "],
        ["--webhook", f"ftp://hook:{HOOK_PASSWORD}@host/"],
        ["--mqtt", f"http://{USER}:{BROKER_PASSWORD}@host/"],
        ["--mqtt", f"mqtt://:{BROKER_PASSWORD}@host/"],
        ["--mqtt", f"mqtt://{USER}:{BROKER_PASSWORD}@host/x", "--mqtt-ca", "missing.pem", "--log-format", "json"],
        ["-o", f"rtmp://user:{TARGET_PASSWORD}@/{STREAM_KEY}"],
        ["--db", f"postgresql://keeper:{DB_PASSWORD}/x@host/db"],
        ["--db", f"mysql://keeper:{DB_PASSWORD}@host/db"],
        ["--live", "127.0.0.1:1", f"rtsp://user:{SOURCE_PASSWORD}@host/x", "--nonsense"],
    ],
    ids=lambda words: words[0],
)
def test_invalid_options_leak_no_credentials(
    wrong: list[str], clip: Path, model: Path, capfd: pytest.CaptureFixture[Any]
) -> None:
    try:
        code = main(["run", str(clip), "--model", str(model), "--backend", QUICK_BACKEND, "--debug", *wrong])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    assert leaks("".join(capfd.readouterr())) == []


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("log", [[], ["--log-format", "json"]], ids=["text", "json"])
def test_refused_password_of_the_broker_is_not_printed(
    log: list[str],
    clip: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(MQTT_PASSWORD, TARGET_PASSWORD)
    with Mosquitto(tmp_path / "broker", users={USER: BROKER_PASSWORD}) as broker:
        argv = [
            "run",
            str(clip),
            "--model",
            str(model),
            "--backend",
            QUICK_BACKEND,
            "--min-score",
            "0",
            "--debug",
            *log,
        ]
        argv += ["--jsonl", str(tmp_path / "out.jsonl"), "--mqtt", f"mqtt://{USER}@{broker.host}/x"]
        code = main(argv)
    output = "".join(capfd.readouterr())
    assert code in (0, 7)  # 7 where the model has found events
    assert f"mqtt://{broker.host}" in output
    assert "it refuses the user or password" in output
    assert leaks(output) == []


def test_file_named_like_a_url_leaks_no_credentials(
    clip: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A downloaded file keeps the address as its name; even then no password is printed."""
    monkeypatch.chdir(tmp_path)
    odd = Path(f"http:/user:{SOURCE_PASSWORD}@host/clip.mp4")
    odd.parent.mkdir(parents=True)
    os.link(clip, odd)
    main(
        [
            "run",
            str(odd),
            "--model",
            str(model),
            "--backend",
            QUICK_BACKEND,
            "--jsonl",
            "out.jsonl",
            "--coco",
            "out.json",
        ]
    )
    assert leaks("".join(capfd.readouterr())) == []
    for name in ("out.jsonl", "out.json"):
        assert leaks(Path(name).read_text(encoding="utf-8")) == []
