"""The two ways of measuring: queries one after the other in blocks, and a flow that nobody holds up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hoiclip_engine.bench.plan import BenchPlan
from hoiclip_engine.bench.regression import FEWEST_BLOCKS
from hoiclip_engine.bench.sample import Ask, Block, Sample
from hoiclip_engine.bench.warm_up import WarmUp, warmed_up

Probe = Callable[[], float]


class Flow(Protocol):
    """A load that runs by itself; `take` waits for its next answer."""

    def take(self) -> Sample: ...
    def close(self) -> None:
        """Ends it; no answer comes after."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that was timed."""

    warm_up: WarmUp
    blocks: list[Block]

    @property
    def samples(self) -> list[Sample]:
        return [one for block in self.blocks for one in block.samples]

    @property
    def seconds(self) -> float:
        return sum(block.seconds for block in self.blocks)


def measure_closed(ask: Ask, plan: BenchPlan, probe: Probe | None, on_measured: Callable[[], None]) -> Measured:
    """Warm-up, then blocks of queries one after the other, with a probe before each.

    Args:
        on_measured: called when the warm-up is over.
    """
    warm_up, blocks = warmed_up(ask, plan.warm_up_s), list[Block]()
    on_measured()
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
    return Measured(warm_up=warm_up, blocks=blocks)


def measure_flow(
    opened: Callable[[], Flow], plan: BenchPlan, probe: Probe | None, on_measured: Callable[[], None]
) -> Measured:
    """Warm-up and blocks of a flow, cut by time, until there are enough and something was answered.

    Nothing may stand in its way, so probes come before it and after.
    """
    before_ms = None if probe is None else probe()
    flow = opened()
    try:
        warm_up = warmed_up(flow.take, plan.warm_up_s)
        on_measured()
        blocks = [Block(begun_s=time.monotonic())]
        while len(blocks) <= plan.parts or not any(block.samples for block in blocks[:-1]):
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
    return Measured(warm_up=warm_up, blocks=blocks)
