"""Builds engines in a process apart: a builder that crashes, hangs or eats all memory ends nothing but itself.

The process answers into files without a name, and Linux ends it with its parent: whatever is killed, nothing is left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import hoiclip_engine
from hoiclip.errors import BackendMissing, ModelError
from hoiclip_engine.tensorrt_build import BuildRequest, Built
from hoiclip_engine.tensorrt_library import one_line

LIMIT_S = 3600.0
"""The full model takes minutes; a Jetson is slower."""
_MODULE = "hoiclip_engine.tensorrt_build"


def build_apart(request: BuildRequest, limit_s: float = LIMIT_S, module: str = _MODULE) -> Built:
    """Builds, and keeps the timing cache where the request says.

    Args:
        module: what is run, `python -m`.

    Raises:
        ModelError: it cannot be built, or the builder crashed or took too long.
        BackendMissing: the library or a plugin of it is not installed.
    """
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        code = _run(request, module, limit_s, answer, said)
        if code is None:
            raise ModelError(f"{request.library} did not build {request.graph} within {limit_s:g} s{_last(said)}")
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
            raise ModelError(f"{request.library} crashed ({name}{hint}) while building {request.graph}{_last(said)}")
        built = _read(answer) if code == 0 else None
        if built is None:
            raise ModelError(f"{request.library} ended without an engine of {request.graph}, code {code}{_last(said)}")
    if request.timing_cache is not None and built.timing_cache:
        _keep(request.timing_cache, built.timing_cache)
    return built


def _run(request: BuildRequest, module: str, limit_s: float, answer: IO[bytes], said: IO[bytes]) -> int | None:
    """The exit code, negative for a signal; None where time was up."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=answer,
        stderr=said,
        env=environment,
        cwd=Path(hoiclip_engine.__file__).parent.parent,  # -m looks there first, and not where the user happens to be
        start_new_session=True,  # Ctrl-C is for us; we end it below
    )
    try:
        process.communicate(request.to_json().encode(), timeout=limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode


def _read(answer: IO[bytes]) -> Built | None:
    """Raises ModelError, BackendMissing: as the other process did."""
    answer.seek(0)
    line = answer.readline()
    if not line.endswith(b"\n"):
        return None
    head = json.loads(line)
    if "error" in head:
        raise (BackendMissing if head["missing"] else ModelError)(head["error"])
    engine = answer.read(head["engine"])
    if len(engine) != head["engine"]:
        return None
    return Built(engine=engine, layers=head["layers"], timing_cache=answer.read())


def _last(said: IO[bytes]) -> str:
    said.seek(0)
    lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    return f"; its last words: {one_line(lines[-1])}" if lines else ""


def _keep(path: Path, content: bytes) -> None:
    """Whole or not at all; without it the next build measures again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except OSError:
        Path(part).unlink(missing_ok=True)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
