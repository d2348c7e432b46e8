"""HOICLIP with what helps it learn and is left out afterwards.

Query groups: several sets of queries learn side by side, each matched by itself, and share all weights; only the first
stays. Dense heads: every encoder cell is asked what lies on it. Official recipes use neither.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hoiclip.model import HOICLIP, LayerOutputs
from hoiclip.model.detector import Seen
from hoiclip.training.dense import DenseHeads, DenseOutputs


class TrainingOutputs(NamedTuple):
    layers: LayerOutputs
    """Queries of all groups behind each other: (L, B, G · Q, ...)."""
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
        # Near the learned ones, so that groups help from the first step on where a trained model is trained further.
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
            seen = self.model.look(images, padding, clip_images)
            instances, interactions = self._decode(seen)
        with torch.autocast(images.device.type, enabled=False):
            outputs = self.model.outputs(instances.float(), interactions.float(), seen.clip_tokens.float())
            dense = self.dense_heads(seen.memory.float()) if self.dense_heads is not None else None
        return TrainingOutputs(self._groups_behind_each_other(outputs), dense)

    def _decode(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Instances (L, B, G, 2Q, D) and interactions (L, B, G, Q, ...); of one group without G."""
        if self.query_groups == 1:
            return self.model.decode(seen)
        own = self.model.instance_decoder.queries()[None]
        return self.model.decode(seen, torch.cat((own, self.extra_queries)))

    def _groups_behind_each_other(self, outputs: LayerOutputs) -> LayerOutputs:
        if self.query_groups == 1:
            return outputs
        return outputs._replace(
            hoi_logits=outputs.hoi_logits.flatten(2, 3),
            object_logits=outputs.object_logits.flatten(2, 3),
            human_boxes_cxcywh=outputs.human_boxes_cxcywh.flatten(2, 3),
            object_boxes_cxcywh=outputs.object_boxes_cxcywh.flatten(2, 3),
            hoi_feature=outputs.hoi_feature.flatten(1, 2),
        )
