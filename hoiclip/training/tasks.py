"""Tasks of the training loop: HOICLIP, and the small CLIP whose image tower it contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hoiclip.data.samples import Batch, Sample, collate
from hoiclip.model import HOICLIP, LayerOutputs
from hoiclip.model.attention import set_dropout
from hoiclip.training.losses import Criterion, find_non_finite_loss
from hoiclip.training.matching import Matches
from hoiclip.training.recipe import Recipe
from hoiclip.training.small_clip import Caption, ClipSample, SmallClip
from hoiclip.training.training_model import TrainingModel, dense_losses, dense_targets, merge_adapted_text


class StepLosses(NamedTuple):
    """Losses of one forward pass."""

    total: Tensor
    numbers: dict[str, float]
    """Values for the log."""
    non_finite_loss: str | None
    """Name of the first loss that is not finite; None: all are."""


class Task(Protocol):
    """A torch module; calling it with a batch gives StepLosses."""

    @property
    def kept(self) -> nn.Module:
        """The module of the finished model; everything else is auxiliary."""
        ...

    @staticmethod
    def collate(samples: Sequence[Any]) -> Any:
        """Samples to a batch that has `.to(device)`; runs in the workers."""
        ...


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The autocast type of a recipe's "auto", "fp32", "bf16" or "fp16"; None for fp32."""
    if precision == "auto":
        return torch.bfloat16 if _computes_in_bf16() else None
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _computes_in_bf16() -> bool:
    """Whether a GPU, or this processor, has instructions for bf16; without, torch emulates it."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class MatchedLayers(NamedTuple):
    """Predictions of all decoder layers, their assignment to the targets, and the losses of both."""

    losses: StepLosses
    layers: LayerOutputs
    """Queries of all groups concatenated; of the HOIs those that training may use."""
    matches: Matches


class HoiTask(nn.Module):
    """HOICLIP with auxiliary queries and heads; its parameters are frozen already as the recipe says."""

    def __init__(self, model: HOICLIP, recipe: Recipe, seen: Sequence[int] | None = None, person: int = 0) -> None:
        """
        Args:
            seen: HOI classes that training may use; None: all. The others get no gradient, neither as positives nor as
                negatives: their classifier rows stay CLIP's text embeddings.
            person: object class of humans.
        """
        super().__init__()
        self._seen = None if seen is None else torch.tensor(seen)
        self._person = person
        auxiliary = recipe.auxiliary
        self.network = TrainingModel(model, query_groups=auxiliary.query_groups, dense_heads=auxiliary.dense_heads)
        set_dropout(self.network, recipe.optimizer.dropout)
        self._criterion = Criterion(recipe.losses)
        self._dtype = autocast_dtype(recipe.optimizer.precision)

    @property
    def kept(self) -> HOICLIP:
        return self.network.model

    def train(self, mode: bool = True) -> HoiTask:
        """Sets the mode of everything but CLIP's tower, which stays in evaluation mode."""
        super().train(mode)
        self.kept.clip.eval()
        return self

    @staticmethod
    def collate(samples: Sequence[Sample]) -> Batch:
        return collate(samples)

    def forward(self, batch: Batch) -> StepLosses:
        return self.predict(batch).losses

    def predict(self, batch: Batch) -> MatchedLayers:
        """Losses of a batch, with the predictions and matches they are of."""
        padding = batch.padding if batch.padding.any() else None
        out = self.network(batch.images, padding, batch.clip_images, self._dtype)
        layers, dense, targets = out.layers, out.dense, batch.targets
        if self._seen is not None:
            seen = self._seen.to(batch.images.device)
            layers = layers._replace(hoi_logits=layers.hoi_logits[..., seen])
            targets = [replace(target, hoi_labels=target.hoi_labels[:, seen]) for target in targets]
            dense = None if dense is None else dense._replace(hoi_logits=dense.hoi_logits[..., seen])
        report = self._criterion(layers, targets, groups=self.network.query_groups)
        total, numbers = report.total, report.numbers()
        non_finite_loss = find_non_finite_loss(report)
        if dense is not None:
            config = self.kept.config
            rows, columns = (-(-side // config.memory_stride_px) for side in batch.images.shape[-2:])
            dense_gt = dense_targets(targets, (rows, columns), self._person, config.num_object_classes)
            losses = dense_losses(dense, dense_gt)
            if not self._criterion.config.hoi:
                del losses["dense_hois"]  # a detector is trained without HOIs
            total = total + torch.stack(list(losses.values())).sum()
            numbers |= {name: float(value.detach()) for name, value in losses.items()}
        return MatchedLayers(StepLosses(total, numbers, non_finite_loss), layers, report.matches)

    @staticmethod
    def finished(template: HOICLIP, tensors: Mapping[str, Tensor]) -> HOICLIP:
        """A plain model in evaluation mode, batch norms frozen, from averaged tensors."""
        with torch.device("meta"):
            model = HOICLIP(template.config)
        merged = merge_adapted_text(tensors)
        state = {key: value.detach().cpu().clone() for key, value in merged.items() if key in model.state_dict()}
        model.load_state_dict(state, assign=True)
        return model.requires_grad_(False).eval()


@dataclass(frozen=True, slots=True)
class ClipBatch:
    images: Tensor
    """(B, 3, S, S)"""
    captions: tuple[Caption, ...]
    patch_labels: Tensor
    """(B, patches, patches)"""

    def to(self, device: torch.device) -> ClipBatch:
        return ClipBatch(
            self.images.to(device, non_blocking=True), self.captions, self.patch_labels.to(device, non_blocking=True)
        )


class BatchTexts(NamedTuple):
    """Texts that the images of a batch are compared with; see SmallClip.losses."""

    texts: list[str]
    own: Tensor
    also_shown: Tensor


def texts_of(captions: Sequence[Caption], prompts: Mapping[int, str]) -> BatchTexts:
    """One text for each set of mentioned HOIs: other wordings of the same must not be negatives of each other.

    Args:
        captions: of a batch; of those that mention the same HOIs the first is taken.
        prompts: HOI class to prompt, for HOIs that no caption mentions.
    """
    wording = {frozenset((hoi,)): prompt for hoi, prompt in prompts.items()}
    wording.update({caption.mentioned: caption.text for caption in reversed(captions)})
    index = {mentioned: i for i, mentioned in enumerate(wording)}
    own = torch.tensor([index[caption.mentioned] for caption in captions])
    also_shown = torch.tensor([[mentioned <= caption.shown for mentioned in wording] for caption in captions])
    also_shown[torch.arange(len(captions)), own] = False
    return BatchTexts(list(wording.values()), own, also_shown)


class ClipTask(nn.Module):
    """The small CLIP: learns to match images with captions, against other captions and all prompts."""

    def __init__(self, clip: SmallClip, prompts: Mapping[int, str], recipe: Recipe) -> None:
        """prompts: by HOI class, of those that training may use."""
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
            torch.stack([s.patch_labels for s in samples]),
        )

    def forward(self, batch: ClipBatch) -> StepLosses:
        device, dtype = batch.images.device, self._dtype
        texts, own, also_shown = texts_of(batch.captions, self._prompts)
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            losses = self.clip.losses(batch.images, texts, own.to(device), also_shown.to(device), batch.patch_labels)
        numbers = {name: float(value.detach()) for name, value in losses.items()}
        non_finite_loss = next((name for name, value in losses.items() if not torch.isfinite(value)), None)
        return StepLosses(torch.stack(list(losses.values())).sum(), numbers, non_finite_loss)
