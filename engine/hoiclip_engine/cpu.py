"""What this machine's processor is and can do, as Linux tells."""

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
    """Those of CPU_FLAGS it has; none where nothing tells."""
    fields = _fields()
    have = set((fields.get("flags") or fields.get("Features") or "").split())
    return tuple(flag for flag in CPU_FLAGS if flag in have)


def cpu_count() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pin_to_share(shares: int) -> None:
    """Keeps this process to its share of the processors, so that as many processes do not get into each other's way.

    Which share is free, a locked file tells for as long as the process lives. Where there are fewer processors than
    shares, or nothing can be pinned, everybody has all. Call it before anything starts threads.
    """
    count = cpu_count()
    if shares < 2 or count < shares or not hasattr(os, "sched_setaffinity"):
        return
    import fcntl

    mine = sorted(os.sched_getaffinity(0))
    for share in range(shares):
        path = Path(tempfile.gettempdir()) / f"hoiclip-{os.getuid()}-share-{share}-of-{shares}"
        with contextlib.suppress(OSError):  # another process has this one
            file = os.open(path, _OPEN, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # open, and locked, until the process ends
            os.sched_setaffinity(0, mine[share * count // shares : (share + 1) * count // shares])
            return


@cache
def _fields() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines.items()}
