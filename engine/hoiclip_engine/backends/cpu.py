"""Name, instructions and count of this machine's processors, as Linux reports them."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from functools import cache
from pathlib import Path

CPU_FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16"
)  # fmt: skip
"""Instructions that make a model faster."""
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@cache
def cpu_name() -> str:
    return _fields().get("model name", platform.processor() or platform.machine())


@cache
def cpu_flags() -> tuple[str, ...]:
    """The CPU_FLAGS it has; none where the system does not report any."""
    fields = _fields()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return tuple(flag for flag in CPU_FLAGS if flag in flags)


def cpu_count() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pin_to_cpu_slot(slots: int) -> None:
    """Keeps this process to its fraction of the processors, so that concurrent processes do not disturb each other.

    A locked file marks a slot as taken for as long as the process lives. Where there are fewer processors than slots,
    or nothing can be pinned, every process has all. Call it before anything starts threads.
    """
    count = cpu_count()
    if slots < 2 or count < slots or not hasattr(os, "sched_setaffinity"):
        return
    import fcntl

    processors = sorted(os.sched_getaffinity(0))
    for slot in range(slots):
        path = Path(tempfile.gettempdir()) / f"hoiclip-{os.getuid()}-slot-{slot}-of-{slots}"
        with contextlib.suppress(OSError):  # another process has this one
            file = os.open(path, _OPEN, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # open, and locked, until the process ends
            os.sched_setaffinity(0, processors[slot * count // slots : (slot + 1) * count // slots])
            return


@cache
def _fields() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines.items()}
