"""Builds engines in a subprocess: a builder that crashes, hangs or takes all memory ends nothing but itself.

The subprocess answers into files without a name, and Linux ends it with its parent: no kill leaves a file or a process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import hoiclip_engine
from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip_engine.backends.tensorrt.builder import BuiltEngine, EngineBuildRequest
from hoiclip_engine.backends.tensorrt.library import one_line

BUILD_LIMIT_S = 3600.0
"""The full model takes minutes; a Jetson is slower."""
_MODULE = "hoiclip_engine.backends.tensorrt.builder"


def build_in_subprocess(
    request: EngineBuildRequest, limit_s: float = BUILD_LIMIT_S, module: str = _MODULE
) -> BuiltEngine:
    """Builds, and keeps the timing cache where the request says.

    Args:
        module: the module that `python -m` runs.

    Raises:
        ModelError: it cannot be built, or the builder crashed or took too long.
        BackendMissing: the library or a plugin of it is not installed.
    """
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as stderr:
        code = _run(request, module, limit_s, answer, stderr)
        if code is None:
            raise ModelError(
                f"{request.library} did not build {request.graph} within {limit_s:g} s{_last_line(stderr)}"
            )
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
            raise ModelError(
                f"{request.library} crashed ({name}{hint}) while building {request.graph}{_last_line(stderr)}"
            )
        built = _read_answer(answer) if code == 0 else None
        if built is None:
            raise ModelError(
                f"{request.library} ended without an engine of {request.graph}, code {code}{_last_line(stderr)}"
            )
    if request.timing_cache is not None and built.timing_cache:
        _keep_timings(request.timing_cache, built.timing_cache)
    return built


def _run(request: EngineBuildRequest, module: str, limit_s: float, answer: IO[bytes], stderr: IO[bytes]) -> int | None:
    """The exit code, negative for a signal; None at the time limit."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=answer,
        stderr=stderr,
        env=environment,
        cwd=Path(hoiclip_engine.__file__).parent.parent,  # -m searches there first, and not in the user's folder
        start_new_session=True,  # Ctrl-C reaches this process, which ends the other below
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


def _read_answer(answer: IO[bytes]) -> BuiltEngine | None:
    """The engine; None where the answer is incomplete. Raises ModelError, BackendMissing: the subprocess did."""
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
    return BuiltEngine(engine=engine, layers=head["layers"], timing_cache=answer.read())


def _last_line(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    lines = [line for line in stderr.read().decode(errors="replace").splitlines() if line.strip()]
    return f"; its last line: {one_line(lines[-1])}" if lines else ""


def _keep_timings(path: Path, content: bytes) -> None:
    """Writes the timing cache; without it the next build measures again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
