"""Where a number comes from: machine, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hoiclip import __version__
from hoiclip_engine.bench.nvml import Nvml
from hoiclip_engine.cpu import cpu_count, cpu_flags, cpu_name

PACKAGES = ("numpy", "numba", "av", "openvino", "onnxruntime", "torch", "tensorrt", "tensorrt-rtx-cu13")


def machine(nvml: Nvml) -> dict[str, Any]:
    """The processor, memory, system and GPU."""
    return {
        "cpu": cpu_name(),
        "cores": cpu_count(),
        "flags": list(cpu_flags()),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "gpu": nvml.name().to_json(),
    }


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Python's, ours and those of packages that are installed."""
    found = {"python": platform.python_version(), "hoiclip": __version__}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Short hash of the checkout this code lies in, with "+" where files differ from it; None outside of one.

    Results of benchmarks do not count as different: they are written by what is measured.
    """
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None  # installed, perhaps into somebody else's repository
    root = _git(here.parent, "rev-parse", "--show-toplevel")
    head = _git(here.parent, "rev-parse", "--short=12", "HEAD")
    if not root or not head:
        return None
    return head + ("+" if _git(Path(root), "status", "--porcelain", "--", ":!benchmarks/results") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
