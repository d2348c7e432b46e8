"""A Debian for aarch64 in a folder, and programs of it run by QEMU's user emulation.

Neither packages nor the system of this machine change: the emulator is registered in a user namespace of its own
(Linux 6.7 and newer), with which the registration goes away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fresh.environments import INSTALLED, checked, constraints_file

REQUIRED = "HOICLIP_REQUIRE_ARM64"
PROGRAMS = ("debootstrap", "dpkg", "qemu-aarch64-static", "unshare")
BINFMT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
"""The registration as Debian's qemu-user-static describes it; its flag F opens the emulator before chroot hides it."""
RELEASE, PYTHON, GLIBC = "bookworm", "3.11", "2_36"
CPU = "cortex-a76"
"""Of the processors that QEMU 7.2 knows the nearest to the Cortex-A78AE of Jetson Orin: ARMv8.2 without SVE."""
MIRROR = "http://deb.debian.org/debian"
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)))
"""Tags of wheels for that glibc and older ones."""
# Without /sys: there ONNX Runtime would seek an ARM processor in the description of this machine's, and crash.
_ENTER = """
set -eu
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
cat "$1" >/proc/sys/fs/binfmt_misc/register
for folder in proc dev; do mount --rbind "/$folder" "$2/$folder"; done
shift 1
exec chroot "$@"
"""


@dataclass(frozen=True)
class Arm64Root:
    """An unpacked Debian with the wheel in /opt/hoiclip."""

    folder: Path

    def run(self, *argv: str, cwd: str = "/", **settings: str) -> subprocess.CompletedProcess[str]:
        """A program of the folder, as its own root, with nothing of this machine's environment.

        Args:
            cwd: within the folder.
        """
        env = {
            "PATH": "/opt/hoiclip/bin:/usr/bin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "QEMU_CPU": CPU,
            **settings,
        }
        inside = ["/usr/bin/env", f"--chdir={cwd}", "-i", *(f"{name}={value}" for name, value in env.items()), *argv]
        enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _ENTER, "sh", str(BINFMT)]
        outside = {"PATH": os.environ["PATH"], "QEMU_CPU": CPU}
        return subprocess.run([*enter, str(self.folder), *inside], env=outside, capture_output=True, text=True)


def require_programs() -> None:
    """Skips where an aarch64 system cannot be made, and fails where it is required."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not missing and BINFMT.is_file() and os.geteuid() == 0:
        return
    message = f"expected root, {', '.join(PROGRAMS)} and {BINFMT}; apt-get install debootstrap qemu-user-static"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{message}, and {REQUIRED}=1")
    pytest.skip(message)


def made_root(folder: Path, wheel: Path) -> Arm64Root:
    """Debian's own Python, and the wheel with what it needs, pinned, in a virtual environment.

    Packages are unpacked and not configured: Python needs no more, and it saves minutes of emulation. The wheels are
    downloaded here and installed there.
    """
    root = Arm64Root(folder)
    bootstrap = ("--foreign", "--arch=arm64", "--variant=minbase", "--include=python3,python3-venv")
    checked("debootstrap", *bootstrap, RELEASE, folder, MIRROR)
    for package in sorted((folder / "var" / "cache" / "apt" / "archives").glob("*.deb")):
        checked("dpkg", "-x", package, folder)
    wheels = folder / "wheels"
    wheels.mkdir()
    shutil.copy(wheel, wheels)
    tests_need, uv = INSTALLED[1:], folder.with_name("uv")
    wanted = (f"hoiclip @ {wheel.as_uri()}", *tests_need)
    done = resolved_for_arm64(uv, PYTHON, GLIBC, *wanted, constraints=constraints_file(PYTHON))
    assert done.returncode == 0, done.stderr[-4000:]
    found = [line for line in done.stdout.splitlines() if not line.startswith("hoiclip ")]
    there = [word for platform in PLATFORMS for word in ("--platform", platform)]
    only = ("--no-deps", "--only-binary=:all:", "--python-version", PYTHON, *there)
    checked(sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels, *only, *found)
    local = ("--no-index", "--find-links", "/wheels", "--quiet", "--disable-pip-version-check", "--no-compile")
    for argv in (
        ("python3", "-m", "venv", "/opt/hoiclip"),
        ("/opt/hoiclip/bin/pip", "install", *local, f"/wheels/{wheel.name}", *tests_need),
    ):
        done = root.run(*argv)
        assert done.returncode == 0, done.stderr[-4000:]
    return root


def resolved_for_arm64(
    folder: Path, version: str, glibc: str, *requirements: str, constraints: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """NAME==VERSION lines of the wheels that an aarch64 Linux would install; nothing is downloaded but metadata.

    uv resolves, because pip evaluates markers such as platform_machine for the machine that it runs on.

    Args:
        folder: for uv itself and its files.
        glibc: such as 2_35.
    """
    if not (folder / "bin" / "uv").exists():
        checked(sys.executable, "-m", "venv", folder)
        checked(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    pins = [] if constraints is None else ["--constraint", str(constraints)]
    options = ["--only-binary", ":all:", "--no-header", "--no-annotate", "--no-config", *pins]
    there = ["--python-platform", f"aarch64-manylinux_{glibc}", "--python-version", version]
    argv = [str(folder / "bin" / "uv"), "pip", "compile", "-", *there, *options]
    return subprocess.run(argv, input="\n".join(requirements), capture_output=True, text=True)
