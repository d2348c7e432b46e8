"""The ground truth of an image, in the form that matching and losses take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """n human-object pairs of one image; a pair may have several HOIs at once."""

    object_labels: Tensor
    """(n,) int64 object class; the no-object class where a person acts without one."""
    hoi_labels: Tensor
    """(n, K) float32, 1 for each HOI of the pair; or a teacher's probabilities, where there is no ground truth."""
    human_boxes_cxcywh: Tensor
    """(n, 4) float32 relative to the image without padding."""
    object_boxes_cxcywh: Tensor
    """(n, 4) likewise; all zero where there is no object."""

    def __len__(self) -> int:
        return int(self.object_labels.shape[0])

    def to(self, device: torch.device | str) -> Targets:
        return Targets(
            object_labels=self.object_labels.to(device),
            hoi_labels=self.hoi_labels.to(device),
            human_boxes_cxcywh=self.human_boxes_cxcywh.to(device),
            object_boxes_cxcywh=self.object_boxes_cxcywh.to(device),
        )
