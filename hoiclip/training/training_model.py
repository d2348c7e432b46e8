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
        self.extra_queries = nn.Parameter(torch.randn(query_groups - 1, 2 * config.queries, config.hidden))
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
        """Groups are folded into the batch, so that they do not see each other."""
        if self.query_groups == 1:
            return self.model.decode(seen)
        count = seen.memory.shape[0]
        groups = torch.cat((self.model.instance_decoder.queries()[None], self.extra_queries))
        memory, position, cells, clip_tokens = (
            part.repeat_interleave(self.query_groups, 0)
            for part in (seen.memory, seen.position, seen.cells, seen.clip_tokens)
        )
        return self.model.decode(Seen(memory, position, cells, cells, clip_tokens), groups.repeat(count, 1, 1))

    def _groups_behind_each_other(self, outputs: LayerOutputs) -> LayerOutputs:
        groups = self.query_groups
        if groups == 1:
            return outputs

        def fold(x_lbqc: Tensor) -> Tensor:
            layers, batch, queries, width = x_lbqc.shape
            return x_lbqc.view(layers, batch // groups, groups * queries, width)

        return outputs._replace(
            hoi_logits=fold(outputs.hoi_logits),
            object_logits=fold(outputs.object_logits),
            human_boxes_cxcywh=fold(outputs.human_boxes_cxcywh),
            object_boxes_cxcywh=fold(outputs.object_boxes_cxcywh),
            hoi_feature=fold(outputs.hoi_feature[None])[0],
        )
