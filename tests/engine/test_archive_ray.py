"""The archive command on a Ray of its own: a corrupt file, a killed worker, a file that kills, an interrupt; nothing is
lost or duplicated, results equal those of a single process, and only this machine can reach it."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoiclip_engine.archive.coordinator import MOST_DEATHS
from hoiclip_engine.engine import Engine
from tests.engine.archive_runs import TORCH, repeatable, single_run, write_video
from tests.engine.command_output import PYTHONPATH
from tests.engine.untrained import untrained_model

VIDEOS = tuple("abcdefg")
FRAMES = 60
PATIENCE_S = 540.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _ray_is_installed() -> None:
    if importlib.util.find_spec("ray") is not None:
        return
    if os.environ.get("HOICLIP_REQUIRE_ARCHIVE") == "1":
        pytest.fail("ray is not installed, and HOICLIP_REQUIRE_ARCHIVE=1; make test-archive installs it")
    pytest.skip("ray is not installed; make test-archive")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven videos and one file that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    for name in VIDEOS:
        write_video(folder / f"{name}.mp4", FRAMES)
    (folder / "corrupt.mp4").write_bytes(bytes(range(256)) * 64)
    return folder


@pytest.fixture(scope="module")
def singles(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Results of a single process for each video."""
    folder = tmp_path_factory.mktemp("singles")
    with Engine.load(untrained_model(), TORCH) as engine:
        return {name: single_run(engine, videos / f"{name}.mp4", folder) for name in VIDEOS}


def start(videos: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hoiclip_engine.cli", "archive", videos, "-o", out, "--model", untrained_model()]
    return subprocess.Popen(
        [*map(str, command), "--backend", "torch", "--workers", "2", "--segment-seconds", "1"],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def manifest(out: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads((out / "manifest.json").read_text())["sources"]}


def results(out: Path) -> dict[str, list[str]]:
    return {path.stem: repeatable(path) for path in (out / "jsonl").iterdir()}


class Killer(threading.Thread):
    """Kills processes in the middle of a segment of one file, as the kernel would."""

    def __init__(self, out: Path, name: str, deaths: int) -> None:
        super().__init__(daemon=True)
        self._folder, self._left = out / "work" / name, deaths
        self.killed: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        while self._left and not self.over.wait(0.002):
            for mark in self._folder.glob("0*.try*"):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    pid = int(mark.read_text().split()[1])
                    if pid not in self.killed:
                        os.kill(pid, signal.SIGKILL)
                        self.killed.append(pid)
                        self._left -= mark.exists()
                        break


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def listeners() -> Iterator[tuple[int, str]]:
    """Port and address of every TCP socket that listens on this machine."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                address, port = local.split(":")
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                yield int(port, 16), str(ipaddress.ip_address(b"".join(words)))


def is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def test_killed_worker_and_corrupt_file_leave_other_results_unchanged(
    videos: Path, singles: dict[str, list[str]], tmp_path: Path
) -> None:
    before = set(listeners())
    out = tmp_path / "out"
    process = start(videos, out)
    killer = Killer(out, "c", deaths=1)
    killer.start()
    addresses: set[tuple[int, str]] = set()
    while process.poll() is None and not (addresses and len(list((out / "jsonl").glob("*"))) >= 4):
        addresses |= set(listeners()) - before
        time.sleep(0.2)
    code, output, err = end(process)
    killer.over.set()
    assert killer.killed, err
    assert (code, output) == (7, ""), err
    assert err.count("\nhoiclip: ") == 1, err
    entries = manifest(out)
    assert {name: entry["state"] for name, entry in entries.items()} == dict.fromkeys(VIDEOS, "done") | {
        "corrupt": "failed"
    }
    assert "expected a video or image file" in entries["corrupt"]["error"]
    assert results(out) == singles
    assert all(entries[name]["frames"] == FRAMES and entries[name]["units"] > 1 for name in VIDEOS)
    assert addresses
    assert [address for _, address in addresses if not is_loopback(address)] == []


def test_file_that_always_kills_its_worker_is_given_up(
    videos: Path, singles: dict[str, list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(videos, out)
    killer = Killer(out, "b", deaths=99)
    killer.start()
    code, _, err = end(process)
    killer.over.set()
    assert code == 7, err
    entries = manifest(out)
    assert entries["b"]["state"] == "failed"
    assert f"{MOST_DEATHS} processes dead" in entries["b"]["error"]
    assert len(killer.killed) >= MOST_DEATHS
    assert results(out) == {name: lines for name, lines in singles.items() if name != "b"}


def test_interrupted_archive_is_resumed(videos: Path, singles: dict[str, list[str]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(videos, out)
    while process.poll() is None and not list(out.glob("work/*/0*.looks.parquet")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert code == 130, err
    states = [entry["state"] for entry in manifest(out).values()]
    assert "pending" in states
    done = {path: path.stat().st_mtime_ns for path in out.glob("work/*/0*.looks.parquet")}
    again = start(videos, out)
    seen: dict[Path, int] = {}
    while again.poll() is None:
        for path in done:
            with contextlib.suppress(OSError):
                seen[path] = max(seen.get(path, 0), path.stat().st_mtime_ns)
        time.sleep(0.02)
    assert end(again)[0] == 7
    assert results(out) == singles
    assert all(seen.get(path, done[path]) == done[path] for path in done)  # nothing was inferred twice
