"""The processes of a soak: cameras, broker, run and page on loopback, which are killed and started again.

soak.py ends them at random; nothing here judges what comes of it.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.events_checks import Usage
from benchmarks.flapping import free_port
from benchmarks.rtsp_server import start as start_rtsp_server
from hoiclip.synthetic.video import VideoConfig, random_script
from tests.engine.chromium import FLAGS as CHROMIUM_FLAGS
from tests.engine.chromium import find_chromium

FPS = 4
VIDEO = VideoConfig(width_px=256, height_px=192, fps=FPS, duration_s=90.0)
MAX_FILES, MAX_BYTES = 200, 8_000_000
PREFIX = "soak"
RULES = """
[[rule]]
name = "anything"
min_duration_s = 0.25

[[rule]]
name = "lower half"
zone = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]
min_duration_s = 1.0

[[rule]]
name = "middle"
line = [[0.5, 0.0], [0.5, 1.0]]

[[rule]]
name = "nobody holds"
verbs = ["hold"]
absent = true
absent_for_s = 3.0
"""


class Part(Protocol):
    """A process that is killed and started again."""

    def start(self) -> None: ...
    def kill(self) -> None: ...


@dataclass
class Camera:
    """An RTSP server with a video of its own, which begins anew for every client."""

    video: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = start_rtsp_server(self.port, self.video)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


class Broker:
    """Mosquitto, whose session of the subscriber outlives kills."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        folder.mkdir()
        lines = (
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {folder}/",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            f"user {'root' if os.geteuid() == 0 else 'nobody'}",
        )
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise SystemExit("expected Mosquitto, found none; apt-get install mosquitto")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self._folder / "mosquitto.conf")], stderr=log)
        wait_until(self._listens, 60, "the broker listens")

    def save(self) -> None:
        """Lets it write its sessions, which it otherwise does when it ends in order."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        wait_until((self._folder / "mosquitto.db").exists, 60, "the broker has saved its sessions")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False


class Subscriber:
    """Receives all messages by QoS 1, in a session that outlives restarts of the broker."""

    def __init__(self, port: int) -> None:
        self.received: dict[str, list[int]] = {}
        """Numbers of the messages of each run, in the order of arrival."""
        self._is_subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="soak-subscriber", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe(f"{PREFIX}/#", qos=1)
        self._client.on_subscribe = lambda *_: self._is_subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not self._is_subscribed.wait(60):
            raise SystemExit("the broker does not let the soak subscribe")

    def _on_message(self, _client: object, _data: object, message: MQTTMessage) -> None:
        if message.topic.endswith(("/state", "/status")):
            return
        run_id, number = json.loads(message.payload)["id"].rsplit("-", 1)
        self.received.setdefault(run_id, []).append(int(number))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass(kw_only=True)
class Life:
    """The run from a start to its end."""

    started_at: float
    """Wall time."""
    waiting_before: int
    """Messages in the outbox when it started."""
    ready_s: float | None = None
    ended_at: float | None = None
    usage: list[Usage] = field(default_factory=list)
    viewers: dict[str, float] = field(default_factory=dict)
    """The most at a time, by kind."""


class Server:
    """`hoiclip run` with everything, on one port and with one state folder over all its lives."""

    def __init__(self, folder: Path, broker_port: int) -> None:
        self.folder, self.port = folder, free_port()
        self.evidence, self.database = folder / "evidence", folder / "events.sqlite"
        self.jsonl, self.outbox = folder / "jsonl", folder / "outbox.sqlite"
        self.log = folder / "server.log"
        self.lives: list[Life] = []
        (folder / "rules.toml").write_text(RULES, encoding="utf-8")
        words: tuple[object, ...] = (
            *("run", "--live", f"127.0.0.1:{self.port}", "--state", folder / "state", "--jsonl", self.jsonl),
            *(
                "--backend",
                "openvino",
                "--precision",
                "fp32",
                "--short-side",
                128,
                "--detect-every",
                2,
                "--rules",
                folder / "rules.toml",
            ),
            *("--evidence", self.evidence, "--evidence-max-files", MAX_FILES, "--evidence-max-bytes", MAX_BYTES),
            *("--mqtt", f"mqtt://127.0.0.1:{broker_port}/{PREFIX}", "--outbox", self.outbox),
            *("--db", self.database, "--log-format", "json"),
        )
        self._command = [sys.executable, "-m", "hoiclip_engine.cli", *map(str, words)]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def life(self) -> Life:
        return self.lives[-1]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        self.lives.append(Life(started_at=time.time(), waiting_before=self._waiting()))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env={**os.environ, "HOICLIP_LIVE_TOKEN": ""}
            )

    def kill(self) -> None:
        if self.process is not None:
            self.life.ended_at = time.time()
            self.process.kill()
            self.process.wait()

    def terminate(self) -> int:
        """Ends it in order. Returns: the exit code."""
        assert self.process is not None
        self.life.ended_at = time.time()
        self.process.terminate()
        return self.process.wait(120)

    def request(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Raises OSError: it does not answer."""
        token = (self.folder / "state" / "token").read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        return json.loads(self.request("GET", path)[1])

    def is_ready(self) -> bool:
        """Whether the page answers; notes when it first does."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise SystemExit(f"the run has ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        if self.life.ready_s is None:
            with suppress(OSError):
                if self.request("GET", "/health/live")[0] == 200:
                    self.life.ready_s = time.monotonic()
        return self.life.ready_s is not None

    def states(self) -> dict[str, str]:
        return {source["name"]: source["state"] for source in self.get("/api/sources")["sources"]}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stops it for a moment, so that what it has and its folder are seen at one time."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            while self._status("State").split()[0] not in "TZ":
                time.sleep(0.001)
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def usage(self) -> Usage:
        return Usage(
            at_s=time.monotonic(),
            rss_mb=int(self._status("VmRSS").split()[0]) / 1024,
            threads=int(self._status("Threads")),
            descriptors=len(os.listdir(f"/proc/{self.pid}/fd")),
        )

    def _status(self, name: str) -> str:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return status.split(f"\n{name}:", 1)[1].split("\n", 1)[0].strip()

    def _waiting(self) -> int:
        """Messages in the outbox that a dead process has left; counted in a copy, which recovers its journal."""
        copy = self.folder / "outbox copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        files = [path for path in self.folder.glob("outbox.sqlite*") if path.is_file()]
        for path in files:
            shutil.copy(path, copy)
        if not files:
            return 0
        connection = sqlite3.connect(copy / self.outbox.name)
        try:
            return int(connection.execute("SELECT COUNT(*) FROM message").fetchone()[0])
        except sqlite3.OperationalError:  # killed before it made the table
            return 0
        finally:
            connection.close()


@dataclass(kw_only=True)
class Flapping:
    """A part, and the random times at which it is killed and started again."""

    name: str
    part: Part
    up_s: tuple[float, float]
    down_s: tuple[float, float]
    last_kill_s: float
    """Moment after which it is left alone."""
    rng: random.Random
    kills: list[float] = field(default_factory=list)
    """Wall times."""
    is_up: bool = True
    changed_s: float = field(default_factory=time.monotonic)
    _due_s: float = 0.0

    def __post_init__(self) -> None:
        self._due_s = self.changed_s + self.rng.uniform(*self.up_s)

    def tick(self) -> None:
        """Kills or starts it if that is due."""
        if time.monotonic() < self._due_s or (self.is_up and time.monotonic() > self.last_kill_s):
            return
        if self.is_up:
            self.kills.append(time.time())
            self.part.kill()
        else:
            self.part.start()
        self.is_up, self.changed_s = not self.is_up, time.monotonic()
        self._due_s = self.changed_s + self.rng.uniform(*(self.up_s if self.is_up else self.down_s))

    def restore(self) -> None:
        """Starts it for good."""
        self.last_kill_s = 0.0
        if not self.is_up:
            self._due_s = 0.0
            self.tick()


@contextmanager
def page(server: Server, folder: Path) -> Iterator[Path]:
    """Chromium with the live page. Yields: its log, which has the errors of the page's scripts."""
    program = find_chromium()
    if program is None:
        raise SystemExit("expected Chromium, found none; apt-get install chromium")
    log = folder / "chromium.log"
    with log.open("wb") as file:
        command = [program, *CHROMIUM_FLAGS, "--enable-logging=stderr", f"--user-data-dir={folder / 'chromium'}"]
        if os.geteuid() == 0:  # else it raises its own priority over that of the run
            command = ["setpriv", "--bounding-set=-sys_nice", *command]
        process = subprocess.Popen([*command, f"http://127.0.0.1:{server.port}/"], stdout=file, stderr=file)
    try:
        yield log
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


