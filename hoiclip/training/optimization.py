"""Trainable parameters, their learning rates over time, and their average (docs/model.md, Training)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hoiclip.core.errors import UsageError
from hoiclip.model.backbone import FrozenBatchNorm

FROZEN_WITH_CLIP = ("clip.", "heads.hoi_classifier.", "heads.object_classifier.")
"""CLIP's own knowledge: its image tower and the classifiers made of its text embeddings."""
FROZEN_WITH_BACKBONE_START = ("backbone.conv.", "backbone.stages.0.")
"""Early layers of a pretrained ResNet: edges and colours."""


def freeze(model: nn.Module, *, clip: bool, backbone_start: bool) -> None:
    """Freezes parameters by the names of the bare model, and unfreezes all others."""
    prefixes = (FROZEN_WITH_CLIP if clip else ()) + (FROZEN_WITH_BACKBONE_START if backbone_start else ())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))


def apply_rates(model: nn.Module, rates: Mapping[str, float]) -> None:
    """Freezes parameters whose rate is 0.

    Args:
        rates: see OptimizerConfig; of the bare model's names.

    Raises:
        UsageError: a beginning that no parameter has.
    """
    names = [name for name, _ in model.named_parameters()]
    for prefix in rates:
        if not any(name.startswith(prefix) for name in names):
            parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise UsageError(f"optimizer.rates has {prefix!r}, which no parameter begins with; the model has {parts}")
    for name, parameter in model.named_parameters():
        if rate_of(name, rates) == 0:
            parameter.requires_grad_(False)


def rate_of(name: str, rates: Mapping[str, float]) -> float:
    """The factor of the longest beginning that fits a parameter's name; 1 where none does."""
    fitting = [prefix for prefix in rates if name.startswith(prefix)]
    return rates[max(fitting, key=len)] if fitting else 1.0


def parameter_groups(
    module: nn.Module, *, lr: float, backbone_lr: float, rates: Mapping[str, float] | None = None
) -> list[dict[str, object]]:
    """Groups for an optimiser: the backbone at its own rate, all other trainable parameters, and slowed ones apart.

    Args:
        module: a bare model, or one around it as `network.model`.
        rates: see OptimizerConfig.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(False, 1.0): []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            key = "backbone." in name, rate_of(name.removeprefix("network.").removeprefix("model."), rates or {})
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "base_lr": rate}
        for (backbone, factor), parameters in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1]))
        for rate in [factor * (backbone_lr if backbone else lr)]
    ]


def unfreeze_batch_norm(backbone: nn.Module) -> None:
    """Replaces frozen batch norms by trainable ones with the same tensors: a backbone from scratch needs them.

    Those of the stem and the first stage stay frozen where the convolutions there are (`freeze`).
    """
    constant = set(_norms_beside_frozen_convolutions(backbone))
    for parent, name, frozen in list(_frozen_norms(backbone)):
        if frozen in constant:
            continue
        trainable = nn.BatchNorm2d(frozen.weight.shape[0], eps=1e-5)
        trainable.load_state_dict(frozen.state_dict(), strict=False)
        setattr(parent, name, trainable)


def _norms_beside_frozen_convolutions(backbone: nn.Module) -> Iterator[FrozenBatchNorm]:
    trainable = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    for name, norm in backbone.named_modules():
        if isinstance(norm, FrozenBatchNorm):
            prefix = "conv." if name == "bn" else ".".join(name.split(".")[:2]) + "."
            if not any(parameter.startswith(prefix) for parameter in trainable):
                yield norm


def frozen_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict as if batch norms were frozen: same names, no counters."""
    return {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}


def _frozen_norms(module: nn.Module) -> Iterator[tuple[nn.Module, str, FrozenBatchNorm]]:
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, FrozenBatchNorm):
                yield parent, name, child


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Linear warm-up, then one of three shapes over the rest."""

    kind: Literal["step", "cosine", "constant_linear"] = "constant_linear"
    steps: int
    """Optimiser steps in all."""
    warmup_steps: int = 0
    drop_at: float = 2 / 3
    """step: fraction of all steps after which the rate falls to a tenth (epoch 60 of 90 officially)."""
    decay_from: float = 0.65
    """constant_linear: fraction of all steps from which the rate falls linearly to zero."""
    patience: int = 0
    """Evaluations without a better mAP after which the run ends; the best weights are kept. 0: all steps, the last."""

    def __post_init__(self) -> None:
        if self.kind not in ("step", "cosine", "constant_linear"):
            raise ValueError(f"schedule kind must be step, cosine or constant_linear, got {self.kind!r}")
        if self.steps < 1 or not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"expected 0 <= warmup_steps < steps, got {self.warmup_steps} of {self.steps}")
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, got {self.patience}")
        if not (0 < self.drop_at <= 1 and 0 <= self.decay_from < 1):
            raise ValueError(f"drop_at and decay_from are fractions, got {self.drop_at} and {self.decay_from}")

    def factor(self, step: int) -> float:
        """For optimiser step 0, 1, ..."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, step / self.steps)
        if self.kind == "step":
            return 1.0 if done < self.drop_at else 0.1
        if self.kind == "cosine":
            progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return 1.0 if done < self.decay_from else max(0.0, (1 - done) / (1 - self.decay_from))


class ModelEMA:
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
        """Adds the tensors after an optimiser step. Early averages are short: random initial weights fade fast."""
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
