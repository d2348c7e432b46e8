"""Clocks, throttling and who else was at work: whether a timing was taken under fair conditions."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip_engine.bench.nvml import Nvml
from hoiclip_engine.bench.sysfs import as_number, lines, number, text
from hoiclip_engine.bench.told import Told, untold
from hoiclip_engine.cpu import cpu_count


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """Clocks and counters at one moment; None where the machine does not tell."""

    at_s: float
    own_cpu_s: float
    cpu_mhz: float | None
    """Mean over the processors."""
    cpu_mhz_source: str
    governor: str | None
    thermal_events: int | None
    cgroup_throttled_ms: float | None
    busy_s: float | None
    """Processor time of everybody, since boot."""
    stolen_s: float | None
    """Time another virtual machine had the processor."""
    gpu_mhz: Told
    gpu_throttled_by: Told


def machine_state(nvml: Nvml, root: Path = Path("/")) -> MachineState:
    """As of now. Args: root: of the file system."""
    mhz, source = _cpu_mhz(root)
    busy_s, stolen_s = _processor_s(root)
    own = os.times()
    return MachineState(
        at_s=time.monotonic(),
        own_cpu_s=own.user + own.system + own.children_user + own.children_system,
        cpu_mhz=mhz,
        cpu_mhz_source=source,
        governor=text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        thermal_events=_thermal_events(root),
        cgroup_throttled_ms=_cgroup_throttled_ms(root),
        busy_s=busy_s,
        stolen_s=stolen_s,
        gpu_mhz=nvml.clock_mhz(),
        gpu_throttled_by=nvml.throttled_by(),
    )


def clocks(before: MachineState, after: MachineState) -> dict[str, Any]:
    """For the report."""
    cpu = (
        untold("neither cpufreq nor /proc/cpuinfo tells a clock")
        if before.cpu_mhz is None or after.cpu_mhz is None
        else Told(value={"before": before.cpu_mhz, "after": after.cpu_mhz}, source=after.cpu_mhz_source)
    )
    governor = untold("no cpufreq") if after.governor is None else Told(value=after.governor, source="cpufreq")
    return {"cpu_mhz": cpu.to_json(), "cpu_governor": governor.to_json(), "gpu_mhz": after.gpu_mhz.to_json()}


def throttling(before: MachineState, after: MachineState) -> dict[str, Any]:
    """For the report: what happened between the two."""
    seconds = max(after.at_s - before.at_s, 1e-9)
    whole_s = seconds * cpu_count()
    others, stolen = untold("no /proc/stat"), untold("no /proc/stat")
    if before.busy_s is not None and after.busy_s is not None:
        theirs_s = (after.busy_s - before.busy_s) - (after.own_cpu_s - before.own_cpu_s)
        others = Told(value=round(max(0.0, theirs_s) / whole_s, 4), source="/proc/stat, of this process's processors")
    if before.stolen_s is not None and after.stolen_s is not None:
        stolen = Told(value=round((after.stolen_s - before.stolen_s) / whole_s, 4), source="/proc/stat")
    thermal = _risen(before.thermal_events, after.thermal_events, "no thermal_throttle counters in sysfs", "sysfs")
    cgroup = _risen(before.cgroup_throttled_ms, after.cgroup_throttled_ms, "no cpu.stat of a control group", "cpu.stat")
    return {
        "cpu_thermal_events": thermal.to_json(),
        "cgroup_throttled_ms": cgroup.to_json(),
        "others_share": others.to_json(),
        "stolen_share": stolen.to_json(),
        "gpu_throttled_by": after.gpu_throttled_by.to_json(),
    }


def _risen(before: float | None, after: float | None, reason: str, source: str) -> Told:
    if before is None or after is None:
        return untold(reason)
    return Told(value=round(after - before, 3), source=source)


def _cpu_mhz(root: Path) -> tuple[float | None, str]:
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    khz = [one for one in map(number, files) if one is not None]
    if khz:
        return round(sum(khz) / len(khz) / 1e3, 1), "cpufreq"
    told = [line.partition(":")[2] for line in lines(root / "proc/cpuinfo") if line.startswith("cpu MHz")]
    mhz = [one for one in map(as_number, told) if one is not None]
    return (round(sum(mhz) / len(mhz), 1), "/proc/cpuinfo") if mhz else (None, "")


def _thermal_events(root: Path) -> int | None:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [one for one in map(number, files) if one is not None]
    return int(sum(counts)) if counts else None


def _cgroup_throttled_ms(root: Path) -> float | None:
    """Time this process's group was kept from running because it had used up its share; version 2, or 1."""
    for name, key, unit_ms in (("cpu.stat", "throttled_usec", 1e-3), ("cpu/cpu.stat", "throttled_time", 1e-6)):
        for line in lines(root / "sys/fs/cgroup" / name):
            words = line.split()
            if len(words) == 2 and words[0] == key and words[1].isdigit():
                return int(words[1]) * unit_ms
    return None


def _processor_s(root: Path) -> tuple[float | None, float | None]:
    """Busy and stolen seconds of the processors that this process may use."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(cpu_count()))
    names, busy, stolen, found = {f"cpu{number}" for number in mine}, 0, 0, False
    for line in lines(root / "proc/stat"):
        words = line.split()
        if words and words[0] in names and len(words) > 8 and all(word.isdigit() for word in words[1:9]):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[1:9])
            busy, stolen, found = busy + user + nice + system + irq + softirq, stolen + steal, True
    hertz = os.sysconf("SC_CLK_TCK") if found else 1
    return (busy / hertz, stolen / hertz) if found else (None, None)
