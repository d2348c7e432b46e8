"""What a machine tells of itself, from folders like its own: meters, clocks, throttling, and reasons for silence."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hoiclip_engine.bench.energy import EnergyMeter
from hoiclip_engine.bench.machine_state import clocks, machine_state, throttling
from hoiclip_engine.bench.memory import PeakMemory
from hoiclip_engine.bench.nvml import Nvml
from hoiclip_engine.bench.provenance import commit, versions
from hoiclip_engine.bench.speed_probe import SpeedProbe
from hoiclip_engine.bench.told import Told


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


def test_a_number_has_a_value_or_a_reason_and_never_both() -> None:
    for wrong in ({}, {"value": 1, "reason": "but"}):
        with pytest.raises(ValueError, match="a value or a reason"):
            Told(**wrong)


def test_a_machine_without_meters_says_why_there_is_no_energy(tmp_path: Path) -> None:
    meter = EnergyMeter(silent(), tmp_path)
    meter.start()
    told = meter.per_frame_j(10)
    assert told.value is None
    assert told.reason is not None
    for word in ("RAPL", "INA", "NVML Shared Library Not Found"):
        assert word in told.reason


def test_a_counter_of_the_processor_is_shared_out_over_frames_and_may_start_over(tmp_path: Path) -> None:
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
def test_a_counter_that_may_not_be_read_is_the_reason(tmp_path: Path) -> None:
    package = "sys/class/powercap/intel-rapl:0/"
    put(tmp_path, {package + "name": "package-0", package + "energy_uj": 1})
    (tmp_path / package / "energy_uj").chmod(0)
    told = EnergyMeter(silent(), tmp_path).per_frame_j(1)
    assert told.reason is not None
    assert "may not be read" in told.reason


def test_rails_of_a_jetson_are_summed_up_over_time(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon1/"
    put(tmp_path, {chip + "name": "ina3221", "sys/class/hwmon/hwmon0/name": "nvme"})
    put(tmp_path, {chip + "in1_label": "VDD_IN", chip + "in1_input": 5000, chip + "curr1_input": 2000})
    put(tmp_path, {chip + "in2_label": "VDD_CPU", chip + "in2_input": 5000, chip + "curr2_input": 400})
    meter = EnergyMeter(silent(), tmp_path)
    begun_s = time.monotonic()
    meter.start()
    time.sleep(0.25)
    told = meter.per_frame_j(1)
    seconds = time.monotonic() - begun_s
    assert told.value["VDD_IN"] == pytest.approx(10 * seconds, rel=0.2)  # watts
    assert told.value["VDD_CPU"] == pytest.approx(told.value["VDD_IN"] / 5)


def test_a_gpu_is_asked_for_energy_memory_and_why_it_is_slow(tmp_path: Path) -> None:
    nvml = Nvml(OneGpu())
    assert nvml.is_there
    meter = EnergyMeter(nvml, tmp_path)
    meter.start()
    assert meter.per_frame_j(100).value == {"gpu": pytest.approx(0.3)}
    assert nvml.name().value == "NVIDIA Something"
    assert nvml.used_mib().value == 3072
    assert nvml.throttled_by().value == ["thermal, hardware"]
    assert nvml.clock_mhz().reason == "NVML: Not Supported"


def test_clocks_and_throttling_are_told_as_they_changed(tmp_path: Path) -> None:
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
    told = clocks(before, after)
    assert told["cpu_mhz"]["value"] == {"before": 2500.0, "after": 1500.0}
    assert told["cpu_governor"]["value"] == "powersave"
    assert told["gpu_mhz"]["reason"]
    throttled = throttling(before, after)
    assert throttled["cpu_thermal_events"]["value"] == 2
    assert throttled["cgroup_throttled_ms"]["value"] == pytest.approx(3.5)
    assert throttled["others_share"]["value"] > 1
    assert throttled["stolen_share"]["value"] > 0


def test_a_machine_that_tells_nothing_gives_reasons(tmp_path: Path) -> None:
    state = machine_state(silent(), tmp_path)
    told = {**clocks(state, state), **throttling(state, state)}
    assert len(told) == 8
    assert all(one["value"] is None and one["reason"] for one in told.values())


def test_files_of_nonsense_tell_nothing(tmp_path: Path) -> None:
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


def test_this_machine_tells_its_memory_and_speed() -> None:
    peak = PeakMemory()
    kept = bytearray(64 << 20)
    kept[::4096] = b"x" * len(kept[::4096])
    before = peak.rss_mib().value
    del kept
    assert before > 64
    probe = SpeedProbe()
    assert 0 < probe() < 1000


def test_a_result_says_which_code_and_versions_it_is_of() -> None:
    found = versions(("numpy", "no-such-package"))
    assert set(found) == {"python", "hoiclip", "numpy"}
    made = commit()
    assert made is None or len(made.rstrip("+")) == 12
