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
RESAMPLES = 500
CONFIDENCE = 0.95
"""That a change lies beyond the lower end of its interval."""
WIDENED = 1.37
"""Intervals are so much wider than drawing among the quieter half tells, because which blocks are in it is chance
as well: the square root of 1.364 / 0.727, the variances of the mean of the lower half of normal values, both ways."""
FEWEST_BLOCKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedBlock:
    """What a comparison needs of a block, of this run's or of a report's."""

    latency_ms: F64
    frames: int
    seconds: float
    probe_ms: float | None


class _Run:
    """The quieter half of a run's blocks as arrays; times are in units of the machine's speed in their block."""

    def __init__(self, blocks: Sequence[TimedBlock], units: F64) -> None:
        level = [float(block.latency_ms.mean()) / unit for block, unit in zip(blocks, units, strict=True)]
        kept = np.argsort(level, kind="stable")[: max(2, round(QUIETER * len(blocks)))]
        blocks, units = [blocks[row] for row in kept], units[kept]
        values = np.concatenate([block.latency_ms / unit for block, unit in zip(blocks, units, strict=True)])
        owner = np.repeat(np.arange(len(blocks)), [len(block.latency_ms) for block in blocks])
        order = np.argsort(values, kind="stable")
        self.values, self.owner = values[order], owner[order]
        self.sums = np.bincount(owner, values, len(blocks))
        self.counts = np.bincount(owner, minlength=len(blocks))
        self.frames = np.array([block.frames for block in blocks], np.float64)
        self.seconds = np.array([block.seconds for block in blocks], np.float64) / units

    def quantile(self, times_rb: F64, percent: float) -> F64:
        """(R,) as np.percentile has it, of samples that count as often as their blocks."""
        rows = max(1, _MOST_CELLS // len(self.values))
        parts = [self._quantile(times_rb[row : row + rows], percent) for row in range(0, len(times_rb), rows)]
        return np.concatenate(parts)

    def _quantile(self, times_rb: F64, percent: float) -> F64:
        upto_rn = np.cumsum(times_rb[:, self.owner], axis=1)
        wanted_r = percent / 100 * (upto_rn[:, -1] - 1)
        lower_r = np.floor(wanted_r)
        below, above = (
            self.values[np.argmax(upto_rn > rank_r[:, None], axis=1)] for rank_r in (lower_r, np.ceil(wanted_r))
        )
        return np.asarray(below + (above - below) * (wanted_r - lower_r))


_MOST_CELLS = 1 << 21
"""Of a table of resamples and samples at a time: 16 MiB."""
Statistic = Callable[[_Run, F64], F64]
"""Of a run, by (R, B) how often each block counts: (R,)."""


def _quantile(percent: float) -> Statistic:
    return lambda run, times_rb: run.quantile(times_rb, percent)


def _mean(run: _Run, times_rb: F64) -> F64:
    return np.asarray(times_rb @ run.sums / (times_rb @ run.counts))


def _throughput(run: _Run, times_rb: F64) -> F64:
    return np.asarray(times_rb @ run.frames / (times_rb @ run.seconds))


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
    drawn, estimates = [], []
    for blocks, of_blocks in zip((base, now), units, strict=True):
        run = _Run(blocks, of_blocks)
        count = len(run.counts)
        chosen_rb = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
        drawn.append(statistic(run, chosen_rb.astype(np.float64)))
        estimates.append(float(statistic(run, np.ones((1, count)))[0]))
    estimate = estimates[1] / estimates[0]
    ends = np.quantile(drawn[1] / drawn[0], (1 - CONFIDENCE, CONFIDENCE))
    low = min(1.0, ends[0] / estimate) ** WIDENED * estimate
    high = max(1.0, ends[1] / estimate) ** WIDENED * estimate
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
