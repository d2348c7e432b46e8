"""How long each stage takes: a bounded record of durations, and their percentiles."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

KEPT = 4096
"""Durations kept per stage; the latest ones, so that a stream of months stays small."""


class StageTimes:
    """Durations by stage; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms: dict[str, deque[float]] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, (time.perf_counter() - started) * 1e3)

    def add(self, stage: str, duration_ms: float) -> None:
        with self._lock:
            self._ms.setdefault(stage, deque(maxlen=KEPT)).append(duration_ms)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Per stage p50, p90, p99 and mean, in milliseconds."""
        with self._lock:
            kept = {stage: np.array(ms) for stage, ms in self._ms.items()}
        return {
            stage: {
                **{f"p{p}": round(float(np.percentile(ms, p)), 3) for p in (50, 90, 99)},
                "mean": round(float(np.mean(ms)), 3),
            }
            for stage, ms in kept.items()
        }
