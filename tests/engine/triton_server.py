"""A real Triton Inference Server for the tests: the one inside the wheel of nvidia-pytriton, on this machine alone.

It has the Python backend and no ONNX Runtime backend. It lives in an environment of its own, as a server does that runs
the models and nothing else of the project: without torch, and with the numpy that it wants.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from tests.engine.command_output import PYTHONPATH

CLIENT = Path(__file__).with_name("triton_client.py")
READY_WITHIN_S = 240
SERVED_BY = (
    "numpy<2",
    "numba",
    "scipy",
    "av>=17",
    "safetensors",
    "opencv-python-headless>=4.9",
    "pillow",
    "onnxruntime",
)
"""Packages that Python models import, without torch. The Python backend of server 2.51 knows no numpy 2."""


def missing(why: str) -> None:
    """Skips; fails where HOICLIP_REQUIRE_TRITON=1 says that the server is installed."""
    if os.environ.get("HOICLIP_REQUIRE_TRITON") == "1":
        pytest.fail(f"{why}, and HOICLIP_REQUIRE_TRITON=1")
    pytest.skip(why)


@dataclass(frozen=True)
class Home:
    """An environment with server and client."""

    python: Path
    site: Path

    @property
    def stub(self) -> Path:
        """The program that runs Python models, for the interpreter of the tests."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return self.site / "pytriton/tritonserver/python_backend_stubs" / version / "triton_python_backend_stub"

    @property
    def environment(self) -> dict[str, str]:
        """Python models run the python3 of PATH; the stub's libpython is the interpreter's, where it has one."""
        libraries = os.pathsep.join([str(sysconfig.get_config_var("LIBDIR")), str(self.site / "nvidia_pytriton.libs")])
        path = os.pathsep.join([str(self.python.parent), os.environ["PATH"]])
        return {**os.environ, "LD_LIBRARY_PATH": libraries, "PATH": path}


def installed_home(folder: Path) -> Home:
    """Installs into the folder, unless HOICLIP_TRITON_VENV names an environment; skips where neither is possible."""
    known = os.environ.get("HOICLIP_TRITON_VENV")
    venv = Path(known) if known else folder / "venv"
    python = venv / "bin" / "python"
    if known is None:
        try:
            for words in (
                [sys.executable, "-m", "venv", venv],
                [python, "-m", "pip", "install", "-q", "--no-deps", "nvidia-pytriton==0.7.0"],
                [python, "-m", "pip", "install", "-q", "tritonclient[http]>=2.66,<2.70", *SERVED_BY],
            ):
                subprocess.run(words, check=True, capture_output=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            missing(
                f"nvidia-pytriton cannot be installed ({type(error).__name__}: {getattr(error, 'stderr', '')!r:.300})"
            )
    home = Home(python, venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages")
    (home.site / "hoiclip.pth").write_text(PYTHONPATH.replace(os.pathsep, "\n") + "\n", encoding="utf-8")
    if not home.stub.is_file():
        missing(f"nvidia-pytriton in {venv} has no stub for this Python, {home.stub}")
    linked = subprocess.run(["ldd", home.stub], env=home.environment, capture_output=True, text=True, check=False)
    if linked.returncode or "not found" in linked.stdout:
        missing(f"libraries of the server's stub are missing here: {linked.stdout}{linked.stderr}")
    return home


class Server:
    """Serves a repository until it is closed."""

    def __init__(self, home: Home, repository: Path, folder: Path) -> None:
        self._home = home
        backends = folder / "backends"
        shutil.copytree(home.site / "pytriton/tritonserver/backends", backends)
        shutil.copy2(home.stub, backends / "python" / home.stub.name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = folder / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    home.site / "pytriton/tritonserver/bin/tritonserver",
                    f"--model-repository={repository}",
                    f"--backend-directory={backends}",
                    "--http-address=127.0.0.1",
                    f"--http-port={self.port}",
                    "--allow-grpc=false",
                    "--allow-metrics=false",
                ],
                env=home.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/{path}", timeout=10) as answer:
            return bytes(answer.read())

    def _wait(self) -> None:
        end = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                pytest.fail(f"the server ended with {self._process.returncode}: {self.log[-4000:]}")
            try:
                self.get("health/ready")
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.2)
        pytest.fail(f"the server was not ready after {READY_WITHIN_S} s: {self.log[-4000:]}")

    def infer(self, model: str, requests: list[dict[str, np.ndarray]], folder: Path, at_once: int = 1) -> list[object]:
        """The answers that tritonclient gets: arrays by name, or the text of an error."""
        folder.mkdir()
        for number, request in enumerate(requests):
            np.savez(folder / f"{number:03}.npz", **request)
        words = [self._home.python, CLIENT, self.port, model, folder, at_once]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return [_answer(folder / f"{number:03}") for number in range(len(requests))]


def _answer(path: Path) -> object:
    error = path.with_suffix(".error.txt")
    if error.is_file():
        return error.read_text(encoding="utf-8")
    with np.load(path.with_suffix(".found.npz")) as found:
        return dict(found)
