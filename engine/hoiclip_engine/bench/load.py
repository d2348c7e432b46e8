"""Loads: queries one after the other, or a flow of frames that runs by itself; warm-up, blocks and their samples.

The subject under a load is in subjects.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from hoiclip.core.errors import UsageError
from hoiclip_engine.types.results import StageTimes

WORK_STAGES = ("preprocess", "clip", "infer", "postprocess", "track")
"""Stages that a frame goes through once work on it has begun."""
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySample:
    """One answered query: a frame, or in a closed load a frame of each stream."""

    done_s: float
    """time.monotonic() of the answer."""
    latency_ms: float
    stage_ms: Sequence[Mapping[str, float]]
    """Duration of each stage, for every frame of it."""
    queue_ms: float
    """Wait of its oldest frame before work on it began."""
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
    """A stretch of the measurement; statistics treat blocks as independent."""

    begun_s: float
    """time.monotonic()"""
    seconds: float = 0.0
    probe_ms: float | None = None
    """Duration of the speed probe just before it."""
    samples: list[QuerySample] = field(default_factory=list)

    @property
    def latency_ms(self) -> list[float]:
        return [sample.latency_ms for sample in self.samples]

    @property
    def frames(self) -> int:
        return sum(sample.frames for sample in self.samples)


Ask = Callable[[], QuerySample]
"""Sends one query of a closed load, and waits for its answer."""


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99, p99.9, mean, min and max in milliseconds, and the number of values.

    Percentiles are interpolated; where there are too few values for one, it is near the largest.
    """
    values = np.asarray(values_ms, np.float64)
    found = {name: float(np.percentile(values, p)) for name, p in PERCENTILES.items()}
    found |= {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
    return {**{name: round(value, 4) for name, value in found.items()}, "count": len(values)}


def stage_percentiles(samples: Sequence[QuerySample]) -> dict[str, dict[str, float]]:
    """Per stage and for the time in queues, over all frames (of very many, the latest)."""
    times = StageTimes()
    for sample in samples:
        for of_frame in sample.stage_ms:
            for stage, ms in of_frame.items():
                times.add(stage, ms)
        times.add("queue", sample.queue_ms)
    return times.percentiles()


WITHIN = 0.05
WINDOWS = 3
WINDOW_S = 0.25
FEWEST = 5
"""Samples of a window, however long they take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Outcome of a warm-up."""

    stable: bool
    seconds: float
    window_ms: list[float]
    """Median work on a query, window by window."""
    latency_ms: float
    """Median latency of the last window."""
    longest_s: float

    def to_json(self) -> dict[str, Any]:
        window_ms = [round(ms, 4) for ms in self.window_ms]
        criterion = (
            f"the medians of {WINDOWS} windows in a row (each {WINDOW_S} s and {FEWEST} queries at least) lie within "
            f"{WITHIN:.0%} of each other; after {self.longest_s:g} s it is given up"
        )
        return {
            "criterion": criterion,
            "stable": self.stable,
            "seconds": round(self.seconds, 3),
            "window_ms": window_ms,
        }


def warm_up_until_stable(next_sample: Callable[[], QuerySample], longest_s: float) -> WarmUp:
    """Takes samples until they are stable, or until time is up.

    A warm machine has full caches, clocks that are up and buffers that have grown. The rule is written into every
    report.
    """
    begun_s, medians = time.monotonic(), list[float]()
    while True:
        window = _window(next_sample)
        medians.append(float(np.median([sample.service_ms for sample in window])))
        passed_s = time.monotonic() - begun_s
        stable = is_stable(medians)
        if stable or passed_s > longest_s:
            latency_ms = float(np.median([sample.latency_ms for sample in window]))
            return WarmUp(
                stable=stable, seconds=passed_s, window_ms=medians, latency_ms=latency_ms, longest_s=longest_s
            )


def is_stable(medians: list[float]) -> bool:
    last = medians[-WINDOWS:]
    return len(last) == WINDOWS and max(last) <= (1 + WITHIN) * min(last)


def _window(next_sample: Callable[[], QuerySample]) -> list[QuerySample]:
    samples, ends_s = list[QuerySample](), time.monotonic() + WINDOW_S
    while len(samples) < FEWEST or time.monotonic() < ends_s:
        samples.append(next_sample())
    return samples


Probe = Callable[[], float]


class Flow(Protocol):
    """A load that runs by itself; `take` waits for its next answer."""

    def take(self) -> QuerySample: ...
    def close(self) -> None:
        """Ends it; no answer comes after."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLoad:
    """Warm-up and blocks of one load."""

    warm_up: WarmUp
    blocks: list[Block]

    @property
    def samples(self) -> list[QuerySample]:
        return [sample for block in self.blocks for sample in block.samples]

    @property
    def seconds(self) -> float:
        return sum(block.seconds for block in self.blocks)


def measure_closed(ask: Ask, plan: BenchPlan, probe: Probe | None, on_warm: Callable[[], None]) -> MeasuredLoad:
    """Warm-up, then blocks of queries one after the other, with a probe before each.

    Args:
        on_warm: called when the warm-up is over.
    """
    warm_up, blocks = warm_up_until_stable(ask, plan.warm_up_s), list[Block]()
    on_warm()
    measured_s = 0.0
    while measured_s < plan.seconds or len(blocks) < FEWEST_BLOCKS:
        probe_ms = None
        if probe is not None:
            probe_ms = probe()
        block = Block(begun_s=time.monotonic(), probe_ms=probe_ms)
        while not block.samples or block.samples[-1].done_s - block.begun_s < plan.block_s:
            block.samples.append(ask())
        block.seconds = block.samples[-1].done_s - block.begun_s
        measured_s += block.seconds
        blocks.append(block)
    return MeasuredLoad(warm_up=warm_up, blocks=blocks)


def measure_flow(
    open_flow: Callable[[], Flow], plan: BenchPlan, probe: Probe | None, on_warm: Callable[[], None]
) -> MeasuredLoad:
    """Warm-up and blocks of a flow, split by time, until there are enough and something was answered.

    Nothing may disturb a flow, so probes run before it and after.
    """
    before_ms = None if probe is None else probe()
    flow = open_flow()
    try:
        warm_up = warm_up_until_stable(flow.take, plan.warm_up_s)
        on_warm()
        blocks = [Block(begun_s=time.monotonic())]
        while len(blocks) <= plan.block_count or not any(block.samples for block in blocks[:-1]):
            sample = flow.take()
            while sample.done_s - blocks[-1].begun_s >= plan.block_s:
                blocks[-1].seconds = plan.block_s
                blocks.append(Block(begun_s=blocks[-1].begun_s + plan.block_s))
            blocks[-1].samples.append(sample)
        blocks.pop()  # it has not ended
    finally:
        flow.close()
    if probe is not None and before_ms is not None:
        probe_ms = (before_ms + probe()) / 2
        for block in blocks:
            block.probe_ms = probe_ms
    return MeasuredLoad(warm_up=warm_up, blocks=blocks)


Subject = Literal["model", "pipeline"]
"""A prepared image to its scored triplets, or encoded bytes to tracked pairs."""
Load = Literal["closed", "open", "offline"]
"""closed: the next query when the one before is answered. open: frames come when they are due, ready or not.
offline: a file as fast as it goes, frames beside each other."""
CLOSED_BLOCK_S = 0.1
FEWEST_BLOCKS = 4
LONGEST_WARM_UP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """One measurement."""

    subject: Subject = "pipeline"
    load: Load = "closed"
    streams: int = 1
    """At once; a closed query is one frame of each."""
    fps: float | None = None
    """Frames a second of each stream (open); None: the video's own rate, or the one that follows from times_rate."""
    times_rate: float | None = None
    """Frames come so many times as fast as they can be answered one after the other (open)."""
    seconds: float = 20.0
    """Measured time, warm-up not counted."""
    blocks: int | None = None
    """Number of blocks, which statistics treat as independent; None: as many as suit the load."""
    cold_starts: int = 1
    """Fresh processes, timed from the command to the first result; 0: none."""
    accuracy_images: int = 0
    """Annotated images to measure mAP on; 0: takes the value that the accuracy gate of the build recorded."""
    clip_every: int | Literal["auto"] = 1
    """Of StreamConfig (pipeline)."""
    slowed_by: float = 0.0
    """Fraction of its own time that every inference is made longer by, to check that a regression gate notices."""

    def __post_init__(self) -> None:
        if self.streams < 1 or self.cold_starts < 0 or self.accuracy_images < 0:
            raise UsageError(f"streams must be at least 1, other counts not negative, got {self}")
        if not (math.isfinite(self.seconds) and 0.1 <= self.seconds <= 86_400):
            raise UsageError(f"--duration must lie between 0.1 and 86400 seconds, got {self.seconds}")
        if self.blocks is not None and not FEWEST_BLOCKS <= self.blocks <= 1000:
            raise UsageError(
                f"--blocks must lie between {FEWEST_BLOCKS} and 1000, got {self.blocks}; fewer do not show the spread"
            )
        if not (math.isfinite(self.slowed_by) and 0 <= self.slowed_by <= 10):
            raise UsageError(f"--inject-slowdown must lie between 0 and 1000 percent, got {100 * self.slowed_by:g}")
        if self.clip_every != "auto" and self.clip_every < 1:
            raise UsageError(f"--clip-every must be at least 1, got {self.clip_every}")
        if self.clip_every != 1 and self.slowed_by:
            raise UsageError("--inject-slowdown slows whole inferences; leave --clip-every out")
        if self.clip_every != 1 and self.subject == "model":
            raise UsageError("--clip-every is for frames that follow each other; give --subject pipeline")
        for option, value in (("--fps", self.fps), ("--times-rate", self.times_rate)):
            if value is None:
                continue
            if self.load != "open":
                raise UsageError(f"{option} is for --load open, the load is {self.load}; leave it out")
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{option} must be positive, got {value}")
        if self.fps is not None and self.times_rate is not None:
            raise UsageError("--fps and --times-rate both set how fast frames come; give one")
        if self.subject == "model" and self.load == "offline":
            raise UsageError("--load offline overlaps decoding and inference; a model alone cannot: --subject pipeline")

    @property
    def mode(self) -> str:
        """Name of the scenario in MLPerf Inference."""
        if self.load == "closed":
            return "SingleStream" if self.streams == 1 else "MultiStream"
        return "Server" if self.load == "open" else "Offline"

    @property
    def headline(self) -> Literal["p90", "p99", "throughput"]:
        """Metric by which MLPerf judges that scenario."""
        if self.load == "closed":
            return "p90" if self.streams == 1 else "p99"
        return "p99" if self.load == "open" else "throughput"

    @property
    def warm_up_s(self) -> float:
        """Longest duration of the warm-up; shorter for short measurements."""
        return min(LONGEST_WARM_UP_S, 2.0 + 1.5 * self.seconds)

    @property
    def block_count(self) -> int:
        """Number of blocks. Those of a closed load are short: machines change their speed within a second."""
        if self.blocks is not None:
            return self.blocks
        return 20 if self.load != "closed" else max(20, min(1000, round(self.seconds / CLOSED_BLOCK_S)))

    @property
    def block_s(self) -> float:
        return self.seconds / self.block_count
