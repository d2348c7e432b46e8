"""The small CLIP as something to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hoiclip.training.recipe import Recipe
from hoiclip.training.small_clip import ClipSample, SmallClip
from hoiclip.training.task import StepLosses, autocast_dtype


@dataclass(frozen=True, slots=True)
class ClipBatch:
    images: Tensor
    """(B, 3, S, S)"""
    captions: list[str]
    things: Tensor
    """(B, patches, patches)"""

    def to(self, device: torch.device) -> ClipBatch:
        return ClipBatch(
            self.images.to(device, non_blocking=True), self.captions, self.things.to(device, non_blocking=True)
        )


class ClipTask(nn.Module):
    """Tells every picture's caption from those of the others and from all prompts."""

    def __init__(self, clip: SmallClip, prompts: Sequence[str], recipe: Recipe) -> None:
        super().__init__()
        self.clip = clip
        self._prompts = tuple(prompts)
        self._dtype = autocast_dtype(recipe.optimizer.precision)

    @property
    def kept(self) -> SmallClip:
        return self.clip

    @staticmethod
    def collate(samples: Sequence[ClipSample]) -> ClipBatch:
        return ClipBatch(
            torch.stack([s.image for s in samples]),
            [s.caption for s in samples],
            torch.stack([s.things for s in samples]),
        )

    def forward(self, batch: ClipBatch) -> StepLosses:
        device, dtype = batch.images.device.type, self._dtype
        with torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            losses = self.clip.losses(batch.images, batch.captions, batch.things, self._prompts)
        numbers = {name: float(value.detach()) for name, value in losses.items()}
        culprit = next((name for name, value in losses.items() if not torch.isfinite(value)), None)
        return StepLosses(torch.stack(list(losses.values())).sum(), numbers, culprit)
