"""Every Python that is tested has its pins, they are what is allowed, and 3.14 finds wheels of what running needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from constraints.resolve import WHOLE
from tests.fresh.environments import REQUIRED, ROOT, VERSIONS, constraints_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NEWEST = "3.14"
PINNED = [version for version in VERSIONS if constraints_file(version).exists()]
EVERYTHING = ("torch", "fetch", "serve", "quantize", "bench", "dev", "dev-trt", "quantize-trt")


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, Any] = tomllib.load(file)["project"]
    return found


def pins_of(version: str) -> dict[str, Version]:
    lines = constraints_file(version).read_text(encoding="utf-8").splitlines()
    matches = [re.fullmatch(r"([a-z0-9-]+)==([^+\s]+)", line) for line in lines if not line.startswith("#")]
    assert all(matches), lines
    return {match[1]: Version(match[2]) for match in matches if match}


def wanted_by(version: str, *extras: str) -> list[Requirement]:
    """What the project, and these extras of its own, ask of packages on such a Python on x86-64 Linux."""
    about = project()
    lines = about["dependencies"] + [line for extra in extras for line in about["optional-dependencies"][extra]]
    here = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "extra": "",
    }
    requirements = [Requirement(line) for line in lines]
    return [
        requirement
        for requirement in requirements
        if requirement.name != "hoiclip" and (not requirement.marker or requirement.marker.evaluate(here))
    ]


def test_pythons_of_the_project_are_pinned() -> None:
    about = project()
    for version in (*VERSIONS, NEWEST):
        assert Version(version) in Requirement(f"hoiclip{about['requires-python']}").specifier
        assert f"Programming Language :: Python :: {version}" in about["classifiers"]
    assert WHOLE in PINNED
    assert {constraints_file(version) for version in PINNED} == set(constraints_file(WHOLE).parent.glob("py*.txt"))


@pytest.mark.parametrize("version", PINNED)
def test_pins_hold_every_direct_dependency_at_a_version_that_is_allowed(version: str) -> None:
    pins = pins_of(version)
    for requirement in wanted_by(version, *(EVERYTHING if version == WHOLE else ("serve",))):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins, f"{name} has no pin for Python {version}; make pins"
        assert pins[name] in requirement.specifier, f"{name} {pins[name]} is not {requirement.specifier}; make pins"


@pytest.mark.skipif(f"{sys.version_info.major}.{sys.version_info.minor}" != WHOLE, reason="has fewer pins")
def test_pins_suit_the_first_patch_release() -> None:
    """A distribution's own Python is often an early one: Debian 12 has 3.11.2. As far as pins are installed here."""
    pins = pins_of(WHOLE)
    for found in distributions():
        needed, name = found.metadata["Requires-Python"], re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        if needed and pins.get(name) == Version(found.version):
            suits = SpecifierSet(needed).contains(f"{WHOLE}.0")
            assert suits, f"{name} {found.version} needs Python {needed}; pin one that {WHOLE}.0 can have"


def resolved(folder: Path, *requirements: str, version: str) -> subprocess.CompletedProcess[str]:
    """What pip says of installing wheels for a Python that need not be here."""
    only = ("--only-binary=:all:", "--python-version", version, "--target", folder)
    argv = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--disable-pip-version-check", *only]
    return subprocess.run([*map(str, argv), *requirements], capture_output=True, text=True)


@pytest.mark.slow
def test_newest_python_finds_wheels_of_all_that_running_needs(tmp_path: Path) -> None:
    """Not run: no test of hoiclip itself is. pip resolves for a Python that is not on the machine."""
    needed = [f"{requirement.name}{requirement.specifier}" for requirement in wanted_by(NEWEST)]
    done = resolved(tmp_path, *needed, version=NEWEST)
    if done.returncode and os.environ.get(REQUIRED) != "1":
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if resolved(tmp_path, "packaging", version=here).returncode:
            pytest.skip(f"no package registry can be reached ({REQUIRED}=1 would make this an error)")
    assert done.returncode == 0, done.stderr
    rtx = resolved(tmp_path, "tensorrt-rtx-cu13-bindings>=1.7", version=NEWEST)  # EXTRAS of the Makefile takes them
    assert rtx.returncode == 0, rtx.stderr
