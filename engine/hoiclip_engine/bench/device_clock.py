"""What has to be waited for before a time is read: kernels of a GPU are still under way when torch's calls return."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hoiclip_engine.backends import BackendName


def device_wait(backend: BackendName) -> Callable[[], object]:
    """torch.cuda.synchronize where torch computes on CUDA; every other backend's answer lies in the host's memory."""
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.synchronize
    return _nothing


def clock_facts(wait: Callable[[], object]) -> dict[str, Any]:
    """For the report."""
    info = time.get_clock_info("monotonic")
    return {
        "clock": f"time.monotonic ({info.implementation})",
        "resolution_ns": round(info.resolution * 1e9, 3),
        "device": "answers lie in the host's memory" if wait is _nothing else "torch.cuda.synchronize",
    }


def _nothing() -> None:
    return
