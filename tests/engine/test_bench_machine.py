"""State of the machine, from folders like its own: meters, clocks, throttling, and reasons for missing values."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hoiclip_engine.bench.energy import EnergyMeter
from hoiclip_engine.bench.machine import Measurement, Nvml, PeakMemory, SpeedProbe, clocks, machine_state, throttling
from hoiclip_engine.bench.report import commit, versions


def put(root: Path, files: dict[str, object]) -> None:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


class NoGpu:
    """NVML as it answers where there is no driver."""

    def nvmlInit(self) -> None:
        raise RuntimeError("NVML Shared Library Not Found")


class OneGpu:
    """NVML as its documentation has it, of a GPU that is too hot."""

    nvmlClocksThrottleReasonSwPowerCap = 0x4
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40

    def __init__(self) -> None:
        self.energy_mj = 1_000_000

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"gpu {index}"

    def nvmlDeviceGetName(self, gpu: str) -> bytes:
        return b"NVIDIA Something"

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: str) -> int:
        self.energy_mj += 30_000
        return self.energy_mj

    def nvmlDeviceGetMemoryInfo(self, gpu: str) -> Any:
        return SimpleNamespace(used=3 << 30)

    def nvmlDeviceGetClockInfo(self, gpu: str, kind: int) -> int:
        raise RuntimeError("Not Supported")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: str) -> int:
        return 0x40 | 0x1


def silent() -> Nvml:
    return Nvml(NoGpu())


def test_measurement_has_either_a_value_or_a_reason() -> None:
    for wrong in ({}, {"value": 1, "reason": "but"}):
        with pytest.raises(ValueError, match="a value or a reason"):
            Measurement(**wrong)


def test_energy_without_meters_gives_the_reason(tmp_path: Path) -> None:
    meter = EnergyMeter(silent(), tmp_path)
    meter.start()
    measurement = meter.per_frame_j(10)
    assert measurement.value is None
    assert measurement.reason is not None
    for word in ("RAPL", "INA", "NVML Shared Library Not Found"):
        assert word in measurement.reason


def test_energy_counter_is_divided_over_frames_and_may_wrap_around(tmp_path: Path) -> None:
    package = "sys/class/powercap/intel-rapl:0/"
    put(
        tmp_path,
        {package + "name": "package-0", package + "energy_uj": 900_000, package + "max_energy_range_uj": 10**6},
    )
    put(tmp_path, {"sys/class/powercap/intel-rapl:0:0/name": "core", "sys/class/powercap/intel-rapl:0:0/energy_uj": 5})
    meter = EnergyMeter(silent(), tmp_path)
    meter.start()
    put(tmp_path, {package + "energy_uj": 400_000})
    assert meter.per_frame_j(5).value == {"package-0": pytest.approx(0.1)}  # 0.1 J to the end, 0.4 J from zero


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_energy_counter_is_the_reason(tmp_path: Path) -> None:
    package = "sys/class/powercap/intel-rapl:0/"
    put(tmp_path, {package + "name": "package-0", package + "energy_uj": 1})
    (tmp_path / package / "energy_uj").chmod(0)
    measurement = EnergyMeter(silent(), tmp_path).per_frame_j(1)
    assert measurement.reason is not None
    assert "may not be read" in measurement.reason


def test_jetson_rails_are_integrated_over_time(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon1/"
    put(tmp_path, {chip + "name": "ina3221", "sys/class/hwmon/hwmon0/name": "nvme"})
    put(tmp_path, {chip + "in1_label": "VDD_IN", chip + "in1_input": 5000, chip + "curr1_input": 2000})
    put(tmp_path, {chip + "in2_label": "VDD_CPU", chip + "in2_input": 5000, chip + "curr2_input": 400})
    meter = EnergyMeter(silent(), tmp_path)
    begun_s = time.monotonic()
    meter.start()
    time.sleep(0.25)
    measurement = meter.per_frame_j(1)
    seconds = time.monotonic() - begun_s
    assert measurement.value["VDD_IN"] == pytest.approx(10 * seconds, rel=0.2)  # watts
    assert measurement.value["VDD_CPU"] == pytest.approx(measurement.value["VDD_IN"] / 5)


def test_nvml_reports_energy_memory_and_throttling(tmp_path: Path) -> None:
    nvml = Nvml(OneGpu())
    assert nvml.is_available
    meter = EnergyMeter(nvml, tmp_path)
    meter.start()
    assert meter.per_frame_j(100).value == {"gpu": pytest.approx(0.3)}
    assert nvml.name().value == "NVIDIA Something"
    assert nvml.used_mib().value == 3072
    assert nvml.throttled_by().value == ["thermal, hardware"]
    assert nvml.clock_mhz().reason == "NVML: Not Supported"


def test_clocks_and_throttling_are_reported_as_changes(tmp_path: Path) -> None:
    (own, *_) = sorted(os.sched_getaffinity(0))
    cpu = "sys/devices/system/cpu/"
    stat = f"cpu  9 9 9 9 9 9 9 9 0 0\ncpu{own} {{}} 0 0 100 0 0 0 {{}} 0 0"
    put(
        tmp_path,
        {
            cpu + "cpu0/cpufreq/scaling_cur_freq": 3_000_000,
            cpu + "cpu1/cpufreq/scaling_cur_freq": 2_000_000,
            cpu + "cpu0/cpufreq/scaling_governor": "powersave",
            cpu + "cpu0/thermal_throttle/core_throttle_count": 3,
            cpu + "cpu0/thermal_throttle/package_throttle_count": 4,
            "sys/fs/cgroup/cpu.stat": "usage_usec 5\nthrottled_usec 1000",
            "proc/stat": stat.format(1000, 10),
        },
    )
    before = machine_state(silent(), tmp_path)
    put(
        tmp_path,
        {
            cpu + "cpu0/cpufreq/scaling_cur_freq": 1_000_000,
            cpu + "cpu0/thermal_throttle/core_throttle_count": 5,
            "sys/fs/cgroup/cpu.stat": "usage_usec 5\nthrottled_usec 4500",
            "proc/stat": stat.format(10**6, 12),
        },
    )
    after = machine_state(silent(), tmp_path)
    section = clocks(before, after)
    assert section["cpu_mhz"]["value"] == {"before": 2500.0, "after": 1500.0}
    assert section["cpu_governor"]["value"] == "powersave"
    assert section["gpu_mhz"]["reason"]
    throttled = throttling(before, after)
    assert throttled["cpu_thermal_events"]["value"] == 2
    assert throttled["cgroup_throttled_ms"]["value"] == pytest.approx(3.5)
    assert throttled["others_share"]["value"] > 1
    assert throttled["stolen_share"]["value"] > 0


def test_machine_without_counters_gives_reasons(tmp_path: Path) -> None:
    state = machine_state(silent(), tmp_path)
    sections = {**clocks(state, state), **throttling(state, state)}
    assert len(sections) == 8
    assert all(value["value"] is None and value["reason"] for value in sections.values())


def test_malformed_system_files_give_no_values(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "proc/stat": "cpu0 a b c",
            "proc/cpuinfo": "cpu MHz : fast\ncpu MHz",
            "sys/fs/cgroup/cpu.stat": "throttled_usec -",
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "nan",
        },
    )
    state = machine_state(silent(), tmp_path)
    assert (state.cpu_mhz, state.thermal_events, state.cgroup_throttled_ms, state.busy_s) == (None,) * 4


def test_peak_memory_and_speed_probe_work_on_this_machine() -> None:
    peak = PeakMemory()
    kept = bytearray(64 << 20)
    kept[::4096] = b"x" * len(kept[::4096])
    before = peak.rss_mib().value
    del kept
    assert before > 64
    probe = SpeedProbe()
    assert 0 < probe() < 1000


def test_provenance_names_commit_and_versions() -> None:
    found = versions(("numpy", "no-such-package"))
    assert set(found) == {"python", "hoiclip", "numpy"}
    found_commit = commit()
    assert found_commit is None or len(found_commit.rstrip("+")) == 12
