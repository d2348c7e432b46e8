"""Timing side by side in one run, and result lines with their provenance.

Machines are noisy: only ratios between calls timed in the same run are worth quoting.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.core.wall_time import utc_text
from hoiclip_engine.backends.cpu import cpu_count, cpu_flags, cpu_name
from hoiclip_engine.bench.report import commit
from hoiclip_engine.bench.turns import settle

RESULTS = Path(__file__).parent / "results"


def side_by_side(calls: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Milliseconds of every call, timed in turns so that a slow moment affects all of them alike.

    Before each timed call the same call runs untimed, until no thread spins for the previous call any more.
    """
    for _ in range(warmup):
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            settle(call)
            started = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - started) * 1e3)
    return times


def statistics(times_ms: list[float]) -> dict[str, float]:
    """Median, 90th and 99th percentile, minimum and count."""
    values = np.array(times_ms)
    return {
        "median_ms": round(float(np.median(values)), 3),
        "p90_ms": round(float(np.percentile(values, 90)), 3),
        "p99_ms": round(float(np.percentile(values, 99)), 3),
        "min_ms": round(float(values.min()), 3),
        "n": len(times_ms),
    }


def provenance(*packages: str) -> dict[str, Any]:
    """Machine, versions, commit and time of a result line."""
    return {
        "machine": machine(),
        "flags": list(cpu_flags()),  # processors of one name differ in these, and in speed by them
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "commit": commit() or "unknown",
        "time": utc_text(),
    }


def machine() -> str:
    """CPU name and number of usable cores."""
    return f"{cpu_name()}, {cpu_count()} cores"


def append(name: str, line: Mapping[str, Any]) -> None:
    """Appends one JSON line to results/NAME.jsonl, and prints it."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(line)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    print(text)
