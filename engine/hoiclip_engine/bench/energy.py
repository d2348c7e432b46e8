"""Energy per frame, where there is a meter: NVML, the processor's own counters, or power rails of a Jetson."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hoiclip_engine.bench.machine import Measurement, Nvml, read_number, read_text, unavailable

SAMPLED_S = 0.1
"""Rails report watts, which are integrated over time; the other meters count joules."""
_RAIL_CHIPS = frozenset(("ina3221", "ina219", "ina226", "ina230", "ina238"))


class EnergyMeter:
    """Meters of energy; started before the measurement, read after it."""

    def __init__(self, nvml: Nvml, root: Path = Path("/")) -> None:
        """Args: root: of the file system."""
        self._nvml, self._root = nvml, root
        self._packages = list(_packages(root))
        self._rails = list(_rails(root))
        self._before: dict[str, float] = {}
        self._rail_j = dict.fromkeys((name for name, _ in self._rails), 0.0)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._before = self._counters_j()
        if self._rails:
            self._thread = threading.Thread(target=self._integrate_rails, name="hoiclip-bench-rails", daemon=True)
            self._thread.start()

    def per_frame_j(self, frames: int) -> Measurement:
        """Joules by meter, of the whole device, divided by the frames since the start."""
        after = self._counters_j()
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        spent = {name: _difference(self._before[name], after[name], self._range_j(name)) for name in self._before}
        spent |= self._rail_j
        if not spent:
            return unavailable(f"no meter: {self._why_not()}")
        if not frames:
            return unavailable("no frame was answered")
        return Measurement(
            value={name: round(joules / frames, 6) for name, joules in spent.items()},
            source="whole devices, idle power and other programs included",
        )

    def _counters_j(self) -> dict[str, float]:
        found = {}
        for name, folder in self._packages:
            joules = read_number(folder / "energy_uj")
            if joules is not None:
                found[name] = joules / 1e6
        gpu = self._nvml.energy_j()
        if gpu.value is not None:
            found["gpu"] = gpu.value
        return found

    def _range_j(self, name: str) -> float | None:
        """Value at which a counter wraps around."""
        folder = dict(self._packages).get(name)
        largest = None if folder is None else read_number(folder / "max_energy_range_uj")
        return None if largest is None else largest / 1e6

    def _integrate_rails(self) -> None:
        last_s = time.monotonic()
        while True:
            ended = self._stopped.wait(SAMPLED_S)
            now_s = time.monotonic()
            for name, folder in self._rails:
                self._rail_j[name] += (_watts(folder, name) or 0.0) * (now_s - last_s)
            last_s = now_s
            if ended:
                return

    def _why_not(self) -> str:
        rapl = (
            f"{self._packages[0][1] / 'energy_uj'} may not be read by this user"
            if self._packages
            else "no RAPL counters in /sys/class/powercap"
        )
        return f"{rapl}; no INA rails in /sys/class/hwmon; {self._nvml.energy_j().reason}"


def _packages(root: Path) -> Iterator[tuple[str, Path]]:
    """Processor packages with an energy counter, whether it may be read or not."""
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = read_text(folder / "name")
        if name is not None and name.startswith("package"):
            yield name, folder


def _rails(root: Path) -> Iterator[tuple[str, Path]]:
    """Names of rails, and the folders of the chips that measure them."""
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read_text(folder / "name") not in _RAIL_CHIPS:
            continue
        if (folder / "power1_input").exists():
            yield folder.name, folder
        for label in sorted(folder.glob("in[1-3]_label")):
            name = read_text(label)
            if name and _watts(folder, name) is not None:
                yield name, folder


def _watts(folder: Path, name: str) -> float | None:
    """Power of a rail now: from the chip where it reports power, else voltage times current."""
    power_uw = read_number(folder / "power1_input")
    if power_uw is not None:
        return power_uw / 1e6
    for label in folder.glob("in[1-3]_label"):
        if read_text(label) == name:
            row = label.name[2]
            millivolts, milliamperes = read_number(folder / f"in{row}_input"), read_number(folder / f"curr{row}_input")
            return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6
    return None


def _difference(before: float, after: float, largest: float | None) -> float:
    return after - before if after >= before or largest is None else after + largest - before
