"""A fixed piece of work, timed between blocks: how fast this machine is at the moment.

Clocks, neighbours and schedulers make the same program faster and slower from minute to minute. A comparison of two
runs divides that out, as far as this work slows down with what is measured. It uses numpy alone, so that a change of a
backend, or of ours, never changes it.
"""

from __future__ import annotations

import time

import numpy as np

SIDE = 320
REPEATS = 9
SETTLE_S = 0.05
"""Threads of the model go on spinning for a while, and would be in the probe's way."""
WHAT = f"median of {REPEATS} float32 products of {SIDE}x{SIDE} matrices and sorts of as many numbers, by numpy"


class SpeedProbe:
    """Call it between blocks, with nothing else under way."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._left, self._right = (rng.standard_normal((SIDE, SIDE)).astype(np.float32) for _ in range(2))
        self._out = np.empty((SIDE, SIDE), np.float32)
        self._numbers = rng.standard_normal(SIDE * SIDE).astype(np.float32)
        self()

    def __call__(self) -> float:
        """Milliseconds."""
        time.sleep(SETTLE_S)
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            np.matmul(self._left, self._right, out=self._out)
            np.sort(self._numbers)
            times.append(time.perf_counter() - started)
        return float(np.median(times)) * 1e3
