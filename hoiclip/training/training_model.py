"""HOICLIP with auxiliary queries and heads, which the finished model does not have. Official recipes use neither.

Query groups: several sets of queries learn side by side, each matched by itself, and share all weights; only the first
stays. Dense heads: every encoder cell predicts the object on it and its HOIs, which gives the encoder a gradient from
the first step on, long before queries find anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hoiclip.core.boxes import cxcywh_to_xyxy
from hoiclip.data.targets import Targets
from hoiclip.model import HOICLIP, LayerOutputs, ModelConfig
from hoiclip.model.hoiclip import EncodedImages


class TrainingOutputs(NamedTuple):
    layers: LayerOutputs
    """Queries of all groups concatenated: (L, B, G · Q, ...)."""
    dense: DenseOutputs | None


class TrainingModel(nn.Module):
    """The model, plus the extra queries and heads of training."""

    def __init__(self, model: HOICLIP, *, query_groups: int = 1, dense_heads: bool = False) -> None:
        super().__init__()
        if query_groups < 1:
            raise ValueError(f"query_groups must be at least 1, got {query_groups}")
        config = model.config
        self.model = model
        self.query_groups = query_groups
        own = model.instance_decoder.queries().detach()
        # Near the learned ones, so that groups are useful from the first step when a trained model is trained further.
        self.extra_queries = nn.Parameter(own + 0.5 * torch.randn(query_groups - 1, *own.shape))
        self.dense_heads = DenseHeads(config) if dense_heads else None

    def forward(
        self, images: Tensor, padding: Tensor | None, clip_images: Tensor, autocast: torch.dtype | None = None
    ) -> TrainingOutputs:
        """All predictions of a batch. Heads run in fp32: bf16 logits would be off by several hundredths.

        Args:
            autocast: dtype of everything before the heads; None: fp32.
        """
        with torch.autocast(images.device.type, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            encoded = self.model.encode_images(images, padding, clip_images)
            instances, interactions = self._decode(encoded)
        with torch.autocast(images.device.type, enabled=False):
            outputs = self.model.outputs(instances.float(), interactions.float(), encoded.clip_tokens.float())
            dense = self.dense_heads(encoded.memory.float()) if self.dense_heads is not None else None
        return TrainingOutputs(self._concatenate_groups(outputs), dense)

    def _decode(self, encoded: EncodedImages) -> tuple[Tensor, Tensor]:
        """Instances (L, B, G, 2Q, D) and interactions (L, B, G, Q, ...); of one group without G."""
        if self.query_groups == 1:
            return self.model.decode(encoded)
        own = self.model.instance_decoder.queries()[None]
        return self.model.decode(encoded, torch.cat((own, self.extra_queries)))

    def _concatenate_groups(self, outputs: LayerOutputs) -> LayerOutputs:
        if self.query_groups == 1:
            return outputs
        return outputs._replace(
            hoi_logits=outputs.hoi_logits.flatten(2, 3),
            object_logits=outputs.object_logits.flatten(2, 3),
            human_boxes_cxcywh=outputs.human_boxes_cxcywh.flatten(2, 3),
            object_boxes_cxcywh=outputs.object_boxes_cxcywh.flatten(2, 3),
            hoi_feature=outputs.hoi_feature.flatten(1, 2),
        )


class TextAdapter(nn.Module):
    """A low-rank change of all rows of a classifier: W + W A B, with B zero at first.

    Source: HOLa (ICCV 2025) adapts text features in a low-rank space for zero-shot HOI detection; this is the plainest
    form of it, and the finished model has the shapes of every other.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(width, rank) / width**0.5)
        self.up = nn.Parameter(torch.zeros(rank, width))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + weight @ self.down @ self.up


_ADAPTED = "heads.hoi_classifier.parametrizations.weight."


def adapt_text(model: HOICLIP, rank: int) -> None:
    """Puts a TextAdapter on the HOI classifier, whose own rows stay as they are."""
    adapter = TextAdapter(model.config.clip_embed, rank)
    parametrize.register_parametrization(model.heads.hoi_classifier, "weight", adapter)


