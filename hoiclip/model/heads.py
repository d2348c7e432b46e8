"""Prediction heads: decoder outputs to boxes and logits."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoiclip.model.config import ModelConfig


class MLP(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, in_width: int, inner: int, out_width: int) -> None:
        super().__init__()
        widths = (in_width, inner, inner, out_width)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        output: Tensor = last(F.relu(second(F.relu(first(x)))))
        return output


class Heads(nn.Module):
    """All prediction heads; the same for every decoder layer.

    Classifier rows are initialised with CLIP text embeddings and belong to the checkpoint from then on: they are not
    normalised again. Everything is computed in the type of the heads' own weights, which stay fp32 where the rest of a
    model is in half precision.
    """

    verb_to_hoi: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, embed = config.hidden, config.clip_embed
        self.verb_weight = config.verb_weight
        self.human_box = MLP(hidden, hidden, 4)
        self.object_box = MLP(hidden, hidden, 4)
        self.object_feature = nn.Linear(hidden, embed)
        self.object_norm = nn.LayerNorm(embed)
        self.object_classifier = nn.Linear(embed, config.num_object_classes + 1)
        self.verb_feature = MLP(embed, hidden, embed)
        self.verb_classifier = nn.Linear(embed, config.num_verbs, bias=False)
        self.hoi_classifier = nn.Linear(embed, config.num_hois)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.object_log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.register_buffer("verb_to_hoi", torch.zeros(config.num_verbs, config.num_hois))

    def boxes(self, instances: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 2Q, D) to human and object boxes (..., Q, 4), cx, cy, w, h relative to the unpadded image."""
        humans, objects = instances.to(self.log_scale.dtype).chunk(2, dim=-2)
        return self.human_box(humans).sigmoid(), self.object_box(objects).sigmoid()

    def object_logits(self, instances: Tensor) -> Tensor:
        """(..., 2Q, D) to (..., Q, O + 1)."""
        objects = instances.to(self.log_scale.dtype).chunk(2, dim=-2)[1]
        feature = F.normalize(self.object_norm(self.object_feature(objects)), dim=-1)
        logits: Tensor = self.object_log_scale.exp() * self.object_classifier(feature)
        return logits

    def hoi_logits(self, z: Tensor) -> Tensor:
        """Interaction features in CLIP space (..., Q, E), not normalised, to (..., Q, K)."""
        scale = self.log_scale.exp()
        direct = scale * self.hoi_classifier(F.normalize(z, dim=-1))
        verbs = scale * self.verb_classifier(F.normalize(self.verb_feature(z), dim=-1))
        output: Tensor = direct + self.verb_weight * (verbs @ self.verb_to_hoi)
        return output
