"""`hoiclip run --state` as a process: cameras are added over HTTP, survive a restart, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engine.loopback_servers import StreamServer, transport_stream
from tests.engine.mosquitto import Mosquitto, subscriber
from tests.engine.run_processes import QUICK_BACKEND, ROOT, json_lines
from tests.engine.supervised_runs import Answer, ask, wait_until
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip

pytestmark = pytest.mark.thorough

RULES = {"rule": [{"name": "rides here", "verbs": ["ride"], "zone": [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]}]}
ROUNDS = 50
WARM_UP = 10


@dataclass
class Run:
    """A run with a state folder, and a client of its API."""

    process: subprocess.Popen[str]
    port: int
    token: str

    def request(self, method: str, path: str, body: object = None) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return ask(self.port, method, path, None if body is None else json.dumps(body).encode(), headers)

    def add(self, address: str, name: str = "") -> int:
        answer = self.request("POST", "/api/sources", {"address": address, "name": name})
        assert answer.status == 201, answer.body
        return int(answer.json["id"])

    def source(self, source_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self.request("GET", f"/api/sources/{source_id}").json
        return found

    def wait_for_frames(self, source_id: int, count: int = 3) -> None:
        wait_until(lambda: self.source(source_id)["frames"] >= count, 60)

    def interrupt(self) -> str:
        self.process.send_signal(signal.SIGINT)
        err = self.process.communicate(timeout=30)[1]
        assert self.process.returncode == 130, err
        assert "Traceback" not in err
        return err


def start(folder: Path, *argv: object) -> subprocess.Popen[str]:
    paths = os.pathsep.join(str(ROOT / name) for name in ("", "engine", "kernels"))
    words = ["run", "--live", "127.0.0.1:0", "--state", folder, "--model", untrained_model(), *argv]
    return subprocess.Popen(
        [sys.executable, "-m", "hoiclip_engine.cli", *map(str, words), "--backend", QUICK_BACKEND],
        env={**os.environ, "PYTHONPATH": paths, "HOICLIP_LIVE_TOKEN": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(folder: Path, *argv: object) -> Iterator[Run]:
    process = start(folder, *argv)
    assert process.stderr is not None
    try:
        port, lines = 0, []
        while not port or "Changes need" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], f"it has ended: {''.join(lines)}"
            if "Live page: " in lines[-1]:
                port = int(lines[-1].rsplit(":", 1)[1].strip("/\n"))
        yield Run(process, port, (folder / "token").read_text(encoding="utf-8").strip())
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[StreamServer]:
    with StreamServer(transport_stream(tmp_path, frames=1500), frames=1500) as server:
        yield server


def test_cameras_and_rules_survive_a_restart(camera: StreamServer, tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    with running(state, "--jsonl", out) as run:
        assert run.request("GET", "/api/sources").json == {"sources": []}
        first = run.add(camera.url, "door")
        second = run.add("rtsp://user:secret@127.0.0.1:1/off")
        run.wait_for_frames(first)
        assert run.request("POST", f"/api/sources/{second}/pause").json["state"] == "paused"
        assert run.request("PUT", "/api/rules", RULES).json == RULES
        assert run.request("GET", f"/stream.mjpg?source={second}").status == 404
        assert stat.S_IMODE((state / "state.json").stat().st_mode) == 0o600
        said = run.interrupt()
    assert "secret" not in said
    with running(state, "--jsonl", out) as run:
        run.wait_for_frames(first)
        sources = {source["id"]: source for source in run.request("GET", "/api/sources").json["sources"]}
        assert {source_id: source["state"] for source_id, source in sources.items()} == {1: "running", 2: "paused"}
        assert sources[first]["name"] == "door"
        assert run.request("GET", "/api/rules").json == RULES
        run.process.kill()  # no time to say goodbye
    with running(state, "--jsonl", out) as run:
        run.wait_for_frames(first)
        assert run.add("rtsp://127.0.0.1:1/later") == 3
        run.interrupt()
    files = sorted(out.iterdir())
    assert len(files) == 3  # one for each pass, none over another
    assert all(path.name.startswith("door_1_") for path in files)
    for path in (files[0], files[2]):
        lines = json_lines(path.read_text(encoding="utf-8"))
        assert (lines[0]["type"], lines[-1]["type"]) == ("header", "summary")
        assert lines[0]["source"] == "door"
    assert not any("secret" in path.read_text(encoding="utf-8") for path in files)


def test_sources_of_the_command_line_are_kept_and_not_doubled(camera: StreamServer, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for _ in range(2):
        with running(state, camera.url) as run:
            (source,) = run.request("GET", "/api/sources").json["sources"]
            assert source["address"] == camera.url.replace("user:secret@", "")
            run.interrupt()


@pytest.mark.slow
def test_file_is_played_once_and_not_again_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    clip = write_clip(folder / "clip.mp4", [40 * i for i in range(10)])
    with running(tmp_path / "state", "--allow-files", folder) as run:
        refused = run.request("POST", "/api/sources", {"address": "/etc/passwd"})
        assert (refused.status, "--allow-files" in refused.error) == (403, True)
        source_id = run.add(str(clip))
        wait_until(lambda: run.source(source_id)["state"] == "ended", 60)
        run.interrupt()
    with running(tmp_path / "state") as run:
        assert run.source(source_id)["state"] == "ended"
        run.interrupt()


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux' /proc")
def test_source_that_is_removed_frees_all_that_it_held(camera: StreamServer, tmp_path: Path) -> None:
    with running(tmp_path / "state") as run:
        pid = run.process.pid
        held: list[tuple[int, int, float]] = []
        for number in range(ROUNDS):
            source_id = run.add(f"{camera.url}?{number}")
            run.wait_for_frames(source_id)
            if number % 5 == 0:
                run.request("POST", f"/api/sources/{source_id}/pause")
                assert (
                    f'source="{run.source(source_id)["name"]}",stage'
                    not in run.request("GET", "/metrics").body.decode()
                )
            assert run.request("DELETE", f"/api/sources/{source_id}").status == 204
            if number >= WARM_UP:
                time.sleep(0.3)  # ffmpeg's own threads end a moment later
                held.append((threads(pid), open_files(pid), resident_mb(pid)))
        metrics = run.request("GET", "/metrics").body.decode()
        run.interrupt()
    assert 'source="' not in metrics
    first, last = held[: len(held) // 2], held[len(held) // 2 :]
    assert max(each[0] for each in last) <= max(each[0] for each in first)
    assert max(each[1] for each in last) <= max(each[1] for each in first)
    # A decoder with its frames, kept alive, would be 1 MB and more for each of 20 sources; a model 60 MB.
    assert last[-1][2] - first[0][2] < 12, held


@pytest.mark.parametrize("content", ["{", '{"version": 99, "sources": [], "rules": {}}'])
def test_damaged_or_newer_state_is_one_line_and_kept(content: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(content, encoding="utf-8")
    process = start(tmp_path)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert (tmp_path / "state.json").read_text(encoding="utf-8") == content


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        second = start(tmp_path)
        err = second.communicate(timeout=120)[1]
        assert second.returncode == 2, err
        assert "in use by another" in err
        run.interrupt()


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["run", "--state", "state", "clip.mp4"], "--state is for --live"),
        (["run", "--live", "0", "--allow-files", "videos", "clip.mp4"], "--allow-files is for --state"),
        (["run"], "the following arguments are required: SRC"),
        (["run", "--live", "127.0.0.1:0"], "the following arguments are required: SRC"),
        (["run", "--live", "0", "--state", "state", "--jsonl", "-"], "cannot share standard output"),
        (["run", "--live", "0", "--state", "state", "--jsonl", "out.jsonl"], "expected a folder"),
        (["run", "--live", "0", "--state", "state", "-o", "rtmp://host/x"], "cannot share an address"),
        (["run", "--live", "0", "--state", "state", "--hico", "out"], "--hico is for sources that are known"),
        (["run", "--live", "0", "--state", "state", "-"], "found standard input"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    argv: Sequence[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from hoiclip_engine.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main([*argv, "--model", str(untrained_model()), "--backend", QUICK_BACKEND][: None if argv[1:] else 1]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
    assert not (tmp_path / "state" / "state.json").exists()


def test_rules_replaced_by_the_api_are_sensors_of_home_assistant(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker") as broker,
        subscriber(broker) as seen,
        StreamServer(transport_stream(tmp_path, frames=1500), frames=1500) as server,
        running(tmp_path / "state", "--mqtt", f"mqtt://{broker.host}/x", "--mqtt-discovery") as run,
    ):

        def sensors() -> set[str]:
            last = {found.topic: found for found in list(seen.seen) if found.topic.startswith("homeassistant/")}
            return {found.fields["name"] for found in last.values() if found.payload}

        number = run.add(server.url, "gate")
        other_source = {"name": "elsewhere", "verbs": ["ride"], "sources": [number + 1]}
        wait_until(lambda: sensors() == {"connected"}, 90)
        for names in (["rides", "sits"], ["sits", "stands"], []):
            rules = [*({"name": name, "verbs": ["ride"]} for name in names), other_source]
            assert run.request("PUT", "/api/rules", {"rule": rules}).status == 200
            wait_until(lambda names=names: sensors() == {"connected", *names}, 60)  # type: ignore[misc]
        run.interrupt()


def test_events_of_before_a_restart_are_listed_from_the_database(camera: StreamServer, tmp_path: Path) -> None:
    options = ("--db", tmp_path / "events.sqlite", "--evidence", tmp_path / "evidence", "--min-score", 0)

    def events(run: Run) -> dict[str, dict[str, Any]]:
        page = run.request("GET", "/api/events?kind=rule&limit=500").json
        return {event["id"]: event for event in page["events"]} if page["stored"] else {}

    with running(tmp_path / "state", *options) as run:
        camera_id = run.add(camera.url, "door")
        assert run.request("PUT", "/api/rules", {"rule": [{"name": "anything"}]}).status == 200
        wait_until(lambda: events(run), 90)
        run.request("POST", f"/api/sources/{camera_id}/pause")
        wait_until(lambda: any(event["evidence"] for event in events(run).values()), 60)
        before = events(run)
        run.process.kill()
    with running(tmp_path / "state", *options) as run:
        wait_until(lambda: before.keys() <= events(run).keys())
        again = {event_id: events(run)[event_id] for event_id in before}
        assert {event["source"] for event in again.values()} == {camera_id}
        assert not any(event["is_open"] for event in again.values())
        kept = next(event["evidence"] for event in again.values() if event["evidence"])
        assert run.request("GET", next(iter(kept.values()))).status == 200
        run.interrupt()
