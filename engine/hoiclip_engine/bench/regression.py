"""Whether a run is slower than another one by more than it may be: robust estimates with bootstrap intervals.

Other programs, schedulers and clocks only ever make a program slower, and by bursts. So a run is a set of blocks, of
which the quieter half counts, those with the least latency; and the quieter half of what a fixed piece of work took
between them (speed_probe.py) tells how fast the machine was, which is divided out. Blocks, not single looks, are drawn
again and again for the interval, because what disturbs one look disturbs its neighbours too. A gate fails where the
whole interval lies beyond the limit. Where a part of it does, the estimate decides if it is no further from either end
than no change is from the limit: then an unchanged program fails once in twenty times at most.
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
"""Undecided: the machine is too noisy to tell."""

QUIETER = 0.5
"""Share of the blocks that counts."""
RESAMPLES = 500
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


class _Run:
    """A run's blocks as arrays."""

    def __init__(self, blocks: Sequence[TimedBlock]) -> None:
        values = np.concatenate([block.latency_ms for block in blocks])
        owner = np.repeat(np.arange(len(blocks)), [len(block.latency_ms) for block in blocks])
        order = np.argsort(values, kind="stable")
        self.values, self.owner = values[order], owner[order]
        self.sums = np.bincount(owner, values, len(blocks))
        self.counts = np.bincount(owner, minlength=len(blocks))
        self.level_ms = self.sums / self.counts
        self.frames = np.array([block.frames for block in blocks], np.float64)
        self.seconds = np.array([block.seconds for block in blocks], np.float64)
        probes = [block.probe_ms for block in blocks if block.probe_ms is not None]
        self.probe_ms = np.array(probes, np.float64) if len(probes) == len(blocks) else None

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
    def is_clear(self) -> bool:
        """The limit lies outside the interval."""
        return not self.low <= self.fail_on.change <= self.high

    @property
    def verdict(self) -> Verdict:
        limit = self.fail_on.change
        if not self.is_clear and max(self.high - self.estimate, self.estimate - self.low) > abs(limit):
            return "undecided"
        is_beyond = self.estimate < limit if limit < 0 else self.estimate > limit
        return "failed" if is_beyond else "passed"

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


def compare_runs(
    base: Sequence[TimedBlock], now: Sequence[TimedBlock], fail_on: FailOn, *, scaled: bool = True, seed: int = 0
) -> Change:
    """The change of one metric with its interval.

    Args:
        scaled: in units of the machine's speed, where both runs have probes; else as it was timed.

    Raises:
        UsageError: too few blocks to tell anything.
    """
    for name, blocks in (("base", base), ("this run", now)):
        if len(blocks) < FEWEST_BLOCKS:
            raise UsageError(f"expected at least {FEWEST_BLOCKS} blocks, {name} has {len(blocks)}; measure it again")
    runs, rng = (_Run(base), _Run(now)), np.random.default_rng(seed)
    scaled = scaled and all(run.probe_ms is not None for run in runs)
    (was_r, base_ms_r), (is_now_r, now_ms_r) = (_drawn(run, STATISTICS[fail_on.metric], scaled, rng) for run in runs)
    of_machine = 1 if fail_on.metric in GROWS_WHEN_BETTER else -1
    change_r = is_now_r / was_r * (now_ms_r / base_ms_r) ** of_machine - 1
    estimate = float(change_r[0])
    low, high = np.quantile(change_r[1:], (1 - CONFIDENCE, CONFIDENCE))
    return Change(
        fail_on=fail_on,
        estimate=estimate,
        low=min(estimate, float(low)),
        high=max(estimate, float(high)),
        speed_of_machine=float(base_ms_r[0] / now_ms_r[0]),
    )


def _drawn(run: _Run, statistic: Statistic, scaled: bool, rng: np.random.Generator) -> tuple[F64, F64]:
    """A statistic of a run and what the fixed piece of work took in it, 1 where that is not to count.

    The first value is the run's own, RESAMPLES more are those of runs of blocks that are drawn from its own: a block
    comes with its probe, which shares its luck.
    """
    count = len(run.level_ms)
    drawn_rb = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    times_rb = np.concatenate([np.ones((1, count)), drawn_rb])
    found = statistic(run, _quieter(times_rb, run.level_ms))
    if not scaled or run.probe_ms is None:
        return found, np.ones(len(found))
    kept_rb = _quieter(times_rb, run.probe_ms)
    return found, np.asarray(kept_rb @ run.probe_ms / kept_rb.sum(axis=1))


def _quieter(times_rb: F64, level_b: F64) -> F64:
    """How often each block still counts when only those with the lowest level do: (R, B) as was given."""
    order = np.argsort(level_b, kind="stable")
    sorted_rb = times_rb[:, order]
    room = max(2, round(QUIETER * len(level_b)))
    before_rb = np.cumsum(sorted_rb, axis=1) - sorted_rb
    kept_rb = np.empty_like(times_rb)
    kept_rb[:, order] = np.clip(room - before_rb, 0, sorted_rb)
    return kept_rb
