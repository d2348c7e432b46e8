"""Cuts out of training pictures from which verb rows are made: what a pair looks like, and its object alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.dataset import hois_of_pairs
from hoiclip.data.rows import inside
from hoiclip.vocabulary import NO_OBJECT, Vocabulary
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, clip_crop, normalised

MOST_PER_HOI = 64
"""Pictures beyond this many of each HOI would hardly move its mean."""


class VerbCut(NamedTuple):
    """Of one annotated pair."""

    pair: Tensor
    """(3, S, S) both boxes, as CLIP sees them."""
    thing: Tensor
    """(3, S, S) the object's box; of a person acting alone the person's."""
    hois: Sequence[int]
    label: int
    """Object class; where there is no object, the class of that."""


def verb_cuts(
    pictures: Iterable[tuple[Image.Image, ImageAnnotation]], vocabulary: Vocabulary, side_px: int
) -> Iterator[VerbCut]:
    """Every pair whose boxes can be cut out. What an annotation does not tell leaves no trace in labels or boxes.

    Args:
        pictures: with what training may know of them.
        side_px: of CLIP's picture.
    """
    for picture, annotation in pictures:
        one = inside(annotation, picture.width, picture.height)
        for (human, thing), hois in hois_of_pairs(one, vocabulary).items():
            both = one.boxes_xyxy[[human, human if thing == NO_OBJECT else thing]]
            union = np.concatenate((both[:, :2].min(0), both[:, 2:].max(0)))
            cuts = [_cut(picture, box, side_px) for box in (union, both[1])]
            if cuts[0] is not None and cuts[1] is not None:
                label = len(vocabulary.objects) if thing == NO_OBJECT else int(one.labels[thing])
                yield VerbCut(cuts[0], cuts[1], hois, label)


def enough_of_each(annotations: Sequence[ImageAnnotation], vocabulary: Vocabulary) -> Iterator[ImageAnnotation]:
    """Annotations without those that only show HOIs of MOST_PER_HOI pictures before; always in the same random order.

    Neighbours in a data set may be of one film, or of one HOI.
    """
    met: Counter[int] = Counter()
    for index in np.random.default_rng(0).permutation(len(annotations)):
        one = annotations[index]
        hois = {hoi for several in hois_of_pairs(one, vocabulary).values() for hoi in several}
        if any(met[hoi] < MOST_PER_HOI for hoi in hois):
            met.update(hois)
            yield one


def _cut(picture: Image.Image, box_xyxy: NDArray[np.floating], side_px: int) -> Tensor | None:
    """None where nothing would be left to see."""
    left, top, right, bottom = (round(float(v)) for v in box_xyxy)
    cut = picture.crop((max(0, left), max(0, top), min(picture.width, right), min(picture.height, bottom)))
    if min(cut.size) < 2:
        return None
    return torch.from_numpy(normalised(np.asarray(clip_crop(cut, side_px)), CLIP_TABLE))
