"""Heads and losses of training on every encoder cell: what lies here, how big is it, who does what with it.

They give the encoder a signal from the first step on, long before queries find anything, and are dropped afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip.boxes import cxcywh_to_xyxy
from hoiclip.model import ModelConfig
from hoiclip.targets import Targets


class DenseOutputs(NamedTuple):
    """Per cell of the feature map, N of them."""

    thing_logits: Tensor
    """(B, N, O + 1) the smallest thing whose box covers the cell; the last class is nothing."""
    boxes_cxcywh: Tensor
    """(B, N, 4) of that thing."""
    human_boxes_cxcywh: Tensor
    """(B, N, 4) of the human that does something with it."""
    hoi_logits: Tensor
    """(B, N, K)"""


class DenseHeads(nn.Module):
    """One linear layer each on the encoder's memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.things = nn.Linear(config.hidden, config.num_object_classes + 1)
        self.boxes = nn.Linear(config.hidden, 4)
        self.human_boxes = nn.Linear(config.hidden, 4)
        self.hois = nn.Linear(config.hidden, config.num_hois)
        nn.init.constant_(self.hois.bias, -4.0)  # most HOIs are absent

    def forward(self, memory: Tensor) -> DenseOutputs:
        return DenseOutputs(
            thing_logits=self.things(memory),
            boxes_cxcywh=self.boxes(memory).sigmoid(),
            human_boxes_cxcywh=self.human_boxes(memory).sigmoid(),
            hoi_logits=self.hois(memory),
        )


class DenseTargets(NamedTuple):
    """What DenseOutputs should have been."""

    things: Tensor
    """(B, N) int64"""
    boxes_cxcywh: Tensor
    human_boxes_cxcywh: Tensor
    hoi_labels: Tensor
    """(B, N, K)"""
    in_thing: Tensor
    """(B, N) bool"""
    in_pair: Tensor
    """(B, N) bool, where the thing is the object of a pair."""


def dense_targets(
    targets: Sequence[Targets], cells_hw: tuple[int, int], person_class: int, no_object_class: int
) -> DenseTargets:
    """The smallest box around each cell's centre decides what the cell shows.

    Args:
        targets: of B pictures that fill their canvas.
        cells_hw: rows and columns of the feature map.
        person_class: object class of humans.
        no_object_class: the class of nothing.
    """
    height, width = cells_hw
    device = targets[0].human_boxes_cxcywh.device
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2)
    per_image = [_dense_targets_of_one(t, centres, person_class, no_object_class) for t in targets]
    return DenseTargets(*(torch.stack(parts) for parts in zip(*per_image, strict=True)))


def _dense_targets_of_one(t: Targets, centres: Tensor, person_class: int, no_object_class: int) -> DenseTargets:
    count, cells, device = len(t), centres.shape[0], centres.device
    boxes = torch.cat((t.human_boxes_cxcywh, t.object_boxes_cxcywh))
    classes = torch.cat((torch.full((count,), person_class, device=device), t.object_labels))
    if not count:
        nothing = torch.zeros(cells, 4, device=device)
        off = torch.zeros(cells, dtype=torch.bool, device=device)
        hois = torch.zeros(cells, t.hoi_labels.shape[1], device=device)
        return DenseTargets(torch.full((cells,), no_object_class, device=device), nothing, nothing, hois, off, off)
    corners = cxcywh_to_xyxy(boxes)
    inside = ((centres[:, None] >= corners[None, :, :2]) & (centres[:, None] <= corners[None, :, 2:])).all(-1)
    area = (boxes[:, 2] * boxes[:, 3]).expand(cells, -1).masked_fill(~inside, torch.inf)
    smallest, owner = area.min(dim=1)
    in_thing = torch.isfinite(smallest)
    in_pair = in_thing & (owner >= count)
    pair = owner % count
    return DenseTargets(
        things=torch.where(in_thing, classes[owner], no_object_class),
        boxes_cxcywh=boxes[owner],
        human_boxes_cxcywh=t.human_boxes_cxcywh[pair],
        hoi_labels=t.hoi_labels[pair],
        in_thing=in_thing,
        in_pair=in_pair,
    )


def dense_losses(outputs: DenseOutputs, targets: DenseTargets) -> dict[str, Tensor]:
    """Scalars by name; boxes count only where there is one."""
    things = targets.in_thing.float()
    pairs = targets.in_pair.float()
    hoi = F.binary_cross_entropy_with_logits(outputs.hoi_logits, targets.hoi_labels, reduction="none").sum(-1)
    return {
        "dense_things": F.cross_entropy(outputs.thing_logits.flatten(0, 1), targets.things.flatten()),
        "dense_boxes": _mean((outputs.boxes_cxcywh - targets.boxes_cxcywh).abs().sum(-1), things),
        "dense_humans": _mean((outputs.human_boxes_cxcywh - targets.human_boxes_cxcywh).abs().sum(-1), pairs),
        "dense_hois": _mean(hoi, pairs),
    }


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
