"""When a machine is warm: caches filled, clocks up, buffers grown. The rule is written into every report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hoiclip_engine.bench.sample import Sample

WITHIN = 0.05
WINDOWS = 3
WINDOW_S = 0.25
FEWEST = 5
"""Samples of a window, however long they take."""
LONGEST_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """How it went."""

    stable: bool
    seconds: float
    window_ms: list[float]
    """Median work at a query, window by window."""
    latency_ms: float
    """Median latency of the last window."""
    longest_s: float

    def to_json(self) -> dict[str, Any]:
        shown = [round(ms, 4) for ms in self.window_ms]
        criterion = (
            f"the medians of {WINDOWS} windows in a row (each {WINDOW_S} s and {FEWEST} queries at least) lie within "
            f"{WITHIN:.0%} of each other; after {self.longest_s:g} s it is given up"
        )
        return {"criterion": criterion, "stable": self.stable, "seconds": round(self.seconds, 3), "window_ms": shown}


def warmed_up(following: Callable[[], Sample], longest_s: float) -> WarmUp:
    """Takes samples until they are stable, or until time is up."""
    begun_s, medians = time.monotonic(), list[float]()
    while True:
        window = _window(following)
        medians.append(float(np.median([one.service_ms for one in window])))
        passed_s = time.monotonic() - begun_s
        stable = is_stable(medians)
        if stable or passed_s > longest_s:
            latency_ms = float(np.median([one.latency_ms for one in window]))
            return WarmUp(
                stable=stable, seconds=passed_s, window_ms=medians, latency_ms=latency_ms, longest_s=longest_s
            )


def is_stable(medians: list[float]) -> bool:
    last = medians[-WINDOWS:]
    return len(last) == WINDOWS and max(last) <= (1 + WITHIN) * min(last)


def _window(following: Callable[[], Sample]) -> list[Sample]:
    samples, ends_s = list[Sample](), time.monotonic() + WINDOW_S
    while len(samples) < FEWEST or time.monotonic() < ends_s:
        samples.append(following())
    return samples
