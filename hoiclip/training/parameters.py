"""Which parameters learn, and how fast (SPEC.md §4)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from hoiclip.model.backbone import FrozenBatchNorm

FROZEN_WITH_CLIP = ("clip.", "heads.hoi_classifier.", "heads.object_classifier.")
"""CLIP's own knowledge: its image tower and the classifiers made of its text rows."""
FROZEN_WITH_BACKBONE_START = ("backbone.conv.", "backbone.stages.0.")
"""What a pretrained ResNet keeps: edges and colours."""


def freeze(model: nn.Module, *, clip: bool, backbone_start: bool) -> None:
    """Takes gradients from what is not to be learned; names are those of the bare model."""
    prefixes = (FROZEN_WITH_CLIP if clip else ()) + (FROZEN_WITH_BACKBONE_START if backbone_start else ())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))


def parameter_groups(module: nn.Module, *, lr: float, backbone_lr: float) -> list[dict[str, object]]:
    """Two groups for an optimiser: everything that learns, and the backbone at its own rate."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    backbone = [p for name, p in named if "backbone." in name]
    others = [p for name, p in named if "backbone." not in name]
    groups: list[dict[str, object]] = [{"params": others, "lr": lr, "base_lr": lr}]
    if backbone:
        groups.append({"params": backbone, "lr": backbone_lr, "base_lr": backbone_lr})
    return groups


def thaw_batch_norm(backbone: nn.Module) -> None:
    """Replaces frozen batch norms by learning ones with the same tensors: a backbone from scratch needs them.

    Those of the stem and the first stage stay constants where the convolutions there do not learn (`freeze`).
    """
    constant = set(_norms_beside_frozen_convolutions(backbone))
    for parent, name, frozen in list(_frozen_norms(backbone)):
        if frozen in constant:
            continue
        learning = nn.BatchNorm2d(frozen.weight.shape[0], eps=1e-5)
        learning.load_state_dict(frozen.state_dict(), strict=False)
        setattr(parent, name, learning)


def _norms_beside_frozen_convolutions(backbone: nn.Module) -> Iterator[FrozenBatchNorm]:
    learning = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    for name, norm in backbone.named_modules():
        if isinstance(norm, FrozenBatchNorm):
            room = "conv." if name == "bn" else ".".join(name.split(".")[:2]) + "."
            if not any(parameter.startswith(room) for parameter in learning):
                yield norm


def frozen_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict as if batch norms had never been thawed: same names, no counters."""
    return {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}


def _frozen_norms(module: nn.Module) -> Iterator[tuple[nn.Module, str, FrozenBatchNorm]]:
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, FrozenBatchNorm):
                yield parent, name, child
