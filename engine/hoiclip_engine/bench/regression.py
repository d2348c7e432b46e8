"""Whether a run is slower than another one by more than it may be: robust estimates with bootstrap intervals.

Other programs, schedulers and clocks only ever make a program slower, and by bursts. So a run is a set of blocks, of
which the quieter half counts: those with the least latency in units of the machine's own speed at that moment
(speed_probe.py). Blocks, not single looks, are drawn again and again for the interval, because what disturbs one look
disturbs its neighbours too. A gate fails only where the whole interval lies beyond the limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import UsageError

F64 = NDArray[np.float64]
Verdict = Literal["passed", "failed", "undecided"]

QUIETER = 0.5
"""Share of the blocks that counts."""
RESAMPLES = 1000
CONFIDENCE = 0.95
"""That a change lies beyond the lower end of its interval."""
FEWEST_BLOCKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedBlock:
    """What a comparison needs of a block, of this run's or of a report's."""

    latency_ms: F64
    frames: int
    seconds: float
    probe_ms: float | None


Statistic = Callable[[Sequence[TimedBlock], F64], float]
"""Blocks, and the speed of the machine in each of them."""


def _quantile(percent: float) -> Statistic:
    return lambda blocks, speeds: float(np.percentile(_scaled(blocks, speeds), percent))


def _mean(blocks: Sequence[TimedBlock], speeds: F64) -> float:
    return float(_scaled(blocks, speeds).mean())


def _throughput(blocks: Sequence[TimedBlock], speeds: F64) -> float:
    seconds = float(sum(block.seconds / speed for block, speed in zip(blocks, speeds, strict=True)))
    return sum(block.frames for block in blocks) / seconds


STATISTICS: dict[str, Statistic] = {
    "p50": _quantile(50),
    "p90": _quantile(90),
    "p99": _quantile(99),
    "mean": _mean,
    "throughput": _throughput,
}
GROWS_WHEN_BETTER = frozenset(("throughput",))


@dataclass(frozen=True, slots=True, kw_only=True)
class FailOn:
    """p99:+5% fails where p99 grew by more than 5 %, throughput:-5% where throughput fell by more than 5 %."""

    metric: str
    change: float
    """Of the metric, as a share: 0.05, or -0.05."""

    @staticmethod
    def parse(text: str) -> FailOn:
        """
        Raises:
            UsageError: not of that form, or the change would be for the better.
        """
        found = re.fullmatch(r"([a-z0-9]+):([+-])(\d{1,4}(?:\.\d{1,6})?)%", text)
        if found is None or found[1] not in STATISTICS:
            known = ", ".join(STATISTICS)
            raise UsageError(
                f"expected --fail-on METRIC:+N% or METRIC:-N% such as p99:+5%, got {text!r}; there are {known}"
            )
        metric, change = found[1], float(f"{found[2]}{found[3]}") / 100
        if (change < 0) != (metric in GROWS_WHEN_BETTER) or change <= -1:
            sign = "-" if metric in GROWS_WHEN_BETTER else "+"
            raise UsageError(f"{metric} gets worse by {sign}, got {text!r}; try {metric}:{sign}5%")
        return FailOn(metric=metric, change=change)

    def __str__(self) -> str:
        return f"{self.metric}:{100 * self.change:+g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a metric changed from one run to another, as shares: 0.1 is ten percent more."""

    fail_on: FailOn
    estimate: float
    low: float
    high: float
    """Both ends of the interval, each with CONFIDENCE."""
    speed_of_machine: float
    """Of this run, in those of the other; already divided out. 1 where there was no probe."""

    @property
    def verdict(self) -> Verdict:
        worst, mildest = (self.low, self.high) if self.fail_on.change < 0 else (self.high, self.low)
        limit = self.fail_on.change
        if _is_beyond(mildest, limit):
            return "failed"
        return "undecided" if _is_beyond(worst, limit) else "passed"

    def sentence(self) -> str:
        """One line."""
        words = {
            "failed": "is beyond the limit",
            "passed": "is within the limit",
            "undecided": "may be beyond the limit, which does not fail; a longer --duration decides",
        }
        return (
            f"{self.fail_on}: changed by {self.estimate:+.1%} (between {self.low:+.1%} and {self.high:+.1%}), "
            f"{words[self.verdict]}"
        )


def _is_beyond(change: float, limit: float) -> bool:
    return change < limit if limit < 0 else change > limit


def compare_runs(base: Sequence[TimedBlock], now: Sequence[TimedBlock], fail_on: FailOn, seed: int = 0) -> Change:
    """The change of one metric with its interval.

    Raises:
        UsageError: too few blocks to tell anything.
    """
    for name, blocks in (("base", base), ("this run", now)):
        if len(blocks) < FEWEST_BLOCKS:
            raise UsageError(f"expected at least {FEWEST_BLOCKS} blocks, {name} has {len(blocks)}; measure it again")
    statistic, rng = STATISTICS[fail_on.metric], np.random.default_rng(seed)
    units = _units(base, now)
    drawn = np.log(_drawn(now, units[1], statistic, rng) / _drawn(base, units[0], statistic, rng))
    estimate = _estimate(now, units[1], statistic) / _estimate(base, units[0], statistic)
    low, high = np.exp(np.quantile(drawn, (1 - CONFIDENCE, CONFIDENCE)))
    return Change(
        fail_on=fail_on,
        estimate=estimate - 1,
        low=float(low) - 1,
        high=float(high) - 1,
        speed_of_machine=float(np.median(units[0]) / np.median(units[1])),
    )


def _units(base: Sequence[TimedBlock], now: Sequence[TimedBlock]) -> tuple[F64, F64]:
    """What a millisecond is divided by in every block, if both runs have probes; else 1."""
    probes = [[block.probe_ms for block in blocks] for blocks in (base, now)]
    if any(ms is None for of_run in probes for ms in of_run):
        return np.ones(len(base)), np.ones(len(now))
    return np.array(probes[0], np.float64), np.array(probes[1], np.float64)


def _scaled(blocks: Sequence[TimedBlock], speeds: F64) -> F64:
    return np.concatenate([block.latency_ms / speed for block, speed in zip(blocks, speeds, strict=True)])


def _estimate(blocks: Sequence[TimedBlock], speeds: F64, statistic: Statistic) -> float:
    level = [float(block.latency_ms.mean()) / speed for block, speed in zip(blocks, speeds, strict=True)]
    quiet = np.argsort(level, kind="stable")[: max(2, round(QUIETER * len(blocks)))]
    return statistic([blocks[row] for row in quiet], speeds[quiet])


def _drawn(blocks: Sequence[TimedBlock], speeds: F64, statistic: Statistic, rng: np.random.Generator) -> F64:
    """The estimate from blocks drawn with replacement, many times."""
    found = np.empty(RESAMPLES)
    for row in range(RESAMPLES):
        chosen = rng.integers(len(blocks), size=len(blocks))
        found[row] = _estimate([blocks[one] for one in chosen], speeds[chosen], statistic)
    return found
