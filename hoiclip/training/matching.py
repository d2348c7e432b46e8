"""Assigns a query to every ground-truth pair of an image, at the lowest cost and for each decoder layer by itself.

No gradients and no losses here. Costs: docs/model.md, Matching and losses. The assignment runs on the CPU, after one
copy for all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hoiclip.core.boxes import cxcywh_to_xyxy, generalised_iou
from hoiclip.data.targets import Targets
from hoiclip.model import LayerOutputs

_COST_OF_NAN = -1e6
"""A query with NaN is matched first, so that the losses are NaN and the loop reports them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchCosts:
    """Weights of the cost of assigning a query to a ground-truth pair."""

    hoi: float = 1.0
    """Applied twice, as in the official code."""
    object_class: float = 1.0
    box_l1: float = 2.5
    box_giou: float = 1.0

    def __post_init__(self) -> None:
        weights = {field.name: getattr(self, field.name) for field in fields(self)}
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"expected match costs of at least 0 and one above, got {weights}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedTargets:
    """Targets of a batch in one tensor each; images with fewer than N pairs are filled up with zeros."""

    counts: tuple[int, ...]
    """Ground-truth pairs of each image."""
    object_labels: Tensor
    """(B, N) int64"""
    hoi_labels: Tensor
    """(B, N, K) float32"""
    human_boxes_cxcywh: Tensor
    object_boxes_cxcywh: Tensor

    @property
    def has_object(self) -> Tensor:
        """(B, N) False where a person acts without an object (all-zero box), and on padding."""
        return (self.object_boxes_cxcywh != 0).any(dim=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """M matched queries per layer. M is the same in every layer; an image has as many as it has pairs, at most Q."""

    image: Tensor
    """(M,) row of the batch, ascending."""
    query: Tensor
    """(L, M) ascending within an image."""
    target: Tensor
    """(L, M) row among the targets of that image."""

    def of_layer(self, layer: int, num_images: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(queries, targets) of each image."""
        image, query, target = (t.cpu().numpy() for t in (self.image, self.query[layer], self.target[layer]))
        return [(query[image == i], target[image == i]) for i in range(num_images)]


def pad_targets(targets: Sequence[Targets], device: torch.device) -> PaddedTargets:
    """Stacks the targets of a batch on `device`."""

    def stack(tensors: list[Tensor], dtype: torch.dtype) -> Tensor:
        return pad_sequence(tensors, batch_first=True).to(device, dtype)

    return PaddedTargets(
        counts=tuple(len(t) for t in targets),
        object_labels=stack([t.object_labels for t in targets], torch.int64),
        hoi_labels=stack([t.hoi_labels for t in targets], torch.float32),
        human_boxes_cxcywh=stack([t.human_boxes_cxcywh for t in targets], torch.float32),
        object_boxes_cxcywh=stack([t.object_boxes_cxcywh for t in targets], torch.float32),
    )


@torch.no_grad()
def match(outputs: LayerOutputs, targets: PaddedTargets, costs: MatchCosts) -> Matches:
    """The cheapest assignment of ground-truth pairs to queries, per layer and image.

    Where an image has more pairs than queries, the most expensive ones stay without a query.
    """
    with torch.autocast(outputs.hoi_logits.device.type, enabled=False):
        cost = match_cost(outputs, targets, costs)
    cost_lbqn = torch.nan_to_num(cost, nan=_COST_OF_NAN, posinf=_COST_OF_NAN, neginf=_COST_OF_NAN).cpu().numpy()
    images: list[NDArray[np.int64]] = []
    pairs: list[NDArray[np.int64]] = []
    for i, count in enumerate(targets.counts):
        # (L, 2, m): all layers match the same number of pairs
        found = np.stack([linear_sum_assignment(layer[i, :, :count]) for layer in cost_lbqn]).astype(np.int64)
        pairs.append(found)
        images.append(np.full(found.shape[-1], i, np.int64))
    query, target = torch.from_numpy(np.concatenate(pairs, axis=-1)).to(cost.device).unbind(1)
    return Matches(image=torch.from_numpy(np.concatenate(images)).to(cost.device), query=query, target=target)


def match_cost(outputs: LayerOutputs, targets: PaddedTargets, costs: MatchCosts) -> Tensor:
    """(L, B, Q, N) cost of assigning query q to pair n, in float32; columns beyond an image's pairs have no meaning."""
    humans = outputs.human_boxes_cxcywh.float()[..., :, None, :]
    objects = outputs.object_boxes_cxcywh.float()[..., :, None, :]
    gt_humans, gt_objects = targets.human_boxes_cxcywh[:, None], targets.object_boxes_cxcywh[:, None]
    has_object = targets.has_object[:, None]

    human_l1 = (humans - gt_humans).abs().sum(-1)
    object_l1 = (objects - gt_objects).abs().sum(-1) * has_object
    human_giou = -generalised_iou(cxcywh_to_xyxy(humans), cxcywh_to_xyxy(gt_humans))
    # Without an object the human's overlap is added instead of replacing the object's: as officially.
    object_giou = -generalised_iou(cxcywh_to_xyxy(objects), cxcywh_to_xyxy(gt_objects)) + human_giou * ~has_object
    return (
        costs.hoi**2 * _hoi_cost(outputs.hoi_logits.float().sigmoid(), targets.hoi_labels)
        + costs.box_l1 * torch.maximum(human_l1, object_l1)
        + costs.box_giou * torch.maximum(human_giou, object_giou)
        + costs.object_class * _object_cost(outputs.object_logits.float().softmax(-1), targets.object_labels)
    )


def _hoi_cost(probability: Tensor, labels_bnk: Tensor) -> Tensor:
    """Minus the mean of a query's probability of present HOIs and of its certainty about absent ones."""
    present = labels_bnk.transpose(1, 2)
    absent = 1 - present
    hits = probability @ present / (present.sum(1, keepdim=True) + 1e-4)
    rejections = (1 - probability) @ absent / (absent.sum(1, keepdim=True) + 1e-4)
    return -(hits + rejections) / 2


def _object_cost(probability: Tensor, labels_bn: Tensor) -> Tensor:
    """Minus the probability of the ground-truth object class."""
    layers, _, queries, _ = probability.shape
    index = labels_bn[None, :, None, :].expand(layers, -1, queries, -1)
    return -probability.gather(-1, index)
