"""Commands that take long end in order when they are told to, and only then."""

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

from hoiclip_engine.commands.signals import ENDING
from tests.engine.running import times_of
from tests.engine.saying import PYTHONPATH


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
def test_a_drawn_film_that_is_broken_off_can_be_played(number: signal.Signals, tmp_path: Path) -> None:
    process = started("data", "draw", "--video", "1", "--duration", "600", "--out", tmp_path)
    wait_for(tmp_path / "film_0000.jsonl", process, 20_000)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "")
    film = next(iter(tmp_path.glob("*.mp4")))
    assert len(times_of(film)) > 3


def test_what_nohup_has_made_deaf_stays_so(tmp_path: Path) -> None:
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
from hoiclip_engine.commands.signals import ENDING, Signalled, raising_on_signals, stopping_on_signals

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


def test_every_signal_that_ends_asks_once() -> None:
    """In a process of its own: what goes wrong here ends it, and with it all tests that were still to come."""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run([sys.executable, "-c", EACH], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said == [[number, [number], [1], number, True] for number in ENDING]


def test_who_insists_ends_it_at_once() -> None:
    code = (
        "import os, signal, time\n"
        "from hoiclip_engine.commands.signals import stopping_on_signals\n"
        "with stopping_on_signals(lambda: None):\n"
        "    os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PYTHONPATH}, timeout=60)
    assert done.returncode == -signal.SIGTERM
