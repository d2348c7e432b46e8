"""An annotated image as the model takes it: samples and batches of training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation, hois_of_pairs, inside, keep_rows
from hoiclip.data.augment import AugmentConfig, augment, resize
from hoiclip.data.targets import Targets
from hoiclip.model.config import ModelConfig
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, DETECTOR_TABLE, clip_crop, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """Input sizes and augmentation of samples."""

    short_side_px: int = 800
    """Of the detector image where nothing is augmented."""
    max_side_px: int = 1333
    clip_side_px: int = 224
    max_pairs: int = 64
    """Boxes and pairs beyond this many are left out; the official number is that of the queries."""
    augment: AugmentConfig | None = None
    """None: as in evaluation."""

    @staticmethod
    def for_model(model: ModelConfig) -> SampleConfig:
        """Without augmentation, with as many pairs as the model has queries."""
        return SampleConfig(
            short_side_px=model.short_side_px,
            max_side_px=model.max_side_px,
            clip_side_px=model.clip_image_px,
            max_pairs=model.queries,
        )

    def __post_init__(self) -> None:
        if min(self.short_side_px, self.max_side_px, self.clip_side_px, self.max_pairs) < 1:
            raise ValueError(f"sizes and max_pairs must be at least 1, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image as the model takes it, with its targets."""

    detector_chw: Tensor
    clip_chw: Tensor
    targets: Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B images; the first three are the arguments of HOICLIP."""

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
            targets=[target.to(device) for target in self.targets],
        )


def make_sample(
    image: Image.Image,
    annotation: ImageAnnotation,
    vocabulary: Vocabulary,
    config: SampleConfig,
    rng: np.random.Generator,
) -> Sample:
    """Makes a sample of one image, augmented if the config says so; the CLIP image is cut from the detector image.

    Args:
        rng: not used without augmentation.
    """
    annotation = keep_rows(annotation, np.arange(len(annotation.labels)) < config.max_pairs)
    annotation = inside(annotation, image.width, image.height)
    if config.augment is not None:
        image, annotation = augment(image, annotation, config.augment, rng)
    else:
        image, annotation = resize(image, annotation, config.short_side_px, config.max_side_px)
    clip_image = clip_crop(image, config.clip_side_px)
    return Sample(
        detector_chw=torch.from_numpy(normalised(np.asarray(image), DETECTOR_TABLE)),
        clip_chw=torch.from_numpy(normalised(np.asarray(clip_image), CLIP_TABLE)),
        targets=make_targets(annotation, vocabulary, config.max_pairs),
    )


def make_targets(annotation: ImageAnnotation, vocabulary: Vocabulary, max_pairs: int = 64) -> Targets:
    """Targets of an image: one pair for all interactions of the same two boxes; what is no HOI is left out.

    Args:
        annotation: with width and height.
    """
    hois = hois_of_pairs(annotation, vocabulary)
    pairs = list(hois)[:max_pairs]
    hoi_labels = torch.zeros(len(pairs), len(vocabulary.hois))
    for row, pair in enumerate(pairs):
        hoi_labels[row, hois[pair]] = 1
    # One row more: where there is no object, index -1 finds the no-object class and an empty box.
    labels = np.append(annotation.labels, len(vocabulary.objects))
    boxes = np.concatenate([_cxcywh(annotation), np.zeros((1, 4), np.float32)])
    humans, objects = np.array(pairs, np.int64).reshape(-1, 2).T
    return Targets(
        object_labels=torch.from_numpy(labels[objects]),
        hoi_labels=hoi_labels,
        human_boxes_cxcywh=torch.from_numpy(boxes[humans]),
        object_boxes_cxcywh=torch.from_numpy(boxes[objects]),
    )


def _cxcywh(annotation: ImageAnnotation) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Boxes relative to the image."""
    corners = annotation.boxes_xyxy / np.array([annotation.width_px, annotation.height_px] * 2, np.float32)
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
