"""A fixed piece of work, timed between blocks: how fast this machine is at the moment.

Clocks, neighbours and schedulers make the same program faster and slower from second to second. A comparison of two
runs divides that out, as far as this work slows down with what is measured: products of matrices on every core that
are waited for together, as a model's layers are. It uses numpy alone, so that a change of a backend, or of ours, never
changes it. Each product is too small for the threads of numpy's own library, which would go on spinning and take the
processor from the looks that follow.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from hoiclip_engine.cpu import cpu_count

SIDE = 64
PRODUCTS = 8
"""Of which all matrices stay in a core's own cache, and leave what the model has in the shared one."""
ROUNDS = 6
REPEATS = 10
SETTLE_S = 0.005
"""Threads of the model go on spinning for a while, and would be in the probe's way."""
WHAT = f"least of {REPEATS} times that {ROUNDS * PRODUCTS} float32 products of {SIDE}x{SIDE} took each core, by numpy"


class SpeedProbe:
    """Call it between blocks, with nothing else under way."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._factors = [rng.standard_normal((3, PRODUCTS, SIDE, SIDE)).astype(np.float32) for _ in range(cpu_count())]
        self._pool = ThreadPoolExecutor(len(self._factors), "hoiclip-bench-probe")
        self()

    def __call__(self) -> float:
        """Milliseconds."""
        time.sleep(SETTLE_S)
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            for _ in self._pool.map(_multiply, self._factors):
                pass
            times.append(time.perf_counter() - started)
        # The scheduler now and then starts two threads on one core, which the model's own threads do not suffer.
        return min(times) * 1e3

    def close(self) -> None:
        self._pool.shutdown()


def _multiply(left_right_out: NDArray[np.float32]) -> None:
    left, right, out = left_right_out
    for _ in range(ROUNDS):
        np.matmul(left, right, out=out)
