"""Captioned images for training a small CLIP: crops of one pair, and whole scenes with several HOIs.

Captions are the vocabulary's prompts in a few wordings. They are made from an annotation, so that HOIs a split hides
from training are in no caption either; with the annotation of the "default" split the small CLIP sees all combinations,
as the real one has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.synthetic.vocabulary import hoi_index, synthetic_vocabulary

Rng = np.random.Generator

PROMPT_START = "a photo of "
TEMPLATES = (
    *(f"a {noun} of {{}}" for noun in ("photo", "drawing", "picture")),
    "an image of {}",
    "{}",
    "there is {}",
    "we see {}",
)
"""The first is the prompts' own; it is taken half of the time."""
_MARGIN = (0.05, 0.35)
"""Of the longer side of the crop, on every side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """A region of an image and its caption."""

    box_xyxy: tuple[int, int, int, int]
    """Whole pixels inside the image."""
    caption: str
    hois: tuple[int, ...]
    """HOI numbers of the synthetic vocabulary that the caption names, in its order."""


def pair_crops(annotation: ImageAnnotation, rng: Rng) -> list[Captioned]:
    """One crop per pair with the verbs of this pair."""
    hois_of_pairs: dict[tuple[int, int], list[int]] = {}
    for (human, obj, _), hoi in zip(annotation.interactions.tolist(), annotated_hois(annotation), strict=True):
        hois_of_pairs.setdefault((human, obj), []).append(hoi)
    return [
        Captioned(
            box_xyxy=_pair_region(annotation, pair, float(rng.uniform(*_MARGIN))),
            caption=_caption(hois, rng),
            hois=tuple(hois),
        )
        for pair, hois in hois_of_pairs.items()
    ]


def scene_caption(annotation: ImageAnnotation, rng: Rng, *, most: int = 3) -> Captioned:
    """The whole image with up to `most` of its HOIs, in any order.

    Raises:
        ValueError: it has no interaction.
    """
    hois = sorted(set(annotated_hois(annotation)))
    if not hois:
        raise ValueError(f"{annotation.file_name} has no interaction for a caption")
    named = [hois[i] for i in rng.permutation(len(hois))[:most].tolist()]
    whole = (0, 0, annotation.width_px, annotation.height_px)
    return Captioned(box_xyxy=whole, caption=_caption(named, rng), hois=tuple(named))


def annotated_hois(annotation: ImageAnnotation) -> list[int]:
    """HOI number of each row of `interactions`."""
    vocabulary, numbers = synthetic_vocabulary(), hoi_index()
    return [
        numbers[vocabulary.verbs[verb], vocabulary.objects[annotation.labels[obj]]]
        for _, obj, verb in annotation.interactions.tolist()
    ]


def _caption(hois: Sequence[int], rng: Rng) -> str:
    prompts = [synthetic_vocabulary().hoi_prompts[hoi].removeprefix(PROMPT_START) for hoi in hois]
    template = TEMPLATES[0] if rng.random() < 0.5 else TEMPLATES[rng.integers(1, len(TEMPLATES))]
    return template.format(" and ".join(prompts))


def _pair_region(annotation: ImageAnnotation, pair: tuple[int, int], margin: float) -> tuple[int, int, int, int]:
    boxes = annotation.boxes_xyxy[list(pair)].astype(np.float64)
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    extra = margin * max(x1 - x0, y1 - y0)
    left, top = max(0, int(x0 - extra)), max(0, int(y0 - extra))
    right, bottom = min(annotation.width_px, int(x1 + extra) + 1), min(annotation.height_px, int(y1 + extra) + 1)
    return left, top, right, bottom
