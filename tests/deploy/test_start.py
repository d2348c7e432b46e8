"""deploy/start.sh as a container or a service runs it: builds once, then runs, and lets no password be seen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hoiclip_engine.cli.main import build_parser
from tests.engine.command_output import PYTHONPATH
from tests.engine.run_processes import json_lines, of_type
from tests.engine.untrained import untrained_folder
from tests.engine.video_files import write_clip

ROOT = Path(__file__).resolve().parents[2]
START = ROOT / "deploy" / "start.sh"
PASSWORD = "s3cret-passw0rd"


def program(folder: Path, text: str) -> Path:
    """A folder for PATH with a `hoiclip` in it."""
    folder.mkdir(exist_ok=True)
    path = folder / "hoiclip"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return folder


def environment(tmp_path: Path, programs: Path, **settings: str) -> dict[str, str]:
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": PYTHONPATH,
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "HOICLIP_CACHE": str(tmp_path / "volume"),
        **settings,
    }


def start(tmp_path: Path, programs: Path, *words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [str(START), *map(str, words)]
    env = environment(tmp_path, programs, **settings)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture
def hoiclip(tmp_path: Path) -> Path:
    """The command itself."""
    return program(tmp_path / "bin", f'exec "{sys.executable}" -m hoiclip_engine.cli "$@"')


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """Writes down how it was called, and ends as `HOICLIP_STUB_BUILD` says where it was asked to build."""
    return program(
        tmp_path / "bin",
        f'printf "%s\\n" "$@" "--" >> "{tmp_path}/called"; env > "{tmp_path}/environment"\n'
        f'case "$1" in build) exit "${{HOICLIP_STUB_BUILD:-0}}";; run) cp "$2" "{tmp_path}/sources";; esac',
    )


def called(tmp_path: Path) -> list[list[str]]:
    words = (tmp_path / "called").read_text().split("\n--\n")
    return [call.split("\n") for call in words if call]


@pytest.mark.slow
def test_first_start_builds_and_the_second_only_runs(tmp_path: Path, hoiclip: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [0, 40, 80])
    settings = {
        "HOICLIP_SOURCE": str(clip),
        "HOICLIP_MODEL": str(untrained_folder()),
        "HOICLIP_BACKEND": "openvino",
        "HOICLIP_PRECISION": "bf16",
        "HOICLIP_CALIBRATE": str(clip),
    }
    out = tmp_path / "out.jsonl"
    first = start(tmp_path, hoiclip, "--jsonl", out, **settings)
    assert first.returncode == 0, first.stderr
    assert "Compared with fp32" in first.stderr
    entries = list((tmp_path / "volume" / "builds").rglob("entry.json"))
    assert len(entries) == 1
    before = entries[0].stat()
    header, *rest = json_lines(out.read_text())
    assert (header["backend"], header["precision"]) == ("openvino", "bf16")
    assert len(of_type(rest, "frame")) == 3

    second = start(tmp_path, hoiclip, "--jsonl", out, **settings)
    assert second.returncode == 0, second.stderr
    assert "Compared with fp32" not in second.stderr
    assert "exists in bf16 for openvino" in second.stderr
    assert (entries[0].stat().st_mtime_ns, entries[0].stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.slow
def test_in_fp32_nothing_is_built_and_the_exported_folder_runs(tmp_path: Path, hoiclip: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [0, 40, 80])
    out = tmp_path / "out.jsonl"
    settings = {"HOICLIP_SOURCE": str(clip), "HOICLIP_PRECISION": "fp32", "HOICLIP_MODEL": str(untrained_folder())}
    for _ in range(2):
        done = start(tmp_path, hoiclip, "--jsonl", out, HOICLIP_BACKEND="openvino", **settings)
        assert done.returncode == 0, done.stderr
        assert len(of_type(json_lines(out.read_text()), "frame")) == 3
        engines = [file.stat().st_mtime_ns for file in sorted((tmp_path / "volume" / "engines").rglob("engine.bin"))]
        assert len(engines) == 1
    assert not (tmp_path / "volume" / "builds").exists()
    assert not list(tmp_path.glob("volume/graphs/*/*.onnx"))


@pytest.mark.parametrize(
    ("precision", "built", "code", "runs"),
    [
        ("auto", 0, 0, True),
        ("auto", 2, 0, True),  # nothing is faster than fp32
        ("auto", 5, 0, True),  # no torch to compare with
        ("auto", 6, 0, True),  # it lost too much
        ("auto", 4, 4, False),
        ("int8", 0, 0, True),
        ("int8", 5, 5, False),
        ("int8", 6, 6, False),
    ],
)
def test_what_a_failed_build_means(
    tmp_path: Path, recorder: Path, precision: str, built: int, code: int, runs: bool
) -> None:
    settings = {"HOICLIP_SOURCE": "a.mp4", "HOICLIP_PRECISION": precision, "HOICLIP_STUB_BUILD": str(built)}
    assert start(tmp_path, recorder, **settings).returncode == code
    assert [call[0] for call in called(tmp_path)] == ["build", "run"][: 2 if runs else 1]


def test_every_command_is_one_that_hoiclip_knows(tmp_path: Path, recorder: Path) -> None:
    settings = {
        "HOICLIP_SOURCE": "rtsp://one\nrtsp://two",
        "HOICLIP_MODEL": "/models/with space",
        "HOICLIP_BACKEND": "tensorrt",
        "HOICLIP_PRECISION": "fp16",
        "HOICLIP_CALIBRATE": "/pictures/of mine",
        "HOICLIP_LIVE": "127.0.0.1:8080",
    }
    assert start(tmp_path, recorder, "--jsonl", "/results/all of them", **settings).returncode == 0
    build, run = (build_parser().parse_args(call) for call in called(tmp_path))
    assert (build.command, build.model, build.backend, build.precision) == (
        "build",
        settings["HOICLIP_MODEL"],
        "tensorrt",
        "fp16",
    )
    assert build.if_missing
    assert build.calibrate == settings["HOICLIP_CALIBRATE"]
    assert (run.command, run.model, run.backend, run.precision, run.live, run.jsonl) == (
        "run",
        settings["HOICLIP_MODEL"],
        "tensorrt",
        "fp16",
        "127.0.0.1:8080",
        "/results/all of them",
    )
    assert (tmp_path / "sources").read_text() == "rtsp://one\nrtsp://two\n"


def test_password_is_in_no_command_line_environment_or_message(tmp_path: Path, recorder: Path) -> None:
    source = f"rtsp://user:{PASSWORD}@127.0.0.1:9/stream"
    done = start(tmp_path, recorder, HOICLIP_SOURCE=source)
    assert done.returncode == 0
    assert PASSWORD not in done.stdout + done.stderr
    assert PASSWORD not in (tmp_path / "called").read_text()
    # The build before it needs no sources either.
    assert PASSWORD not in (tmp_path / "environment").read_text()
    assert PASSWORD in (tmp_path / "sources").read_text()
    for path in tmp_path.rglob("sources.txt"):
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_building_ends_both(tmp_path: Path, number: signal.Signals) -> None:
    programs = program(tmp_path / "bin", f'echo $$ > "{tmp_path}/pid"; exec sleep 60')
    env = environment(tmp_path, programs, HOICLIP_SOURCE="a.mp4")
    process = subprocess.Popen([str(START)], env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=10) == 130
    builder = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{builder}").exists():
        assert time.monotonic() < deadline + 10
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HOICLIP_CACHE": "/tmp"}, "set HOICLIP_SOURCE"),
        ({"HOICLIP_SOURCE": "a.mp4", "HOICLIP_CACHE": ""}, "set HOICLIP_CACHE"),
        ({"HOICLIP_SOURCE": "a.mp4", "HOICLIP_CACHE": "/proc/nowhere"}, "mount a volume"),
    ],
)
def test_missing_setting_is_one_line(tmp_path: Path, recorder: Path, settings: dict[str, str], said: str) -> None:
    done = start(tmp_path, recorder, **settings)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (tmp_path / "called").exists()


def test_script_has_no_lint() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed; apt-get install shellcheck")
    done = subprocess.run(["shellcheck", str(START)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
