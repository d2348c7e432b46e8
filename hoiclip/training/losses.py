"""Losses of HOICLIP (docs/model.md, Matching and losses): four kinds for every decoder layer, by official names.

All in float32, also inside autocast. Schedules, gradients and logs are in loop.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from hoiclip.core.boxes import cxcywh_to_xyxy, generalised_iou
from hoiclip.data.targets import Targets
from hoiclip.model import LayerOutputs
from hoiclip.training.matching import MatchCosts, Matches, PaddedTargets, match, pad_targets

_LOWEST_PROBABILITY = 1e-4
"""HOI probabilities stay this far from 0 and 1; beyond there is no gradient."""

_TOP = 5
"""hoi_class_error counts HOIs among this many best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the losses; the defaults are the official ones for HICO-DET and V-COCO."""

    hoi: float = 2.0
    object_class: float = 1.0
    box_l1: float = 2.5
    """For human and object boxes each."""
    box_giou: float = 1.0
    """For human and object boxes each."""
    reconstruction: float = 0.0
    """Pulls HOI features towards CLIP's embedding of the image; 2 where the official code turns it on."""
    no_object_weight: float = 0.1
    """Weight of a query without a pair in the object loss."""
    focal_alpha: float = 0.5
    """Weight of the positive HOIs; the negative ones have 1 - focal_alpha."""
    match: MatchCosts = field(default_factory=MatchCosts)

    def __post_init__(self) -> None:
        weights = (self.hoi, self.object_class, self.box_l1, self.box_giou, self.reconstruction)
        if min(weights) < 0 or max(weights[:4]) == 0:
            raise ValueError(f"loss weights must be at least 0 and not all 0, got {weights}")
        if self.no_object_weight < 0:
            raise ValueError(f"no_object_weight must be at least 0, got {self.no_object_weight}")
        if not 0 <= self.focal_alpha <= 1:
            raise ValueError(f"focal_alpha must be in [0, 1], got {self.focal_alpha}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossReport:
    """Losses of one step; the last decoder layer has plain names, layer i before it the suffix _i."""

    losses: dict[str, Tensor]
    """Scalars on the device of the outputs. The *_error entries are percentages for the log."""
    weights: dict[str, float]
    """By the same names; 0 for values that are only logged."""
    total: Tensor
    matches: Matches
    """With query groups: as if every group were an image of its own."""

    def numbers(self) -> dict[str, float]:
        """All losses and "total" as plain numbers, with one copy to the host."""
        values = torch.stack([*self.losses.values(), self.total]).detach().tolist()
        return dict(zip([*self.losses, "total"], values, strict=True))


def find_non_finite_loss(report: LossReport) -> str | None:
    """Name of the first loss that is not finite, or "total"; None where all are finite."""
    return next((name for name, value in report.numbers().items() if not math.isfinite(value)), None)


class Criterion:
    """Matches predictions with targets and computes the losses."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def __call__(self, outputs: LayerOutputs, targets: Sequence[Targets], *, groups: int = 1) -> LossReport:
        """Losses of a batch of B images.

        Args:
            outputs: all decoder layers. Where instance and interaction decoder differ in depth, only as many last
                layers as both have count.
            targets: one per image, on any device.
            groups: the queries are this many groups of equal size, each matched by itself; the losses are their mean.

        Raises:
            ValueError: outputs and targets do not fit together, or the queries cannot be grouped.
        """
        _check(outputs, targets, groups)
        device = outputs.hoi_logits.device
        with torch.autocast(device.type, enabled=False):
            grouped = groups_as_images(outputs, groups)
            padded = pad_targets([t for t in targets for _ in range(groups)], device)
            matches = match(grouped, padded, self.config.match)
            by_kind = self._losses_by_kind(grouped, padded, matches)
            return self._report(by_kind, self._reconstruction(outputs), matches)

    def _losses_by_kind(self, outputs: LayerOutputs, targets: PaddedTargets, matches: Matches) -> dict[str, Tensor]:
        """(L,) of each kind, in official order."""
        count = _mean_over_ranks(sum(targets.counts), outputs.hoi_logits.device).clamp(min=1)
        has_object = targets.has_object[matches.image, matches.target]
        human_l1, human_giou = box_losses(
            at_matches(outputs.human_boxes_cxcywh, matches), targets.human_boxes_cxcywh[matches.image, matches.target]
        )
        object_l1, object_giou = box_losses(
            at_matches(outputs.object_boxes_cxcywh, matches), targets.object_boxes_cxcywh[matches.image, matches.target]
        )
        object_count = has_object.sum(-1) + 1e-4
        return {
            "loss_hoi_labels": hoi_loss(outputs.hoi_logits, targets, matches, self.config.focal_alpha),
            "hoi_class_error": hoi_class_error(outputs.hoi_logits, targets, matches),
            "loss_obj_ce": object_loss(outputs.object_logits, targets, matches, self.config.no_object_weight),
            "obj_class_error": object_class_error(outputs.object_logits, targets, matches),
            "loss_sub_bbox": human_l1.sum(-1) / count,
            "loss_obj_bbox": (object_l1 * has_object).sum(-1) / object_count,
            "loss_sub_giou": human_giou.sum(-1) / count,
            "loss_obj_giou": (object_giou * has_object).sum(-1) / object_count,
        }

    def _reconstruction(self, outputs: LayerOutputs) -> Tensor | None:
        if self.config.reconstruction == 0:
            return None
        clip_cls_unit = F.normalize(outputs.clip_visual[:, 0].float(), dim=-1)
        return reconstruction_loss(clip_cls_unit, outputs.hoi_feature.float())

    def _report(self, by_kind: dict[str, Tensor], reconstruction: Tensor | None, matches: Matches) -> LossReport:
        """Names, weights and total: the last layer first, as the official log does."""
        c = self.config
        weight_of = {
            "loss_hoi_labels": c.hoi,
            "loss_obj_ce": c.object_class,
            "loss_sub_bbox": c.box_l1,
            "loss_obj_bbox": c.box_l1,
            "loss_sub_giou": c.box_giou,
            "loss_obj_giou": c.box_giou,
        }
        losses = {name: values[-1] for name, values in by_kind.items()}
        weights = {name: weight_of.get(name, 0.0) for name in by_kind}
        if reconstruction is not None:
            losses["loss_rec"], weights["loss_rec"] = reconstruction, c.reconstruction
        for layer in range(matches.query.shape[0] - 1):
            for name, values in by_kind.items():
                if name != "obj_class_error":
                    losses[f"{name}_{layer}"], weights[f"{name}_{layer}"] = values[layer], weight_of.get(name, 0.0)
        total = torch.stack([weights[name] * value for name, value in losses.items() if weights[name] > 0]).sum()
        return LossReport(losses=losses, weights=weights, total=total, matches=matches)


def hoi_loss(logits: Tensor, targets: PaddedTargets, matches: Matches, alpha: float) -> Tensor:
    """(L,) focal loss of all HOIs of all queries, per positive one of the batch.

    For labels between 0 and 1 the quality focal loss, which is zero where a probability equals its label.

    Source: Li et al., Generalized Focal Loss, 2020, equation 5.
    """
    label = torch.zeros_like(logits)
    label[_layer(matches), matches.image, matches.query] = targets.hoi_labels[matches.image, matches.target]
    p = logits.sigmoid().clamp(_LOWEST_PROBABILITY, 1 - _LOWEST_PROBABILITY)
    log_likelihood = label * p.log() + (1 - label) * (1 - p).log()
    weight = alpha * label + (1 - alpha) * (1 - label)
    return -(weight * log_likelihood * (label - p).square()).sum((1, 2, 3)) / label.sum((1, 2, 3)).clamp(min=1)


def object_loss(logits: Tensor, targets: PaddedTargets, matches: Matches, no_object_weight: float) -> Tensor:
    """(L,) cross entropy of the object class; the target of queries without a pair is "nothing", the last class."""
    nothing = logits.shape[-1] - 1
    classes = logits.new_full(logits.shape[:-1], nothing, dtype=torch.int64)
    classes[_layer(matches), matches.image, matches.query] = targets.object_labels[matches.image, matches.target]
    weight = torch.where(classes == nothing, no_object_weight, 1.0)
    nll = -logits.log_softmax(-1).gather(-1, classes[..., None])[..., 0]
    return (weight * nll).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-12)


def box_losses(boxes_cxcywh: Tensor, gt_cxcywh: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance and 1 - generalised IoU of boxes (..., 4) with their ground truth."""
    giou = generalised_iou(cxcywh_to_xyxy(boxes_cxcywh), cxcywh_to_xyxy(gt_cxcywh))
    return (boxes_cxcywh - gt_cxcywh).abs().sum(-1), 1 - giou


def reconstruction_loss(clip_cls_unit: Tensor, hoi_feature: Tensor) -> Tensor:
    """Mean distance of unit HOI features (B, Q, E) from the unit image embedding (B, E)."""
    return (clip_cls_unit[:, None] - hoi_feature).abs().mean()


@torch.no_grad()
def hoi_class_error(logits: Tensor, targets: PaddedTargets, matches: Matches) -> Tensor:
    """(L,) percentage of HOIs that are not among the best of their query, averaged over pairs."""
    labels = targets.hoi_labels[matches.image, matches.target]
    best = at_matches(logits, matches).topk(min(_TOP, logits.shape[-1])).indices
    found = labels.gather(-1, best).sum(-1) / labels.sum(-1).clamp(min=1)
    return 100 - 100 * found.sum(-1) / max(found.shape[-1], 1)


@torch.no_grad()
def object_class_error(logits: Tensor, targets: PaddedTargets, matches: Matches) -> Tensor:
    """(L,) percentage of matched queries whose best object class is wrong."""
    right = at_matches(logits, matches).argmax(-1) == targets.object_labels[matches.image, matches.target]
    return 100 - 100 * right.float().sum(-1) / max(right.shape[-1], 1)


def _layer(matches: Matches) -> Tensor:
    """(L, 1), to index together with image and query."""
    return torch.arange(matches.query.shape[0], device=matches.query.device)[:, None]


def at_matches(values: Tensor, matches: Matches) -> Tensor:
    """(L, B, Q, ...) at the matched queries: (L, M, ...)."""
    return values[_layer(matches), matches.image, matches.query]


def groups_as_images(outputs: LayerOutputs, groups: int) -> LayerOutputs:
    """Predictions (L, B, G·Q, ...) as float32 (L, B·G, Q, ...), as if every group had an image of its own."""

    layers = min(outputs.hoi_logits.shape[0], outputs.human_boxes_cxcywh.shape[0])

    def regroup(values: Tensor) -> Tensor:
        _, images, queries, width = values.shape
        return values[-layers:].float().reshape(layers, images * groups, queries // groups, width)

    return outputs._replace(
        hoi_logits=regroup(outputs.hoi_logits),
        object_logits=regroup(outputs.object_logits),
        human_boxes_cxcywh=regroup(outputs.human_boxes_cxcywh),
        object_boxes_cxcywh=regroup(outputs.object_boxes_cxcywh),
    )


def _mean_over_ranks(value: float, device: torch.device) -> Tensor:
    """A scalar tensor, so that the host does not wait for the device."""
    mean = torch.tensor(float(value), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean


def _check(outputs: LayerOutputs, targets: Sequence[Targets], groups: int) -> None:
    _, images, queries, hois = outputs.hoi_logits.shape
    if len(targets) != images or not targets:
        raise ValueError(f"expected one Targets for each of {images} images, got {len(targets)}")
    if any(t.hoi_labels.shape != (len(t), hois) for t in targets):
        found = [tuple(t.hoi_labels.shape) for t in targets]
        raise ValueError(f"expected hoi_labels of shape (pairs, {hois}) as the model has HOIs, got {found}")
    if groups < 1 or queries % groups:
        raise ValueError(f"expected a number of groups that divides {queries} queries, got {groups}")
