"""Annotated pictures in a folder as samples and batches for training and evaluation.

What a sample looks like depends on seed, epoch and index only, never on workers or on what was drawn before: a run that
is resumed sees the same pictures as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.augment import AugmentConfig, augment, resize
from hoiclip.data.image_file import ImageError, read_rgb
from hoiclip.data.rows import inside, keep_rows
from hoiclip.errors import DataError
from hoiclip.targets import Targets
from hoiclip.vocabulary import NO_OBJECT, Vocabulary
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, DETECTOR_TABLE, clip_crop, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """How an annotated picture becomes a sample."""

    short_side_px: int = 800
    """Of the detector picture where nothing is augmented."""
    max_side_px: int = 1333
    clip_side_px: int = 224
    max_pairs: int = 64
    """Boxes and pairs beyond this many are left out; the official number is that of the queries."""
    augment: AugmentConfig | None = None
    """None: as in evaluation."""

    def __post_init__(self) -> None:
        if min(self.short_side_px, self.max_side_px, self.clip_side_px, self.max_pairs) < 1:
            raise ValueError(f"sizes and max_pairs must be at least 1, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One picture as the model takes it, and what it shows."""

    detector_chw: Tensor
    clip_chw: Tensor
    targets: Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B pictures; the first three are the arguments of HOICLIP."""

    images: Tensor
    """(B, 3, H, W), zero on padding (right and bottom)."""
    padding: Tensor
    """(B, H, W) bool, True on padding."""
    clip_images: Tensor
    """(B, 3, S, S)"""
    targets: list[Targets]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            images=self.images.to(device, non_blocking=True),
            padding=self.padding.to(device, non_blocking=True),
            clip_images=self.clip_images.to(device, non_blocking=True),
            targets=[one.to(device) for one in self.targets],
        )


def read_image(folder: Path, one: ImageAnnotation) -> Image.Image:
    """The annotated image as image_file.py reads it, in the orientation that its boxes were made in.

    Raises:
        DataError: the file is missing, no regular file, or cannot be decoded.
    """
    path = folder / one.file_name
    try:
        return read_rgb(path, (one.width_px, one.height_px))
    except (OSError, ImageError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read image {path} ({why}); look at the set with: hoiclip data check") from error


def make_sample(
    picture: Image.Image,
    one: ImageAnnotation,
    vocabulary: Vocabulary,
    config: SampleConfig,
    rng: np.random.Generator,
) -> Sample:
    """One picture, augmented if the config says so; the CLIP picture is cut from the detector picture.

    Args:
        rng: not used without augmentation.
    """
    one = keep_rows(one, np.arange(len(one.labels)) < config.max_pairs)
    one = inside(one, picture.width, picture.height)
    if config.augment is not None:
        picture, one = augment(picture, one, config.augment, rng)
    else:
        picture, one = resize(picture, one, config.short_side_px, config.max_side_px)
    clip_picture = clip_crop(picture, config.clip_side_px)
    return Sample(
        detector_chw=torch.from_numpy(normalised(np.asarray(picture), DETECTOR_TABLE)),
        clip_chw=torch.from_numpy(normalised(np.asarray(clip_picture), CLIP_TABLE)),
        targets=make_targets(one, vocabulary, config.max_pairs),
    )


def make_targets(one: ImageAnnotation, vocabulary: Vocabulary, max_pairs: int = 64) -> Targets:
    """Interactions of the same two boxes become one pair; those that are no HOI of the vocabulary are left out.

    Args:
        one: with width and height.
    """
    hois = hois_of_pairs(one, vocabulary)
    pairs = list(hois)[:max_pairs]
    hoi_labels = torch.zeros(len(pairs), len(vocabulary.hois))
    for row, pair in enumerate(pairs):
        hoi_labels[row, hois[pair]] = 1
    # One row more: where there is no object, index -1 finds the no-object class and an empty box.
    labels = np.append(one.labels, len(vocabulary.objects))
    boxes = np.concatenate([_cxcywh(one), np.zeros((1, 4), np.float32)])
    humans, things = np.array(pairs, np.int64).reshape(-1, 2).T
    return Targets(
        object_labels=torch.from_numpy(labels[things]),
        hoi_labels=hoi_labels,
        human_boxes_cxcywh=torch.from_numpy(boxes[humans]),
        object_boxes_cxcywh=torch.from_numpy(boxes[things]),
    )


def hois_of_pairs(one: ImageAnnotation, vocabulary: Vocabulary) -> dict[tuple[int, int], list[int]]:
    """HOI indices by human row and object row, in order of first appearance."""
    hoi_of = {hoi: index for index, hoi in enumerate(vocabulary.hois)}
    pairs: dict[tuple[int, int], list[int]] = {}
    for human, thing, verb in one.interactions.tolist():
        label = int(one.labels[thing]) if thing != NO_OBJECT else len(vocabulary.objects)
        if (verb, label) in hoi_of:
            pairs.setdefault((human, thing), []).append(hoi_of[verb, label])
    return pairs


def _cxcywh(one: ImageAnnotation) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Relative to the picture."""
    corners = one.boxes_xyxy / np.array([one.width_px, one.height_px] * 2, np.float32)
    return np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)


def collate(samples: Sequence[Sample], multiple: int = 1) -> Batch:
    """Pads right and bottom to the largest height and width, rounded up to `multiple`; officially not rounded."""
    sizes = np.array([sample.detector_chw.shape[1:] for sample in samples])
    height, width = (-(-sizes.max(axis=0) // multiple) * multiple).tolist()
    images = torch.zeros(len(samples), 3, height, width)
    padding = torch.ones(len(samples), height, width, dtype=torch.bool)
    for i, (sample, (h, w)) in enumerate(zip(samples, sizes.tolist(), strict=True)):
        images[i, :, :h, :w] = sample.detector_chw
        padding[i, :h, :w] = False
    return Batch(
        images=images,
        padding=padding,
        clip_images=torch.stack([sample.clip_chw for sample in samples]),
        targets=[sample.targets for sample in samples],
    )


def drop_unseen(
    annotations: Sequence[ImageAnnotation], unseen: Collection[int], vocabulary: Vocabulary
) -> list[ImageAnnotation]:
    """For zero-shot training: a pair with an unseen HOI goes as a whole, with all its verbs.

    Pictures that lose all their pairs go too: they would teach that nothing happens where something does.
    """
    if not unseen:
        return list(annotations)
    unseen_hois = frozenset(unseen)
    kept = []
    for one in annotations:
        dropped = {p for p, hois in hois_of_pairs(one, vocabulary).items() if not unseen_hois.isdisjoint(hois)}
        stays = [tuple(pair) not in dropped for pair in one.interactions[:, :2].tolist()]
        if any(stays) or not len(one.interactions):
            kept.append(replace(one, interactions=one.interactions[stays]))
    return kept


def fraction(annotations: Sequence[ImageAnnotation], percent: float, seed: int) -> list[ImageAnnotation]:
    """A random part, in the old order. With the same seed a smaller part lies within every larger one."""
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be in (0, 100], got {percent}")
    count = max(1, round(len(annotations) * percent / 100)) if annotations else 0
    chosen = np.random.default_rng(seed).permutation(len(annotations))[:count]
    return [annotations[i] for i in sorted(chosen.tolist())]
