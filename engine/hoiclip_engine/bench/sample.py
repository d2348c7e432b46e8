"""What is kept of a measurement: every answer, in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hoiclip_engine.clock import StageTimes

F64 = NDArray[np.float64]
LOOKING = ("preprocess", "infer", "postprocess", "track")
"""Stages that a frame goes through once somebody works at it."""
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answered query: a frame, or in a closed load a frame of each stream."""

    done_s: float
    """time.monotonic() of the answer."""
    latency_ms: float
    stage_ms: Sequence[Mapping[str, float]]
    """What every frame of it took."""
    queue_ms: float
    """How long its oldest frame waited for somebody to work at it."""
    dropped: int = 0
    """Frames skipped since the sample before."""

    @property
    def frames(self) -> int:
        return len(self.stage_ms)

    @property
    def service_ms(self) -> float:
        """Work at a frame, waiting not counted; of several at once, the longest."""
        return max(sum(of_frame.values()) for of_frame in self.stage_ms)


@dataclass(slots=True)
class Block:
    """A part of the measurement."""

    begun_s: float
    """time.monotonic()"""
    seconds: float = 0.0
    probe_ms: float | None = None
    """What the fixed piece of work took just before it."""
    samples: list[Sample] = field(default_factory=list)

    @property
    def latency_ms(self) -> list[float]:
        return [one.latency_ms for one in self.samples]

    @property
    def frames(self) -> int:
        return sum(one.frames for one in self.samples)


Ask = Callable[[], Sample]
"""Poses one query of a closed load, and waits for its answer."""


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99, p99.9, mean, min and max in milliseconds, and how many there are.

    A percentile is interpolated; where there are fewer values than it would take to see it, it is near the largest.
    """
    values = np.asarray(values_ms, np.float64)
    found = {name: float(np.percentile(values, p)) for name, p in PERCENTILES.items()}
    found |= {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
    return {**{name: round(value, 4) for name, value in found.items()}, "count": len(values)}


def stage_percentiles(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Per stage and for the time in queues, over all frames (of very many, the latest)."""
    times = StageTimes()
    for one in samples:
        for of_frame in one.stage_ms:
            for stage, ms in of_frame.items():
                times.add(stage, ms)
        times.add("queue", one.queue_ms)
    return times.percentiles()
