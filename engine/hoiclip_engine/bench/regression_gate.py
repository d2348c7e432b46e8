"""Regression gate: fails a run that is slower than an earlier one by more than it may be.

Estimates are robust, with bootstrap intervals. Other programs, schedulers and clocks only ever make a program slower,
and by bursts. So a run is a set of blocks, of which the quieter half counts, those with the least latency; and the
quieter half of the speed probes between them (machine.SpeedProbe) measures how fast the machine was, which is divided
out. Blocks, not single inferences, are resampled for the interval, because what disturbs one inference disturbs its
neighbours too. The gate fails where the whole interval lies beyond the limit. Where only some of it does, the estimate
decides if it is no further from either end than no change is from the limit: then an unchanged program fails once in
twenty times at most.

The report to compare with is a file that people edit, and they name other files: nothing in it is trusted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hoiclip.core.array_types import F64
from hoiclip.core.errors import UsageError
from hoiclip.core.foreign_file import parse_json, read_text
from hoiclip.core.untrusted_values import shown
from hoiclip_engine.bench.load import FEWEST_BLOCKS
from hoiclip_engine.bench.report import SCHEMA

Verdict = Literal["passed", "failed", "undecided"]
"""Undecided: the machine is too noisy to decide."""

QUIETER = 0.5
"""Fraction of the blocks that counts."""
RESAMPLES = 500
CONFIDENCE = 0.95
"""That a change lies beyond the lower end of its interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedBlock:
    """The fields of a block that a comparison needs, from this run or from a report."""

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
        """(R,) percentiles, as np.percentile interpolates them, of samples weighted by their blocks."""
        rows = max(1, _MOST_CELLS // len(self.values))
        block_count = [self._quantile(times_rb[row : row + rows], percent) for row in range(0, len(times_rb), rows)]
        return np.concatenate(block_count)

    def _quantile(self, times_rb: F64, percent: float) -> F64:
        upto_rn = np.cumsum(times_rb[:, self.owner], axis=1)
        wanted_r = percent / 100 * (upto_rn[:, -1] - 1)
        lower_r = np.floor(wanted_r)
        below, above = (
            self.values[np.argmax(upto_rn > rank_r[:, None], axis=1)] for rank_r in (lower_r, np.ceil(wanted_r))
        )
        return np.asarray(below + (above - below) * (wanted_r - lower_r))


_MOST_CELLS = 1 << 21
"""Cells of a table of resamples and samples at a time: 16 MiB."""
Statistic = Callable[[_Run, F64], F64]
"""(R,) values of a statistic of a run, by (R, B) how often each block counts."""


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
    """A limit: p99:+5% fails where p99 grew by more than 5 %, throughput:-5% where throughput fell by more than 5 %."""

    metric: str
    change: float
    """Change of the metric as a ratio: 0.05, or -0.05."""

    @staticmethod
    def parse(text: str) -> FailOn:
        """Parses the text of an option.

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
    """Change of a metric from one run to another, as a ratio: 0.1 is ten percent more."""

    fail_on: FailOn
    estimate: float
    low: float
    high: float
    """Both ends of the interval, each with CONFIDENCE."""
    speed_of_machine: float
    """Speed in this run relative to the other; already divided out. 1 where there was no probe."""

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
        """One line for a person."""
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
    """Change of one metric with its interval.

    Args:
        scaled: in units of the machine's speed, where both runs have probes; else as it was timed.

    Raises:
        UsageError: too few blocks for a comparison.
    """
    for name, blocks in (("base", base), ("this run", now)):
        if len(blocks) < FEWEST_BLOCKS:
            raise UsageError(f"expected at least {FEWEST_BLOCKS} blocks, {name} has {len(blocks)}; measure it again")
    runs, rng = (_Run(base), _Run(now)), np.random.default_rng(seed)
    scaled = scaled and all(run.probe_ms is not None for run in runs)
    (was_r, base_ms_r), (is_now_r, now_ms_r) = (
        _resampled(run, STATISTICS[fail_on.metric], scaled, rng) for run in runs
    )
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


def _resampled(run: _Run, statistic: Statistic, scaled: bool, rng: np.random.Generator) -> tuple[F64, F64]:
    """A statistic of a run and the duration of its speed probe, 1 where that does not count.

    The first value is the run's own, RESAMPLES more come from resampling its blocks: a block
    comes with its probe, which shares its luck.
    """
    count = len(run.level_ms)
    resampled_rb = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    times_rb = np.concatenate([np.ones((1, count)), resampled_rb])
    found = statistic(run, _quieter(times_rb, run.level_ms))
    if not scaled or run.probe_ms is None:
        return found, np.ones(len(found))
    kept_rb = _quieter(times_rb, run.probe_ms)
    return found, np.asarray(kept_rb @ run.probe_ms / kept_rb.sum(axis=1))


def _quieter(times_rb: F64, level_b: F64) -> F64:
    """(R, B) how often each block counts when only those with the lowest level do."""
    order = np.argsort(level_b, kind="stable")
    sorted_rb = times_rb[:, order]
    room = max(2, round(QUIETER * len(level_b)))
    before_rb = np.cumsum(sorted_rb, axis=1) - sorted_rb
    kept_rb = np.empty_like(times_rb)
    kept_rb[:, order] = np.clip(room - before_rb, 0, sorted_rb)
    return kept_rb


LARGEST_BYTES = 1 << 28
SAME = ("subject", "load", "streams", "fps", "times_rate", "clip_every", "picture_px", "canvas_px")
"""Fields of a scenario that must be equal for times to compare."""
_EARLIER = {"clip_every": 1}
"""Fields of reports that are older than the field."""
_AGAIN = "make it again: hoiclip bench --json FILE"


def read_reports(path: Path) -> list[dict[str, Any]]:
    """Reads all reports of a file of JSON lines.

    Raises:
        UsageError: there is no such file, or something else is in it.
    """
    try:
        text = read_text(path, LARGEST_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"expected a report to compare with, cannot read {path} ({why}); {_AGAIN}") from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            found.append(_parse_report(line, f"{path}, line {number}"))
    if not found:
        raise UsageError(f"expected a report in {path}, found nothing; {_AGAIN}")
    return found


def matching_report(reports: Sequence[Mapping[str, Any]], now: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The latest report of the same scenario on the same machine.

    Raises:
        UsageError: there is none; the message names what differs.
    """
    differences: list[str] = []
    for report in reports[::-1]:
        differs = _difference(report, now)
        if differs is None:
            return report
        differences.append(differs)
    raise UsageError(f"{path} has no report of this scenario on this machine: {differences[0]}; measure the base again")


def timed_blocks(report: Mapping[str, Any]) -> list[TimedBlock]:
    """Blocks of a report in which anything was answered."""
    return [
        TimedBlock(
            latency_ms=np.array(block["latency_ms"], np.float64),
            frames=block["frames"],
            seconds=float(block["seconds"]),
            probe_ms=None if block["probe_ms"] is None else float(block["probe_ms"]),
        )
        for block in report["blocks"]
        if block["latency_ms"]
    ]


def _difference(base: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    for name in SAME:
        theirs, ours = (report["scenario"].get(name, _EARLIER.get(name)) for report in (base, now))
        if theirs != ours:
            return f"{name} was {shown(theirs)}, is {shown(ours)}"
    for name in ("cpu", "cores", "flags"):
        theirs, ours = base["machine"].get(name), now["machine"][name]
        if theirs != ours:
            return f"its {name} was {shown(theirs)}, is {shown(ours)}, and times of different machines do not compare"
    theirs, ours = _probe(base), _probe(now)
    if theirs != ours:
        return f"the speed probe's work was {shown(theirs)}, is {shown(ours)}"
    theirs, ours = base["artefact"].get("device"), now["artefact"]["device"]
    return None if theirs == ours else f"it was of the device {shown(theirs)}, this is {shown(ours)}"


def _probe(report: Mapping[str, Any]) -> object:
    return report["probe"].get("what")


def _parse_report(line: str, where: str) -> dict[str, Any]:
    """Parses and checks a line, as far as comparing needs it."""
    try:
        report = parse_json(line)
    except ValueError as error:
        raise UsageError(f"expected a report of hoiclip bench in {where}, found no JSON ({error}); {_AGAIN}") from error
    fault = _fault(report)
    if fault:
        raise UsageError(f"expected a report of hoiclip bench in {where}, {fault}; {_AGAIN}")
    return dict(report)


def _fault(report: Any) -> str:
    """Fault of a report in words; empty where there is none."""
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        found = report.get("schema") if isinstance(report, dict) else report
        return f"its schema must be {SCHEMA}, found {shown(found)}"
    for name in ("scenario", "machine", "artefact", "probe"):
        if not isinstance(report.get(name), dict):
            return f"{name} must be an object, found {shown(report.get(name))}"
    blocks = report.get("blocks")
    if not isinstance(blocks, list) or not blocks:
        return f"blocks must be a list, found {shown(blocks)}"
    for row, block in enumerate(blocks):
        if not isinstance(block, dict):
            return f"block {row} must be an object, found {shown(block)}"
        if not _is_positive(block.get("seconds")):
            return f"seconds of block {row} must be positive, found {shown(block.get('seconds'))}"
        frames = block.get("frames")
        if not isinstance(frames, int) or isinstance(frames, bool) or not 0 <= frames < 1 << 53:
            return f"frames of block {row} must be a number of frames, found {shown(frames)}"
        if "probe_ms" not in block or not (block["probe_ms"] is None or _is_positive(block["probe_ms"])):
            return f"probe_ms of block {row} must be positive or null, found {shown(block.get('probe_ms'))}"
        latency = block.get("latency_ms")
        if not isinstance(latency, list) or not all(map(_is_positive, latency)):
            return f"latency_ms of block {row} must be positive numbers, found {shown(latency)}"
        if bool(latency) != bool(frames):
            return f"block {row} must have frames where it has latencies, found {frames} and {len(latency)}"
    return ""


def _is_positive(value: object) -> bool:
    """Whether a duration lies between a nanosecond and a year, so that no ratio overflows."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and 1e-9 <= value <= 1e11 if isinstance(value, float) else 0 < value < 1 << 36
