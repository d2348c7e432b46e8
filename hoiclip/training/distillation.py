"""Distillation: a student learns from a teacher's outputs in place of annotations; the third task of the loop.

The teacher's confident pairs are matched like ground truth, with its probabilities as HOI labels. Matched queries also
learn its logits, and the student's image tower learns its CLIP. The outputs come from hoiclip.training.teacher.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from hoiclip.core.errors import DataError
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import image_annotation
from hoiclip.data.dataset import shuffle
from hoiclip.data.samples import Batch, Sample, SampleConfig, collate, make_sample
from hoiclip.data.targets import Targets
from hoiclip.model import HOICLIP
from hoiclip.training.losses import at_matches, groups_as_images
from hoiclip.training.matching import pad_targets
from hoiclip.training.recipe import Recipe
from hoiclip.training.tasks import HoiTask, MatchedLayers, StepLosses
from hoiclip.training.teacher import read_frame, soft_targets

TEMPERATURE = 2.0
"""Of both logits: above one, the teacher's order among improbable classes counts more."""
WEIGHTS = {"distill_hois": 1.0, "distill_objects": 1.0, "distill_clip": 2.0, "distill_tokens": 1.0}
_FLIP = 0.5
"""Probability of left for right, which no verb depends on. Other augmentations would need the teacher once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtSample:
    """An image as the student takes it, with the teacher's outputs."""

    sample: Sample
    object_logits: Tensor
    """(n, O + 1) of the targets."""
    clip_visual: Tensor
    """(T, E)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtBatch:
    """B images with the teacher's outputs."""

    batch: Batch
    object_logits: list[Tensor]
    """(n, O + 1) of each image."""
    clip_visual: Tensor
    """(B, T, E)"""

    def to(self, device: torch.device | str) -> TaughtBatch:
        return TaughtBatch(
            batch=self.batch.to(device),
            object_logits=[logits.to(device) for logits in self.object_logits],
            clip_visual=self.clip_visual.to(device, non_blocking=True),
        )


class FrameSamples:
    """Sample n is frame n mod N of a shuffle that depends on seed and epoch n div N, flipped in half of the epochs."""

    def __init__(self, frames: Sequence[Path], vocabulary: Vocabulary, config: SampleConfig, seed: int) -> None:
        """
        Args:
            frames: files of hoiclip.training.teacher.

        Raises:
            DataError: there are none.
        """
        if not frames:
            raise DataError("expected frames to learn from, found none; name more images or videos")
        self._frames, self._vocabulary, self._config, self._seed = frames, vocabulary, config, seed
        self._postprocess = Postprocessor(vocabulary, PostprocessConfig())

    def __getitem__(self, number: int) -> TaughtSample:
        """Raises DataError where the file is missing or damaged."""
        cv2.setNumThreads(0)  # workers are the threads
        epoch, row = divmod(number, len(self._frames))
        index = int(shuffle(len(self._frames), self._seed, epoch)[row])
        rng = np.random.default_rng((self._seed, epoch, index))
        frame = read_frame(self._frames[index])
        soft = soft_targets(frame, self._vocabulary, self._postprocess, self._config.max_pairs)
        image, targets, tokens = Image.fromarray(frame.rgb), soft.targets, torch.from_numpy(frame.clip_visual)
        if rng.random() < _FLIP:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            targets, tokens = flip_targets(targets), flip_tokens(tokens)
        unannotated = image_annotation("", [], [], [], image.width, image.height)
        sample = make_sample(image, unannotated, self._vocabulary, self._config, rng)
        return TaughtSample(
            sample=replace(sample, targets=targets), object_logits=soft.object_logits, clip_visual=tokens
        )


def flip_targets(targets: Targets) -> Targets:
    """Targets of the mirrored image; an object that does not exist stays an empty box."""

    def flip(boxes_cxcywh: Tensor) -> Tensor:
        flipped = boxes_cxcywh.clone()
        flipped[:, 0] = torch.where((boxes_cxcywh != 0).any(-1), 1 - boxes_cxcywh[:, 0], 0)
        return flipped

    return replace(
        targets,
        human_boxes_cxcywh=flip(targets.human_boxes_cxcywh),
        object_boxes_cxcywh=flip(targets.object_boxes_cxcywh),
    )


def flip_tokens(tokens: Tensor) -> Tensor:
    """Tokens (T, E) of the mirrored image, but for what a vision transformer knows of left and right."""
    side = math.isqrt(len(tokens) - 1)
    patches = tokens[1:].unflatten(0, (side, side)).flip(1).flatten(0, 1)
    return torch.cat((tokens[:1], patches))


