"""The machine under a measurement: clocks, throttling, memory, the GPU, and how fast it is at the moment.

Not every machine reports everything, so each number is a Measurement: a value, or the reason why there is none.
"""

from __future__ import annotations

import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip_engine.backends.base import BackendName
from hoiclip_engine.backends.cpu import cpu_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A value that not every machine reports. Exactly one of value and reason is None."""

    value: Any = None
    reason: str | None = None
    """Why there is no value, in a few words."""
    source: str | None = None
    """Library or file that it was read from."""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"expected a value or a reason, got {self}")

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "reason": self.reason, "source": self.source}


def unavailable(reason: str) -> Measurement:
    """A measurement without a value."""
    return Measurement(reason=reason)


def read_text(path: Path) -> str | None:
    """Content of a small file of sysfs or procfs; None where it is missing or may not be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def read_lines(path: Path) -> list[str]:
    return (read_text(path) or "").splitlines()


def read_number(path: Path) -> float | None:
    return parse_number(read_text(path))


def parse_number(found: str | None) -> float | None:
    try:
        value = math.nan if found is None else float(found)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


_MIB = 2**20
_THROTTLING = {
    "nvmlClocksThrottleReasonSwPowerCap": "power cap",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "thermal, software",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "thermal, hardware",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}
"""Reasons for which the GPU is slower than it could be; an idle GPU or clocks that were set are none."""


