"""Runs of `hoiclip run` as processes, and readers of their output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import pytest

from tests.without_torch import HAS_TORCH

QUICK_BACKEND = "torch" if HAS_TORCH else "onnxruntime"
"""The backend that compiles nothing before the first frame; without torch, the one that takes the exported graph."""
ROOT = Path(__file__).resolve().parents[2]


def no_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def json_lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=no_constant) for line in text.splitlines()]


def of_type(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == kind]


def times_of(video: Path) -> list[float]:
    """Presentation times in seconds as PyAV gives them."""
    with av.open(str(video)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def start(*argv: object, stdout: int | None = None) -> subprocess.Popen[str]:
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "engine", "kernels"))
    return subprocess.Popen(
        [sys.executable, "-m", "hoiclip_engine.cli", "run", *map(str, argv), "--backend", QUICK_BACKEND],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=stdout or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_frames(process: subprocess.Popen[str], path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_text(encoding="utf-8").count('"type":"frame"') >= count:
            return
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no {count} frames in time: {process.communicate()[1]}")