class DistillTask(nn.Module):
    """A student with its auxiliary queries and heads, and the losses that compare it with its teacher."""

    def __init__(self, student: HOICLIP, recipe: Recipe, person: int) -> None:
        """Args: person: object class of humans."""
        super().__init__()
        self.hoi = HoiTask(student, recipe, person=person)

    @property
    def kept(self) -> HOICLIP:
        return self.hoi.kept

    @staticmethod
    def collate(samples: Sequence[TaughtSample]) -> TaughtBatch:
        return TaughtBatch(
            batch=collate([taught.sample for taught in samples]),
            object_logits=[taught.object_logits for taught in samples],
            clip_visual=torch.stack([taught.clip_visual for taught in samples]),
        )

    def forward(self, taught: TaughtBatch) -> StepLosses:
        predicted = self.hoi.predict(taught.batch)
        device = taught.clip_visual.device
        with torch.autocast(device.type, enabled=False):
            losses = logit_losses(predicted, taught, self.hoi.network.query_groups)
            losses |= clip_losses(predicted.layers.clip_visual.float(), taught.clip_visual)
        found, numbers = predicted.losses, {name: float(value.detach()) for name, value in losses.items()}
        total = found.total + torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()
        non_finite = next((name for name, value in numbers.items() if not math.isfinite(value)), None)
        numbers = {**found.numbers, **numbers, "total": float(total.detach())}
        return StepLosses(total, numbers, found.non_finite_loss or non_finite)


def logit_losses(predicted: MatchedLayers, taught: TaughtBatch, groups: int) -> dict[str, Tensor]:
    """Divergence of the matched queries' classes from the teacher's, mean of all decoder layers.

    Of HOIs per positive one, as their focal loss; of objects per pair.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; HOIs are independent of each other.
    """
    layers, matches = groups_as_images(predicted.layers, groups), predicted.matches
    device, num_layers = layers.hoi_logits.device, matches.query.shape[0]
    hoi_labels = pad_targets([t for t in taught.batch.targets for _ in range(groups)], device).hoi_labels
    object_logits = pad_sequence([logits for logits in taught.object_logits for _ in range(groups)], batch_first=True)
    image, target = matches.image, matches.target
    hoi_label, pairs = hoi_labels[image, target], max(1, num_layers * len(image))
    hois = bernoulli_divergence(at_matches(layers.hoi_logits, matches), hoi_label.logit(eps=1e-6), TEMPERATURE)
    objects = F.kl_div(
        (at_matches(layers.object_logits, matches) / TEMPERATURE).log_softmax(-1),
        (object_logits[image, target].float() / TEMPERATURE).log_softmax(-1),
        log_target=True,
        reduction="sum",
    )
    return {
        "distill_hois": hois.sum() / hoi_label.sum().clamp(min=1),
        "distill_objects": TEMPERATURE**2 * objects / pairs,
    }


def bernoulli_divergence(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of each class by itself, times the squared temperature; zero where logits agree."""
    wanted = teacher_logits / temperature
    p = wanted.sigmoid()
    agreeing = F.logsigmoid(wanted) * p + F.logsigmoid(-wanted) * (1 - p)
    found = logits / temperature
    return temperature**2 * (agreeing - F.logsigmoid(found) * p - F.logsigmoid(-found) * (1 - p))


def clip_losses(tokens: Tensor, teacher_tokens: Tensor) -> dict[str, Tensor]:
    """One minus the cosine of image embeddings, and of patches on the coarser of both grids.

    Both are in the space of the text embeddings, so that their widths agree whatever those of the towers.

    Args:
        tokens: (B, T, E) of the student, the image's embedding first.
        teacher_tokens: (B, T', E)
    """
    side = min(math.isqrt(t.shape[1] - 1) for t in (tokens, teacher_tokens))
    patches, teacher_patches = (_pooled(t[:, 1:], side) for t in (tokens, teacher_tokens))
    return {
        "distill_clip": 1 - F.cosine_similarity(tokens[:, 0], teacher_tokens[:, 0], dim=-1).mean(),
        "distill_tokens": 1 - F.cosine_similarity(patches, teacher_patches, dim=1).mean(),
    }


def _pooled(patches: Tensor, side: int) -> Tensor:
    """Patches (B, n², E) as (B, E, side, side)."""
    rows = math.isqrt(patches.shape[1])
    return F.adaptive_avg_pool2d(patches.transpose(1, 2).unflatten(2, (rows, rows)), side)
