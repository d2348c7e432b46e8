"""From the command to its first result: a fresh process each time, timed as a shell would see it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hoiclip
import hoiclip_engine
import hoiclip_kernels
from hoiclip.errors import SourceError

_FIRST = '{"type":"frame"'
LONGEST_S = 600.0


def first_result_ms(film: str | Path, options: Sequence[str] = ()) -> float:
    """Milliseconds from starting `hoiclip run` until the first frame's JSON line can be read from its output.

    Args:
        options: of `hoiclip run`.

    Raises:
        SourceError: it gave no frame; the message is the command's own.
    """
    words = [sys.executable, "-m", "hoiclip_engine.cli", "run", str(film), "--jsonl", "-", "--max-frames", "1"]
    started = time.monotonic()
    with subprocess.Popen(
        [*words, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_same_code()
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_FIRST):
                taken_ms = (time.monotonic() - started) * 1e3
                process.communicate(timeout=LONGEST_S)
                return taken_ms
        said = " ".join(process.communicate()[1].split())
    raise SourceError(f"a fresh process gave no result: {said[-300:] or 'it said nothing'}")


def _same_code() -> dict[str, str]:
    """The new process imports what this one has imported, wherever it was found."""
    roots = [str(Path(str(one.__file__)).parents[1]) for one in (hoiclip, hoiclip_engine, hoiclip_kernels)]
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*dict.fromkeys(roots), *([known] if known else [])])}
