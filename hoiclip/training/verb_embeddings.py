"""Verb embeddings by visual semantic arithmetic: image embeddings of pairs, minus those of their objects alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.data.annotations import ImageAnnotation, hois_of_pairs, inside
from hoiclip.model.clip_image import ClipImageTower
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, clip_crop, normalised

_NO_DIFFERENCE = 1e-4
"""Difference of two unit vectors that are equal up to rounding."""


class VerbCrop(NamedTuple):
    """Crops of one annotated pair."""

    pair: Tensor
    """(3, S, S) both boxes, as CLIP sees them."""
    object: Tensor
    """(3, S, S) the object's box; of a person acting without an object the person's."""
    hois: Sequence[int]
    label: int
    """Object class; the no-object class where there is none."""


def verb_crops(
    images: Iterable[tuple[Image.Image, ImageAnnotation]], vocabulary: Vocabulary, side_px: int
) -> Iterator[VerbCrop]:
    """Crops of every annotated pair whose boxes have an area.

    Args:
        images: with those annotations that training may use.
        side_px: of the CLIP image.
    """
    for image, annotation in images:
        annotation = inside(annotation, image.width, image.height)
        for (human, obj), hois in hois_of_pairs(annotation, vocabulary).items():
            boxes = annotation.boxes_xyxy[[human, human if obj == NO_OBJECT else obj]]
            union = np.concatenate((boxes[:, :2].min(0), boxes[:, 2:].max(0)))
            pair_crop, object_crop = (_crop(image, box, side_px) for box in (union, boxes[1]))
            if pair_crop is not None and object_crop is not None:
                label = len(vocabulary.objects) if obj == NO_OBJECT else int(annotation.labels[obj])
                yield VerbCrop(pair_crop, object_crop, hois, label)


def _crop(image: Image.Image, box_xyxy: NDArray[np.floating], side_px: int) -> Tensor | None:
    """None where fewer than 2 px would remain."""
    left, top, right, bottom = (round(float(v)) for v in box_xyxy)
    crop = image.crop((max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)))
    if min(crop.size) < 2:
        return None
    return torch.from_numpy(normalised(np.asarray(clip_crop(crop, side_px)), CLIP_TABLE))


@torch.no_grad()
def verb_embeddings_from_crops(
    tower: ClipImageTower,
    crops: Iterable[tuple[Tensor, Tensor, Sequence[int], int]],
    vocabulary: Vocabulary,
    fallback: Tensor,
) -> Tensor:
    """Mean over a verb's HOIs of (mean embedding of the pairs - mean embedding of the object), as unit vectors.

    Args:
        crops: VerbCrops, or tuples like them, of training data alone: no HOI that a split hides.
        fallback: (V, E) embeddings for verbs without crops.

    Returns:
        (V, E) unit embeddings. An HOI without an object is compared with all persons who act without one; where there
        are no others, the difference is zero and the HOI does not count.

    Source: docs/model.md, Verb embeddings; every instance counts.
    """
    embed = tower.projection.shape[1]
    hoi_sum, object_sum = torch.zeros(len(vocabulary.hois), embed), torch.zeros(vocabulary.num_object_classes, embed)
    source = iter(crops)
    while group := list(itertools.islice(source, 64)):
        images = torch.stack([image for pair, obj, _, _ in group for image in (pair, obj)])
        embedded = tower.embed(tower(images)[:, 0]).float().unflatten(0, (-1, 2))
        for (pair, obj), (_, _, hois, label) in zip(embedded, group, strict=True):
            hoi_sum[list(hois)] += pair
            object_sum[label] += obj
    difference = F.normalize(hoi_sum, dim=-1) - F.normalize(object_sum, dim=-1)[[obj for _, obj in vocabulary.hois]]
    counts = (hoi_sum.abs().sum(1) > 0) & (difference.norm(dim=1) > _NO_DIFFERENCE)
    embeddings = F.normalize(fallback, dim=-1).clone()
    for verb in range(len(vocabulary.verbs)):
        own = [k for k, (v, _) in enumerate(vocabulary.hois) if v == verb and counts[k]]
        if own:
            embeddings[verb] = F.normalize(difference[own].mean(0), dim=-1)
    return embeddings
