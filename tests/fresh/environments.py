"""Fresh environments: an interpreter of a version, a venv, the wheel of this checkout and nothing else of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
INSTALLED = ("[serve]", "pytest>=8.3", "hypothesis>=6.110")
"""Extras of the wheel, and what the tests themselves import."""
REQUIRED = "HOICLIP_REQUIRE_PYTHONS"
LATEST = "HOICLIP_LATEST"
"""1: the newest versions that the project allows, instead of the pinned ones."""


@dataclass(frozen=True)
class Environment:
    """A venv with the wheel in it and no torch."""

    version: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *argv: object, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """Nothing of ours in the environment but the settings."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("HOICLIP_", "PYTHON", "PYTEST_"))}
        command = [str(self.folder / "bin" / str(argv[0])), *map(str, argv[1:])]
        return subprocess.run(command, cwd=cwd, env={**env, **settings}, capture_output=True, text=True)


def find_interpreter(version: str) -> str | None:
    """The Python of a version on this machine."""
    for candidate in _candidates(version):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        said = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
        if said.stdout.strip() == version:
            return candidate
    return None


def interpreter(version: str) -> str:
    """Skips where there is none, and fails where all are required."""
    if found := find_interpreter(version):
        return found
    message = f"expected Python {version} as python{version} or from pyenv, found none"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{message}, and {REQUIRED}=1")
    pytest.skip(message)


def _candidates(version: str) -> Iterator[str]:
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))


def checked(*argv: object, cwd: Path = ROOT) -> None:
    done = subprocess.run([*map(str, argv)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def wheel_of_the_checkout(folder: Path) -> Path:
    checked(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("hoiclip-*.whl")
    return wheel


def constraints_file(version: str) -> Path:
    """The exact versions of a Python such as "3.11"; written by `make pins`. Without a file, it takes the newest."""
    return ROOT / "constraints" / f"py{version.replace('.', '')}.txt"


def made(version: str, wheel: Path, folder: Path) -> Environment:
    """Without the extra `torch`; what the tests themselves import is there."""
    environment = Environment(version, folder)
    checked(interpreter(version), "-m", "venv", folder)
    pins = constraints_file(version)
    pinned = ["--constraint", pins] if pins.exists() and os.environ.get(LATEST) != "1" else []
    checked(environment.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
            *pinned, f"{wheel}{INSTALLED[0]}", *INSTALLED[1:])  # fmt: skip
    return environment


def copy_tests(folder: Path) -> None:
    """The tests of the checkout, with their settings, but none of the packages that they test."""
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "fresh"))
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("results", "__pycache__"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    settings = re.search(r"\[tool\.pytest\.ini_options\].*?(?=\n\[)", project, re.DOTALL)
    assert settings
    here_only = settings[0].replace('pythonpath = [".", "engine", "kernels"]', 'pythonpath = ["."]')
    (folder / "pyproject.toml").write_text(here_only, encoding="utf-8")
