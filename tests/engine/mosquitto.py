"""A real Mosquitto on loopback that can be killed and started again, its certificates, and a subscriber."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

USER, PASSWORD = "camera", "br0ker-passw0rd"


def program(name: str) -> str:
    """Path of a program of Debian's packages; without it the test is skipped, or fails where services are required."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("HOICLIP_REQUIRE_SERVICES") == "1":
            pytest.fail(f"{name} is missing, and HOICLIP_REQUIRE_SERVICES=1")
        pytest.skip(f"{name} is not installed")
    return found


class Mosquitto:
    """A broker with a port of its own, which it keeps over restarts, and so do sessions and retained messages."""

    def __init__(
        self, folder: Path, *, users: Mapping[str, str] | None = None, certificates: Path | None = None
    ) -> None:
        self._program = program("mosquitto")
        self._folder = folder
        folder.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            "max_inflight_messages 0",
            f"user {'root' if os.geteuid() == 0 else 'nobody'}",
            f"allow_anonymous {'false' if users else 'true'}",
        ]
        if users:
            passwords = folder / "passwords"
            passwords.touch(0o600)
            for user, password in users.items():
                command = [program("mosquitto_passwd"), "-b", str(passwords), user, password]
                subprocess.run(command, check=True, capture_output=True)
            lines.append(f"password_file {passwords}")
        if certificates:
            lines += [f"{key} {certificates / name}" for key, name in (("certfile", "crt"), ("keyfile", "key"))]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [self._program, "-c", str(self._folder / "mosquitto.conf")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._listens)

    def kill(self) -> None:
        """Ends it at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def save(self) -> None:
        """Lets it write sessions and retained messages, which it otherwise does when it ends in order."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        until((self._folder / "mosquitto.db").exists)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def certificates(folder: Path, name: str = "127.0.0.1") -> Path:
    """Makes an authority and a server's certificate. Returns: the folder, with the files `ca`, `crt` and `key`."""
    folder.mkdir()
    openssl, quiet = program("openssl"), {"cwd": folder, "check": True, "capture_output": True}
    kind = "IP" if name[0].isdigit() else "DNS"
    (folder / "extensions").write_text(f"subjectAltName={kind}:{name}\n", encoding="utf-8")
    new = [openssl, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = ["-x509", "-days", "2", "-subj", "/CN=tests", "-addext", "keyUsage=critical,keyCertSign"]
    subprocess.run([*new, *authority, "-keyout", "ca-key", "-out", "ca"], **quiet)  # type: ignore[call-overload]
    subprocess.run([*new, "-subj", "/CN=broker", "-keyout", "key", "-out", "request"], **quiet)  # type: ignore[call-overload]
    signing = [openssl, "x509", "-req", "-in", "request", "-CA", "ca", "-CAkey", "ca-key", "-CAcreateserial"]
    subprocess.run([*signing, "-days", "2", "-extfile", "extensions", "-out", "crt"], **quiet)  # type: ignore[call-overload]
    return folder


@dataclass(frozen=True)
class Seen:
    """A message that a subscriber received."""

    topic: str
    payload: str
    is_retained: bool
    qos: int

    @property
    def fields(self) -> dict[str, Any]:
        found = json.loads(self.payload)
        assert isinstance(found, dict)
        return found


class Subscriber:
    """Receives everything by QoS 1, in a session that outlives the broker's restarts."""

    def __init__(self, port: int, client_id: str = "tests", user: str = "") -> None:
        self.seen: list[Seen] = []
        self.subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        self._client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        if user:
            self._client.username_pw_set(user, PASSWORD)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self.subscribed.wait(10)

    def _on_message(self, _client: object, _data: object, message: MQTTMessage) -> None:
        self.seen.append(Seen(message.topic, message.payload.decode(), message.retain, message.qos))

    def on(self, topic: str) -> list[Seen]:
        return [seen for seen in list(self.seen) if seen.topic == topic]

    def last(self, topic: str) -> str:
        found = self.on(topic)
        return found[-1].payload if found else ""

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def subscriber(broker: Mosquitto, client_id: str = "tests", user: str = "") -> Iterator[Subscriber]:
    opened = Subscriber(broker.port, client_id, user)
    try:
        yield opened
    finally:
        opened.close()


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.01)