def write_camera_video(path: Path, seed: int, seconds: float) -> None:
    """A synthetic video, over and over, with a keyframe every 2 s and no B-frames, as cameras send."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        options = {"preset": "ultrafast", "g": str(2 * FPS), "bf": "0", "crf": "28"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = VIDEO.width_px, VIDEO.height_px, "yuv420p"
        packets = []
        for index, drawn in enumerate(random_script(VIDEO, seed).frames()):
            frame = av.VideoFrame.from_ndarray(drawn.rgb, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for index in range(round(seconds * FPS)):
            encoded = packets[index % len(packets)]
            packet = av.Packet(bytes(encoded))
            packet.pts = packet.dts = index
            packet.time_base, packet.is_keyframe, packet.stream = Fraction(1, FPS), encoded.is_keyframe, stream
            container.mux(packet)


def scrape(server: Server) -> dict[tuple[str, str], float]:
    """Values of /metrics by name and the one label that matters here: source, target or kind."""
    values = {}
    for family in text_string_to_metric_families(server.request("GET", "/metrics")[1]):
        for sample in family.samples:
            labels = sample.labels
            if len(labels) == 1:
                values[sample.name, next(iter(labels.values()))] = sample.value
    return values


def outbox_counts(server: Server) -> dict[str, int]:
    values = {name: value for (name, _), value in scrape(server).items() if name.startswith("hoiclip_outbox_")}
    return {
        name: round(values[f"hoiclip_outbox_{name}{'' if name == 'waiting' else '_total'}"])
        for name in ("delivered", "retried", "dropped", "waiting")
    }


def wait_until(condition: Callable[[], object], within_s: float, what: str) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise SystemExit(f"not within {within_s:.0f} s: {what}")
        time.sleep(0.1)
