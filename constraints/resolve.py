"""Writes the exact versions that each supported Python installs: `make pins`, then `make test` and commit what passed.

One file a version, py310.txt and so on; pip takes it with `--constraint`. Of the Python that all tests run on it holds
everything, of the others what tests/fresh installs and runs there: without torch, of which they would download
gigabytes. Nothing is installed: pip resolves in a fresh environment and reports what it would take.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fresh.environments import INSTALLED, ROOT, VERSIONS, constraints_file, find_interpreter

WHOLE = "3.11"
WHOLE_EXTRAS = "dev,dev-trt,docs,archive,tensorboard"


def resolve(version: str) -> list[str]:
    """What pip would install, as NAME==VERSION lines by name.

    Raises:
        RuntimeError: the interpreter is not on the machine, or pip cannot resolve the project for it.
    """
    python = find_interpreter(version)
    if python is None:
        raise RuntimeError(f"expected Python {version} as python{version} or from pyenv, found none; install it")
    wanted = (f".[{WHOLE_EXTRAS}]",) if version == WHOLE else (f".{INSTALLED[0]}", *INSTALLED[1:])
    with tempfile.TemporaryDirectory() as folder:
        _run(python, "-m", "venv", folder)
        fresh = f"{folder}/bin/python"
        _run(fresh, "-m", "pip", "install", "-qq", "--upgrade", "pip")  # an old pip reports no versions
        report = f"{folder}/report.json"
        resolving = ("install", "-qq", "--dry-run", "--ignore-installed", "--report", report)
        _run(fresh, "-m", "pip", *resolving, *wanted)
        packages = [one["metadata"] for one in json.loads(Path(report).read_text(encoding="utf-8"))["install"]]
    # Of a version such as 2.13.0+cpu, the part behind the plus says where a file came from: each machine has its own.
    pins = {_canonical(one["name"]): one["version"].split("+")[0] for one in packages}
    return [f"{name}=={pins[name]}" for name in sorted(pins) if name != "hoiclip"]


def _canonical(name: str) -> str:
    """Source: PyPA, name normalisation."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} failed: {done.stderr.strip()[-2000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="such as 3.11; all that are supported by default")
    for version in parser.parse_args().versions:
        try:
            lines = resolve(version)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        head = f"# What Python {version} installs; written by `make pins`.\n"
        constraints_file(version).write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
        print(f"{constraints_file(version)}: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
