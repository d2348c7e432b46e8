"""What NVIDIA's management library tells of the GPU that is measured, through the package nvidia-ml-py."""

from __future__ import annotations

import os
from typing import Any

from hoiclip_engine.bench.told import Told, untold

_MIB = 2**20
_THROTTLING = {
    "nvmlClocksThrottleReasonSwPowerCap": "power cap",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "thermal, software",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "thermal, hardware",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}
"""Reasons that make it slower than it could be; that nobody uses it, or that clocks were set, is none."""


class Nvml:
    """One GPU. Without one, or without the package, `missing` says why and everything is untold."""

    def __init__(self, library: Any = None) -> None:
        """Args: library: the module pynvml; None: imported here."""
        self._library, self._gpu = library, None
        self.missing = ""
        if library is None:
            try:
                import pynvml
            except ImportError:
                self.missing = "nvidia-ml-py is not installed"
                return
            self._library = pynvml
        try:
            self._library.nvmlInit()
            self._gpu = self._chosen()
        except Exception as error:  # its errors are made while it runs, one class per number
            self.missing = f"NVML: {error}"

    @property
    def is_there(self) -> bool:
        return self._gpu is not None

    def name(self) -> Told:
        return self._asked("nvmlDeviceGetName", lambda name: name.decode() if isinstance(name, bytes) else str(name))

    def energy_j(self) -> Told:
        """Since the driver was loaded."""
        return self._asked("nvmlDeviceGetTotalEnergyConsumption", lambda mj: mj / 1e3)

    def used_mib(self) -> Told:
        """Of the whole GPU, by whomever."""
        return self._asked("nvmlDeviceGetMemoryInfo", lambda memory: round(memory.used / _MIB, 1))

    def clock_mhz(self) -> Told:
        """Of the multiprocessors."""
        return self._asked("nvmlDeviceGetClockInfo", int, 1)

    def throttled_by(self) -> Told:
        """Names of what slows it down now; none is an empty list."""
        names = {getattr(self._library, key): said for key, said in _THROTTLING.items() if hasattr(self._library, key)}
        return self._asked(
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            lambda bits: [said for bit, said in names.items() if bits & bit],
        )

    def _chosen(self) -> Any:
        """The first that CUDA sees."""
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if first.startswith("GPU-"):
            return self._library.nvmlDeviceGetHandleByUUID(first)
        return self._library.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)

    def _asked(self, function: str, shown: Any, *arguments: int) -> Told:
        if self._gpu is None:
            return untold(self.missing)
        try:
            return Told(value=shown(getattr(self._library, function)(self._gpu, *arguments)), source="NVML")
        except Exception as error:  # not supported by this GPU, or by this version of the library
            return untold(f"NVML: {error}")
