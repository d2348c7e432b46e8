"""The most memory a measurement took: of this process, and of the GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hoiclip_engine.backends import BackendName
from hoiclip_engine.bench.nvml import Nvml
from hoiclip_engine.bench.told import Told, untold

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"


class PeakMemory:
    """From its making on, where the system can forget an earlier peak."""

    def __init__(self) -> None:
        try:
            _CLEAR.write_text(_FORGET_PEAK, encoding="ascii")
            self._since = "since the measurement began"
        except OSError:
            self._since = "since the process began"

    def rss_mib(self) -> Told:
        for line in _status_lines():
            if line.startswith("VmHWM:"):
                return Told(value=round(int(line.split()[1]) / 1024, 1), source=f"VmHWM, {self._since}")
        try:
            import resource
        except ImportError:
            return untold("neither /proc nor getrusage tells a peak")
        unit_bytes = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 2**20
        return Told(value=round(peak, 1), source="getrusage, since the process began")


def gpu_mib(nvml: Nvml, backend: BackendName) -> Told:
    """What torch took at most where torch computes, else what is in use on the GPU at the end."""
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return Told(value=round(torch.cuda.max_memory_reserved() / 2**20, 1), source="torch.cuda, reserved")
    return nvml.used_mib()


def _status_lines() -> list[str]:
    try:
        return _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def memory(peak: PeakMemory, nvml: Nvml, backend: BackendName) -> dict[str, Any]:
    """For the report."""
    return {"peak_rss_mib": peak.rss_mib().to_json(), "gpu_mib": gpu_mib(nvml, backend).to_json()}
