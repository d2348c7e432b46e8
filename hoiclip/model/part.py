"""One of HOICLIP's methods as a module of its own, so that it can be exported or compiled by itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hoiclip.model.detector import HOICLIP


class Part(nn.Module):
    """`method` is forward, detect, view or interact; inputs and outputs are its own."""

    def __init__(self, model: HOICLIP, method: str) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.model, self.method)(*inputs)
