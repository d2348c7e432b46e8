"""Calls timed in turns: the speed of each beside another of them, whatever the machine does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from hoiclip_engine.bench.load import CLOSED_BLOCK_S
from hoiclip_engine.bench.regression_gate import FailOn, TimedBlock, compare_runs
from hoiclip_engine.quantization.builds import MeasuredSpeed

Name = TypeVar("Name", bound=Hashable)
ROUNDS = 10
SETTLE_S = 0.05
"""Threads of torch and ONNX Runtime spin for a while after a call, and slow down the next one."""


def settle(call: Callable[[], object]) -> None:
    """Calls it untimed, until no thread spins for the call before it any more."""
    settled_s = time.perf_counter() + SETTLE_S
    call()
    while time.perf_counter() < settled_s:
        call()


def blocks_in_turns(
    calls: Mapping[Name, Callable[[], object]], rounds: int = ROUNDS
) -> Mapping[Name, Sequence[TimedBlock]]:
    """Times every call in blocks, one block of each in turn. Args: rounds: blocks of each, at least four."""
    blocks: dict[Name, list[TimedBlock]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            blocks[name].append(_timed_block(call))
    return blocks


def speed_beside(base: Sequence[TimedBlock], timed: Sequence[TimedBlock]) -> MeasuredSpeed:
    """Speed of a call beside another that was timed in turns with it."""
    change = compare_runs(base, timed, FailOn(metric="p50", change=0.0))
    median_ms = float(np.median(np.concatenate([block.latency_ms for block in timed])))
    return MeasuredSpeed(
        median_ms=round(median_ms, 4),
        ratio=round(1 + change.estimate, 4),
        low=round(1 + change.low, 4),
        high=round(1 + change.high, 4),
    )


def _timed_block(call: Callable[[], object]) -> TimedBlock:
    settle(call)
    begun_s = last_s = time.perf_counter()
    latency_ms: list[float] = []
    while last_s - begun_s < CLOSED_BLOCK_S:
        call()
        now_s = time.perf_counter()
        latency_ms.append(1e3 * (now_s - last_s))
        last_s = now_s
    return TimedBlock(
        latency_ms=np.array(latency_ms), frames=len(latency_ms), seconds=last_s - begun_s, probe_ms=None
    )  # fmt: skip
