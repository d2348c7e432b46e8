"""Calling the command line in tests: in process, and in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class CommandOutput:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    def is_one_error(self, code: int) -> bool:
        """Exactly one line, on standard error, for a person who has never seen Python."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("hoiclip"), self.err
        assert "internal error" not in self.err
        assert (self.code, self.out) == (code, ""), self.err
        return True


Cli = Callable[..., CommandOutput]


PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("", "engine", "kernels"))


def python(*argv: object, stdout: int = subprocess.PIPE, timeout_s: float = 60) -> CommandOutput:
    """Python in a process of its own, as a user's shell would start it."""
    done = subprocess.run(
        [sys.executable, *map(str, argv)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=timeout_s,
    )
    return CommandOutput(done.returncode, done.stdout or "", done.stderr)
