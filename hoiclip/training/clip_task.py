"""The small CLIP as something to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hoiclip.training.recipe import Recipe
from hoiclip.training.small_clip import Caption, ClipSample, SmallClip
from hoiclip.training.task import StepLosses, autocast_dtype


@dataclass(frozen=True, slots=True)
class ClipBatch:
    images: Tensor
    """(B, 3, S, S)"""
    captions: tuple[Caption, ...]
    things: Tensor
    """(B, patches, patches)"""

    def to(self, device: torch.device) -> ClipBatch:
        return ClipBatch(
            self.images.to(device, non_blocking=True), self.captions, self.things.to(device, non_blocking=True)
        )


class Texts(NamedTuple):
    """What the pictures of a batch are compared with; see SmallClip.losses."""

    texts: list[str]
    own: Tensor
    also_true: Tensor


def texts_of(captions: Sequence[Caption], prompts: Mapping[int, str]) -> Texts:
    """One text for everything that is told: other words for the same must not be set against each other.

    Args:
        captions: of a batch; the first of those that tell the same speaks for all.
        prompts: HOI number to prompt, for what no caption tells.
    """
    wording = {frozenset((hoi,)): prompt for hoi, prompt in prompts.items()}
    wording.update({caption.told: caption.text for caption in reversed(captions)})
    place = {told: i for i, told in enumerate(wording)}
    own = torch.tensor([place[caption.told] for caption in captions])
    also_true = torch.tensor([[told <= caption.true for told in wording] for caption in captions])
    also_true[torch.arange(len(captions)), own] = False
    return Texts(list(wording.values()), own, also_true)


class ClipTask(nn.Module):
    """Tells every picture's caption from those of the others and from all prompts."""

    def __init__(self, clip: SmallClip, prompts: Mapping[int, str], recipe: Recipe) -> None:
        """prompts: by HOI number, of those that training may know of."""
        super().__init__()
        self.clip = clip
        self._prompts = dict(prompts)
        self._dtype = autocast_dtype(recipe.optimizer.precision)

    @property
    def kept(self) -> SmallClip:
        return self.clip

    @staticmethod
    def collate(samples: Sequence[ClipSample]) -> ClipBatch:
        return ClipBatch(
            torch.stack([s.image for s in samples]),
            tuple(s.caption for s in samples),
            torch.stack([s.things for s in samples]),
        )

    def forward(self, batch: ClipBatch) -> StepLosses:
        device, dtype = batch.images.device, self._dtype
        texts, own, also_true = texts_of(batch.captions, self._prompts)
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            losses = self.clip.losses(batch.images, texts, own.to(device), also_true.to(device), batch.things)
        numbers = {name: float(value.detach()) for name, value in losses.items()}
        culprit = next((name for name, value in losses.items() if not torch.isfinite(value)), None)
        return StepLosses(torch.stack(list(losses.values())).sum(), numbers, culprit)