def merge_adapted_text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the adapter in the classifier's rows; others unchanged."""
    merged = {key: value for key, value in tensors.items() if not key.startswith(_ADAPTED)}
    if f"{_ADAPTED}original" in tensors:
        original, down, up = (tensors[f"{_ADAPTED}{key}"] for key in ("original", "0.down", "0.up"))
        merged["heads.hoi_classifier.weight"] = original + original @ down @ up
    return merged


class DenseOutputs(NamedTuple):
    """Per cell of the feature map, N of them."""

    object_logits: Tensor
    """(B, N, O + 1) the smallest object whose box covers the cell; the last class is "nothing"."""
    boxes_cxcywh: Tensor
    """(B, N, 4) of that object."""
    human_boxes_cxcywh: Tensor
    """(B, N, 4) of the human that interacts with it."""
    hoi_logits: Tensor
    """(B, N, K)"""


class DenseHeads(nn.Module):
    """One linear layer each on the encoder's memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.object_head = nn.Linear(config.hidden, config.num_object_classes + 1)
        self.boxes = nn.Linear(config.hidden, 4)
        self.human_boxes = nn.Linear(config.hidden, 4)
        self.hois = nn.Linear(config.hidden, config.num_hois)
        nn.init.constant_(self.hois.bias, -4.0)  # most HOIs are absent

    def forward(self, memory: Tensor) -> DenseOutputs:
        return DenseOutputs(
            object_logits=self.object_head(memory),
            boxes_cxcywh=self.boxes(memory).sigmoid(),
            human_boxes_cxcywh=self.human_boxes(memory).sigmoid(),
            hoi_logits=self.hois(memory),
        )


class DenseTargets(NamedTuple):
    """Ground truth of DenseOutputs."""

    object_labels: Tensor
    """(B, N) int64"""
    boxes_cxcywh: Tensor
    human_boxes_cxcywh: Tensor
    hoi_labels: Tensor
    """(B, N, K)"""
    in_object: Tensor
    """(B, N) bool"""
    in_pair: Tensor
    """(B, N) bool, True where it is the object of a pair."""


def dense_targets(
    targets: Sequence[Targets], cells_hw: tuple[int, int], person_class: int, no_object_class: int
) -> DenseTargets:
    """Each cell gets the class of the smallest box around its centre.

    Args:
        targets: of B images without padding.
        cells_hw: rows and columns of the feature map.
        person_class: object class of humans.
        no_object_class: the class "nothing".
    """
    height, width = cells_hw
    device = targets[0].human_boxes_cxcywh.device
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2)
    per_image = [_dense_targets_of_one(t, centres, person_class, no_object_class) for t in targets]
    return DenseTargets(*(torch.stack(fields) for fields in zip(*per_image, strict=True)))


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
    in_object = torch.isfinite(smallest)
    in_pair = in_object & (owner >= count)
    pair = owner % count
    return DenseTargets(
        object_labels=torch.where(in_object, classes[owner], no_object_class),
        boxes_cxcywh=boxes[owner],
        human_boxes_cxcywh=t.human_boxes_cxcywh[pair],
        hoi_labels=t.hoi_labels[pair],
        in_object=in_object,
        in_pair=in_pair,
    )


def dense_losses(outputs: DenseOutputs, targets: DenseTargets) -> dict[str, Tensor]:
    """Scalars by name; box losses count only cells of an object."""
    objects = targets.in_object.float()
    pairs = targets.in_pair.float()
    hoi = F.binary_cross_entropy_with_logits(outputs.hoi_logits, targets.hoi_labels, reduction="none").sum(-1)
    return {
        "dense_things": F.cross_entropy(outputs.object_logits.flatten(0, 1), targets.object_labels.flatten()),
        "dense_boxes": _mean((outputs.boxes_cxcywh - targets.boxes_cxcywh).abs().sum(-1), objects),
        "dense_humans": _mean((outputs.human_boxes_cxcywh - targets.human_boxes_cxcywh).abs().sum(-1), pairs),
        "dense_hois": _mean(hoi, pairs),
    }


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
