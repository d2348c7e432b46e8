"""What this machine's processor is and can do, as Linux tells."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

CPU_FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16"
)  # fmt: skip
"""Instructions that make a model faster."""


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


@cache
def _fields() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines.items()}
