"""Synthetic reports of hoiclip bench, for tests of the regression gate."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from hoiclip_engine.bench.regression_gate import TimedBlock


def synthetic_blocks(
    seed: int,
    *,
    slower: float = 0.0,
    machine: float = 1.0,
    bursts: float = 0.2,
    blocks: int = 40,
    inferences: int = 60,
    probe: bool = True,
) -> list[TimedBlock]:
    """Blocks of inferences of about 10 ms with a tail, on a machine `machine` times as slow, disturbed now and then.

    Args:
        bursts: fraction of the blocks in which something else takes half of the processor for a while.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(blocks):
        pace = machine * rng.normal(1.0, 0.01)
        latency_ms = 10.0 * (1 + slower) * pace * (1 + rng.gamma(1.0, 0.03, inferences))
        if rng.random() < bursts:
            disturbed = rng.random(inferences) < 0.5
            latency_ms = latency_ms * np.where(disturbed, rng.uniform(1.2, 2.5, inferences), 1.0)
        made.append(
            TimedBlock(
                latency_ms=latency_ms,
                frames=inferences,
                seconds=float(latency_ms.sum() / 1e3),
                probe_ms=2.0 * pace * rng.normal(1.0, 0.01) if probe else None,
            )
        )
    return made


def synthetic_report(blocks: list[TimedBlock] | None = None, **scenario: Any) -> dict[str, Any]:
    """A report with the fields that comparisons read."""
    chosen = synthetic_blocks(0, blocks=6, inferences=5) if blocks is None else blocks
    return {
        "schema": "hoiclip-bench/1",
        "scenario": {**copy.deepcopy(SCENARIO), **scenario},
        "machine": {"cpu": "a processor", "cores": 2, "flags": ["avx2"]},
        "artefact": {"device": "a processor, FP32"},
        "probe": {"what": "a piece of work"},
        "blocks": [
            {
                "seconds": block.seconds,
                "frames": block.frames,
                "probe_ms": block.probe_ms,
                "latency_ms": block.latency_ms.tolist(),
            }
            for block in chosen
        ],
    }


SCENARIO = {
    "subject": "model",
    "load": "closed",
    "streams": 1,
    "fps": None,
    "times_rate": None,
    "picture_px": [640, 480],
    "canvas_px": [256, 192],
}
