"""Learning rate over steps, as a factor of the base rate. Stateless, so that resuming needs only the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Linear warm-up, then one of three shapes over the rest."""

    kind: Literal["step", "cosine", "constant_linear"] = "constant_linear"
    steps: int
    """Optimiser steps in all."""
    warmup_steps: int = 0
    drop_at: float = 2 / 3
    """step: share of all steps after which the rate falls to a tenth (epoch 60 of 90 officially)."""
    decay_from: float = 0.65
    """constant_linear: share of all steps from which the rate falls linearly to zero."""

    def __post_init__(self) -> None:
        if self.kind not in ("step", "cosine", "constant_linear"):
            raise ValueError(f"schedule kind must be step, cosine or constant_linear, got {self.kind!r}")
        if self.steps < 1 or not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"expected 0 <= warmup_steps < steps, got {self.warmup_steps} of {self.steps}")
        if not (0 < self.drop_at <= 1 and 0 <= self.decay_from < 1):
            raise ValueError(f"drop_at and decay_from are shares, got {self.drop_at} and {self.decay_from}")

    def factor(self, step: int) -> float:
        """For optimiser step 0, 1, ..."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, step / self.steps)
        if self.kind == "step":
            return 1.0 if done < self.drop_at else 0.1
        if self.kind == "cosine":
            share = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        return 1.0 if done < self.decay_from else max(0.0, (1 - done) / (1 - self.decay_from))