class Nvml:
    """One GPU through NVML. Without a GPU or the package, `missing` says why and every measurement is unavailable."""

    def __init__(self, library: Any = None) -> None:
        """Args: library: the module pynvml; None: imports it."""
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
            self._gpu = self._select_gpu()
        except Exception as error:  # NVML makes its error classes at run time, one per number
            self.missing = f"NVML: {error}"

    @property
    def is_available(self) -> bool:
        return self._gpu is not None

    def name(self) -> Measurement:
        return self._query("nvmlDeviceGetName", lambda name: name.decode() if isinstance(name, bytes) else str(name))

    def energy_j(self) -> Measurement:
        """Energy since the driver was loaded."""
        return self._query("nvmlDeviceGetTotalEnergyConsumption", lambda mj: mj / 1e3)

    def used_mib(self) -> Measurement:
        """Memory of the GPU in use by all processes."""
        return self._query("nvmlDeviceGetMemoryInfo", lambda memory: round(memory.used / _MIB, 1))

    def clock_mhz(self) -> Measurement:
        """Clock of the multiprocessors."""
        return self._query("nvmlDeviceGetClockInfo", int, 1)

    def throttled_by(self) -> Measurement:
        """Current reasons for throttling; an empty list where there are none."""
        names = {
            getattr(self._library, key): reason for key, reason in _THROTTLING.items() if hasattr(self._library, key)
        }
        return self._query(
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            lambda bits: [reason for bit, reason in names.items() if bits & bit],
        )

    def _select_gpu(self) -> Any:
        """Handle of the first GPU that CUDA sees."""
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if first.startswith("GPU-"):
            return self._library.nvmlDeviceGetHandleByUUID(first)
        return self._library.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)

    def _query(self, function: str, convert: Any, *arguments: int) -> Measurement:
        if self._gpu is None:
            return unavailable(self.missing)
        try:
            return Measurement(value=convert(getattr(self._library, function)(self._gpu, *arguments)), source="NVML")
        except Exception as error:  # not supported by this GPU, or by this version of the library
            return unavailable(f"NVML: {error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """Clocks and counters at one moment; None where the machine does not report them."""

    at_s: float
    own_cpu_s: float
    cpu_mhz: float | None
    """Mean over the cores."""
    cpu_mhz_source: str
    governor: str | None
    thermal_events: int | None
    cgroup_throttled_ms: float | None
    busy_s: float | None
    """Processor time of all processes since boot."""
    stolen_s: float | None
    """Time during which another virtual machine had the processor."""
    gpu_mhz: Measurement
    gpu_throttled_by: Measurement


def machine_state(nvml: Nvml, root: Path = Path("/")) -> MachineState:
    """Reads the current state. Args: root: of the file system."""
    mhz, source = _cpu_mhz(root)
    busy_s, stolen_s = _processor_s(root)
    own = os.times()
    return MachineState(
        at_s=time.monotonic(),
        own_cpu_s=own.user + own.system + own.children_user + own.children_system,
        cpu_mhz=mhz,
        cpu_mhz_source=source,
        governor=read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        thermal_events=_thermal_events(root),
        cgroup_throttled_ms=_cgroup_throttled_ms(root),
        busy_s=busy_s,
        stolen_s=stolen_s,
        gpu_mhz=nvml.clock_mhz(),
        gpu_throttled_by=nvml.throttled_by(),
    )


def clocks(before: MachineState, after: MachineState) -> dict[str, Any]:
    """Report section of the clocks."""
    cpu = (
        unavailable("neither cpufreq nor /proc/cpuinfo reports a clock")
        if before.cpu_mhz is None or after.cpu_mhz is None
        else Measurement(value={"before": before.cpu_mhz, "after": after.cpu_mhz}, source=after.cpu_mhz_source)
    )
    governor = (
        unavailable("no cpufreq") if after.governor is None else Measurement(value=after.governor, source="cpufreq")
    )
    return {"cpu_mhz": cpu.to_json(), "cpu_governor": governor.to_json(), "gpu_mhz": after.gpu_mhz.to_json()}


def throttling(before: MachineState, after: MachineState) -> dict[str, Any]:
    """Report section of what happened between the two states."""
    seconds = max(after.at_s - before.at_s, 1e-9)
    whole_s = seconds * cpu_count()
    others, stolen = unavailable("no /proc/stat"), unavailable("no /proc/stat")
    if before.busy_s is not None and after.busy_s is not None:
        theirs_s = (after.busy_s - before.busy_s) - (after.own_cpu_s - before.own_cpu_s)
        others = Measurement(
            value=round(max(0.0, theirs_s) / whole_s, 4), source="/proc/stat, of this process's processors"
        )
    if before.stolen_s is not None and after.stolen_s is not None:
        stolen = Measurement(value=round((after.stolen_s - before.stolen_s) / whole_s, 4), source="/proc/stat")
    thermal = _risen(before.thermal_events, after.thermal_events, "no thermal_throttle counters in sysfs", "sysfs")
    cgroup = _risen(before.cgroup_throttled_ms, after.cgroup_throttled_ms, "no cpu.stat of a control group", "cpu.stat")
    return {
        "cpu_thermal_events": thermal.to_json(),
        "cgroup_throttled_ms": cgroup.to_json(),
        "others_share": others.to_json(),
        "stolen_share": stolen.to_json(),
        "gpu_throttled_by": after.gpu_throttled_by.to_json(),
    }


def _risen(before: float | None, after: float | None, reason: str, source: str) -> Measurement:
    if before is None or after is None:
        return unavailable(reason)
    return Measurement(value=round(after - before, 3), source=source)


def _cpu_mhz(root: Path) -> tuple[float | None, str]:
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    khz = [value for value in map(read_number, files) if value is not None]
    if khz:
        return round(sum(khz) / len(khz) / 1e3, 1), "cpufreq"
    values = [line.partition(":")[2] for line in read_lines(root / "proc/cpuinfo") if line.startswith("cpu MHz")]
    mhz = [value for value in map(parse_number, values) if value is not None]
    return (round(sum(mhz) / len(mhz), 1), "/proc/cpuinfo") if mhz else (None, "")


def _thermal_events(root: Path) -> int | None:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [value for value in map(read_number, files) if value is not None]
    return int(sum(counts)) if counts else None


def _cgroup_throttled_ms(root: Path) -> float | None:
    """Time this process's group was kept from running because it had used up its quota; cgroup version 2, or 1."""
    for name, key, unit_ms in (("cpu.stat", "throttled_usec", 1e-3), ("cpu/cpu.stat", "throttled_time", 1e-6)):
        for line in read_lines(root / "sys/fs/cgroup" / name):
            words = line.split()
            if len(words) == 2 and words[0] == key and words[1].isdigit():
                return int(words[1]) * unit_ms
    return None


def _processor_s(root: Path) -> tuple[float | None, float | None]:
    """Busy and stolen seconds of the processors that this process may use."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(cpu_count()))
    names, busy, stolen, found = {f"cpu{core}" for core in mine}, 0, 0, False
    for line in read_lines(root / "proc/stat"):
        words = line.split()
        if words and words[0] in names and len(words) > 8 and all(word.isdigit() for word in words[1:9]):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[1:9])
            busy, stolen, found = busy + user + nice + system + irq + softirq, stolen + steal, True
    hertz = os.sysconf("SC_CLK_TCK") if found else 1
    return (busy / hertz, stolen / hertz) if found else (None, None)


_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Peak memory of this process since construction, where the system can reset an earlier peak."""

    def __init__(self) -> None:
        try:
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
            self._since = "since the measurement began"
        except OSError:
            self._since = "since the process began"

    def rss_mib(self) -> Measurement:
        for line in _status_lines():
            if line.startswith("VmHWM:"):
                return Measurement(value=round(int(line.split()[1]) / 1024, 1), source=f"VmHWM, {self._since}")
        try:
            import resource
        except ImportError:
            return unavailable("neither /proc nor getrusage reports a peak")
        unit_bytes = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 2**20
        return Measurement(value=round(peak, 1), source="getrusage, since the process began")


def gpu_mib(nvml: Nvml, backend: BackendName) -> Measurement:
    """Peak reserved by torch where torch computes on the GPU, else what is in use on the GPU at the end."""
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return Measurement(value=round(torch.cuda.max_memory_reserved() / 2**20, 1), source="torch.cuda, reserved")
    return nvml.used_mib()


def _status_lines() -> list[str]:
    try:
        return _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def memory(peak: PeakMemory, nvml: Nvml, backend: BackendName) -> dict[str, Any]:
    """Report section of memory."""
    return {"peak_rss_mib": peak.rss_mib().to_json(), "gpu_mib": gpu_mib(nvml, backend).to_json()}


SIDE = 64
PRODUCTS = 8
"""Few enough for all matrices to stay in a core's own cache, which leaves the model's data in the shared one."""
ROUNDS = 6
REPEATS = 10
SETTLE_S = 0.005
"""Threads of the model spin for a while after an inference, and would disturb the probe."""
PROBE_DESCRIPTION = (
    f"least of {REPEATS} times that {ROUNDS * PRODUCTS} float32 products of {SIDE}x{SIDE} took each core, by numpy"
)


class SpeedProbe:
    """Times a fixed piece of work between blocks: how fast this machine is at the moment.

    Clocks, neighbours and schedulers make the same program faster and slower from second to second. A comparison of two
    runs divides that out, as far as this work slows down with what is measured: products of matrices on every core that
    are waited for together, as a model's layers are. It uses numpy alone, so that a change of a backend, or of ours,
    never changes it. Each product is too small for the threads of numpy's own library, which would keep spinning and
    take the processor from the inferences that follow. Call it with nothing else under way.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._factors = [rng.standard_normal((3, PRODUCTS, SIDE, SIDE)).astype(np.float32) for _ in range(cpu_count())]
        self._pool = ThreadPoolExecutor(len(self._factors), "hoiclip-bench-probe")
        self()

    def __call__(self) -> float:
        """Milliseconds that the work takes now."""
        time.sleep(SETTLE_S)
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            for _ in self._pool.map(_multiply, self._factors):
                pass
            times.append(time.perf_counter() - started)
        # The scheduler now and then starts two threads on one core, which the model's own threads do not suffer.
        return min(times) * 1e3

    def close(self) -> None:
        self._pool.shutdown()


def _multiply(left_right_out: NDArray[np.float32]) -> None:
    left, right, out = left_right_out
    for _ in range(ROUNDS):
        np.matmul(left, right, out=out)
