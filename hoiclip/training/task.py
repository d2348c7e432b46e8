"""What the training loop needs to know of whatever it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class StepLosses(NamedTuple):
    """Of one forward pass."""

    total: Tensor
    numbers: dict[str, float]
    """For the log."""
    culprit: str | None
    """Name of the first loss that is not finite."""


class Task(Protocol):
    """A torch module; calling it with a batch gives StepLosses."""

    @property
    def kept(self) -> nn.Module:
        """What is left after training; everything else only helps."""
        ...

    @staticmethod
    def collate(samples: Sequence[Any]) -> Any:
        """Samples to a batch that has `.to(device)`; runs in the workers."""
        ...


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Of the recipe's "auto", "fp32", "bf16" or "fp16"; None for fp32."""
    if precision == "auto":
        return torch.bfloat16 if _computes_in_bf16() else None
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _computes_in_bf16() -> bool:
    """Whether a GPU, or this processor, has instructions for bf16; without, torch emulates it."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
