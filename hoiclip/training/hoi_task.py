"""HOICLIP as something to train: its losses on a batch, and the model that is left in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hoiclip.data.dataset import Batch, Sample, collate
from hoiclip.losses import Criterion, name_of_culprit
from hoiclip.model import HOICLIP
from hoiclip.model.attention import set_dropout
from hoiclip.training.dense import dense_losses, dense_targets
from hoiclip.training.recipe import Recipe
from hoiclip.training.task import StepLosses, autocast_dtype
from hoiclip.training.training_model import TrainingModel


class HoiTask(nn.Module):
    """The model has its start weights, thawed and frozen as the recipe says."""

    def __init__(self, model: HOICLIP, recipe: Recipe, seen: Sequence[int] | None = None, person: int = 0) -> None:
        """
        Args:
            seen: HOI classes that training may know of; None: all. The others get no gradient, neither as right nor as
                wrong: their rows stay what CLIP's texts made them.
            person: object class of humans.
        """
        super().__init__()
        self._seen = None if seen is None else torch.tensor(seen)
        self._person = person
        aids = recipe.aids
        self.network = TrainingModel(model, query_groups=aids.query_groups, dense_heads=aids.dense_heads)
        set_dropout(self.network, recipe.optimizer.dropout)
        self._criterion = Criterion(recipe.losses)
        self._dtype = autocast_dtype(recipe.optimizer.precision)

    @property
    def kept(self) -> HOICLIP:
        return self.network.model

    def train(self, mode: bool = True) -> HoiTask:
        """CLIP's tower is frozen, also in its mode."""
        super().train(mode)
        self.kept.clip.eval()
        return self

    @staticmethod
    def collate(samples: Sequence[Sample]) -> Batch:
        return collate(samples)

    def forward(self, batch: Batch) -> StepLosses:
        padding = batch.padding if batch.padding.any() else None
        out = self.network(batch.images, padding, batch.clip_images, self._dtype)
        layers, dense, targets = out.layers, out.dense, batch.targets
        if self._seen is not None:
            seen = self._seen.to(batch.images.device)
            layers = layers._replace(hoi_logits=layers.hoi_logits[..., seen])
            targets = [replace(one, hoi_labels=one.hoi_labels[:, seen]) for one in targets]
            dense = None if dense is None else dense._replace(hoi_logits=dense.hoi_logits[..., seen])
        report = self._criterion(layers, targets, groups=self.network.query_groups)
        total, numbers = report.total, report.numbers()
        culprit = name_of_culprit(report)
        if dense is not None:
            config = self.kept.config
            rows, columns = (-(-side // config.memory_stride_px) for side in batch.images.shape[-2:])
            wanted = dense_targets(targets, (rows, columns), self._person, config.num_object_classes)
            losses = dense_losses(dense, wanted)
            if not self._criterion.config.hoi:
                del losses["dense_hois"]  # a detector, which hears of no HOI
            total = total + torch.stack(list(losses.values())).sum()
            numbers |= {name: float(value.detach()) for name, value in losses.items()}
        return StepLosses(total, numbers, culprit)

    @staticmethod
    def finished(template: HOICLIP, tensors: Mapping[str, Tensor]) -> HOICLIP:
        """A plain model in evaluation mode, batch norms frozen, from averaged tensors."""
        with torch.device("meta"):
            model = HOICLIP(template.config)
        state = {key: value.detach().cpu().clone() for key, value in tensors.items() if key in model.state_dict()}
        model.load_state_dict(state, assign=True)
        return model.requires_grad_(False).eval()
