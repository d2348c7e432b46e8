"""What the Dockerfiles and the unit say, as far as can be checked without building an image or starting a service."""

from __future__ import annotations

import fnmatch
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Words and the rest of every instruction, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def values(path: Path, word: str) -> list[str]:
    return [rest for found, rest in instructions(path) if found == word]


def test_there_is_one_for_every_platform() -> None:
    assert [path.suffix for path in DOCKERFILES] == [".cuda", ".jetpack6", ".jetpack7"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix)
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = 0
    for rest in values(path, "COPY"):
        words = rest.split()
        if any(word.startswith("--from=") for word in words):
            continue
        *sources, _ = [word for word in words if not word.startswith("--")]
        for source in sources:
            copied += 1
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, one) or source.startswith(f"{one}/") for one in kept), source
    assert copied >= 8


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix)
def test_image_runs_as_nobody_in_particular_and_holds_no_secret(path: Path) -> None:
    said = instructions(path)
    last = len(said) - 1 - [word for word, _ in reversed(said)].index("FROM")
    final = dict(said[last:])
    assert final["USER"] not in ("root", "0")
    assert final["STOPSIGNAL"] == "SIGINT"
    assert final["VOLUME"] == "/var/lib/hoiclip"
    assert "healthy.py" in final["HEALTHCHECK"]
    assert "start.sh" in final["ENTRYPOINT"]
    assert not values(path, "ADD")
    for word, rest in said:
        if word in ("ENV", "ARG"):
            assert not re.search(r"token|password|secret|rtsp://", rest, re.IGNORECASE), rest


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix)
def test_what_is_built_is_what_is_kept(path: Path) -> None:
    """Names of libraries are those of CMakeLists.txt, extras those of pyproject.toml."""
    text, cmake = path.read_text(), (ROOT / "CMakeLists.txt").read_text()
    for library in re.findall(r"lib(hoiclip_\w+)\.so", text):
        assert f"add_library({library} SHARED" in cmake
    for option in ("HOICLIP_CUDA", "HOICLIP_NVINFER_INCLUDE"):
        assert f"-D{option}=" in text
        assert option in cmake
    extras = re.search(r"ARG EXTRAS=(\S+)", text)
    assert extras
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{re.escape(extra)} = ", project, re.MULTILINE) for extra in extras[1].split(","))


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "hoiclip.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_service_is_fenced_in_and_ends_as_run_wants_to_be_ended() -> None:
    said = unit()
    for key, value in {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "DynamicUser": "yes",
        "StateDirectory": "hoiclip",
        "EnvironmentFile": "/etc/hoiclip/hoiclip.env",
        "Restart": "on-failure",
        "KillSignal": "SIGINT",
        "CapabilityBoundingSet": "",
    }.items():
        assert said[key] == [value], key
    assert "130" in said["SuccessExitStatus"][0].split()
    assert "MemoryDenyWriteExecute" not in said  # what Numba compiles could not run
    assert said["ExecStart"][0].split()[0].endswith("/start.sh")


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; apt-get install systemd")
    text = (DEPLOY / "hoiclip.service").read_text()
    copy = tmp_path / "hoiclip.service"
    copy.write_text(text.replace("/opt/hoiclip/start.sh", str(DEPLOY / "start.sh")))  # it has to be there
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True)
    about = [line for line in (done.stdout + done.stderr).splitlines() if "hoiclip.service" in line]
    assert not about
    assert done.returncode == 0, done.stderr


class Page(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(b'{"status":"ok"}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_health_is_what_the_page_says(status: int | None, code: int) -> None:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Answer", (Page,), {"status": status or 200})
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        live = f"0.0.0.0:{server.server_port}" if status else ""
        command = [sys.executable, "-I", str(DEPLOY / "healthy.py")]
        env = {**os.environ, "HOICLIP_LIVE": live}
        assert subprocess.run(command, env=env, capture_output=True, timeout=20).returncode == code
        server.shutdown()
