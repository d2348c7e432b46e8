"""One annotated image of any dataset, and operations on its rows. Plain numpy; file formats are in data/formats."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.errors import DataError
from hoiclip.core.untrusted_values import Box
from hoiclip.core.vocabulary import NO_OBJECT, PERSON, Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAnnotation:
    """Boxes of people and objects, and the interactions between them."""

    file_name: str
    boxes_xyxy: NDArray[np.float32]
    """(N, 4) pixels, the first pixel is 0."""
    labels: NDArray[np.int64]
    """(N,) object index into the vocabulary."""
    interactions: NDArray[np.int64]
    """(M, 3) row of the human, row of the object or -1, verb index into the vocabulary."""
    width_px: int = 0
    """0 where the format does not give it."""
    height_px: int = 0


def person_label(vocabulary: Vocabulary) -> int:
    """Label of every human row.

    Raises:
        DataError: the vocabulary has no person.
    """
    if vocabulary.person < 0:
        raise DataError(f"the vocabulary {vocabulary.name} needs an object {PERSON!r}, found none")
    return vocabulary.person


class Rows:
    """Collects people and objects of one image, each only once, and their interactions."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Box, int], int] = {}
        self._interactions: list[tuple[int, int, int]] = []

    def row(self, box_xyxy: Box, label: int) -> int:
        """Row of a box with this label; a new one unless this very box has one already."""
        return self._rows.setdefault((box_xyxy, label), len(self._rows))

    def interact(self, human_row: int, object_row: int, verb: int) -> None:
        self._interactions.append((human_row, object_row, verb))

    def annotation(self, file_name: str, width_px: int = 0, height_px: int = 0) -> ImageAnnotation:
        return image_annotation(
            file_name,
            [box for box, _ in self._rows],
            [label for _, label in self._rows],
            self._interactions,
            width_px,
            height_px,
        )


def image_annotation(
    file_name: str,
    boxes_xyxy: list[Box],
    labels: list[int],
    interactions: list[tuple[int, int, int]],
    width_px: int = 0,
    height_px: int = 0,
) -> ImageAnnotation:
    """Makes an annotation from lists; empty lists become arrays of the right shape."""
    return ImageAnnotation(
        file_name=file_name,
        boxes_xyxy=np.array(boxes_xyxy, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        interactions=np.array(interactions, np.int64).reshape(-1, 3),
        width_px=width_px,
        height_px=height_px,
    )


def keep_rows(annotation: ImageAnnotation, kept: NDArray[np.bool_]) -> ImageAnnotation:
    """Keeps some of the boxes, and the interactions between those."""
    if kept.all():
        return annotation
    new_row = np.append(np.where(kept, np.cumsum(kept) - 1, NO_OBJECT), NO_OBJECT)
    human, obj, verb = annotation.interactions.T
    stays = kept[human] & ((obj == NO_OBJECT) | np.append(kept, False)[obj])
    interactions = np.stack([new_row[human], new_row[obj], verb], axis=1)[stays]
    return replace(
        annotation, boxes_xyxy=annotation.boxes_xyxy[kept], labels=annotation.labels[kept], interactions=interactions
    )


def inside(annotation: ImageAnnotation, width_px: int, height_px: int) -> ImageAnnotation:
    """Clips boxes to an image of this size; empty boxes are dropped, with their interactions."""
    boxes = annotation.boxes_xyxy.clip(0, np.array([width_px, height_px] * 2, np.float32))
    clipped = replace(annotation, boxes_xyxy=boxes, width_px=width_px, height_px=height_px)
    return keep_rows(clipped, np.all(boxes[:, 2:] > boxes[:, :2], axis=1))


def hois_of_pairs(annotation: ImageAnnotation, vocabulary: Vocabulary) -> dict[tuple[int, int], list[int]]:
    """HOI indices by human row and object row, in order of first appearance."""
    hoi_of = {hoi: index for index, hoi in enumerate(vocabulary.hois)}
    pairs: dict[tuple[int, int], list[int]] = {}
    for human, obj, verb in annotation.interactions.tolist():
        label = int(annotation.labels[obj]) if obj != NO_OBJECT else len(vocabulary.objects)
        if (verb, label) in hoi_of:
            pairs.setdefault((human, obj), []).append(hoi_of[verb, label])
    return pairs
