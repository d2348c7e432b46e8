"""Long commands end in order on a signal, and on no other occasion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hoiclip_engine.cli.signals import ENDING
from tests.engine.command_output import PYTHONPATH
from tests.engine.run_processes import times_of


def started(*argv: object, before: Callable[[], object] = lambda: None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hoiclip_engine.cli", *map(str, argv)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
    )


def wait_for(path: Path, process: subprocess.Popen[str], size: int = 2000) -> None:
    ends_s = time.monotonic() + 90
    while not (path.exists() and path.stat().st_size >= size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends_s
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_interrupted_synthetic_video_can_be_played(number: signal.Signals, tmp_path: Path) -> None:
    process = started("data", "draw", "--video", "1", "--duration", "600", "--out", tmp_path)
    wait_for(tmp_path / "film_0000.jsonl", process, 20_000)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "")
    video = next(iter(tmp_path.glob("*.mp4")))
    assert len(times_of(video)) > 3


def test_signals_ignored_by_nohup_stay_ignored(tmp_path: Path) -> None:
    process = started(
        "data", "draw", "--video", "1", "--duration", "600", "--out", tmp_path,
        before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_for(tmp_path / "film_0000.jsonl", process)
    process.send_signal(signal.SIGHUP)
    size = (tmp_path / "film_0000.jsonl").stat().st_size
    wait_for(tmp_path / "film_0000.jsonl", process, size + 4000)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143


EACH = """
import json, signal
from hoiclip_engine.cli.signals import ENDING, Signalled, raising_on_signals, stopping_on_signals

def handlers():
    return {number: signal.getsignal(number) for number in ENDING}

before = handlers()
for number in ENDING:
    stops = []
    with stopping_on_signals(lambda: stops.append(1)) as came:
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGHUP)  # a terminal that closes hangs up twice
    caught = None
    try:
        with raising_on_signals():
            signal.raise_signal(number)
    except Signalled as signalled:
        caught = signalled.number
    print(json.dumps([number, came, stops, caught, handlers() == before]), flush=True)
"""


def test_every_ending_signal_requests_an_end_once() -> None:
    """In a process of its own: a failure would end the test process and all remaining tests."""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run([sys.executable, "-c", EACH], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert reports == [[number, [number], [1], number, True] for number in ENDING]


def test_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal, time\n"
        "from hoiclip_engine.cli.signals import stopping_on_signals\n"
        "with stopping_on_signals(lambda: None):\n"
        "    os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PYTHONPATH}, timeout=60)
    assert done.returncode == -signal.SIGTERM
