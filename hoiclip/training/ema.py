"""A running average of a model's tensors; evaluates better than the last step's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningModel:
    """Averages of parameters and buffers that are numbers; the rest is copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """decay 0 keeps the latest tensors."""
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self._decay = decay
        self.updates = 0
        self.tensors: dict[str, Tensor] = {key: value.detach().clone() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """After an optimiser step. Early on the average is short, so that it does not remember the random start."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        averaged, latest = [], []
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                averaged.append(self.tensors[key])
                latest.append(value.detach())
            else:
                self.tensors[key].copy_(value)
        torch._foreach_lerp_(averaged, latest, 1 - decay)
