"""The rows of an ImageAnnotation: collecting them while a format is read, and leaving some out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.untrusted import Box
from hoiclip.errors import DataError
from hoiclip.vocabulary import NO_OBJECT, PERSON, Vocabulary


def person_label(vocabulary: Vocabulary) -> int:
    """Label of every human row.

    Raises:
        DataError: the vocabulary has no person.
    """
    if vocabulary.person < 0:
        raise DataError(f"the vocabulary {vocabulary.name} needs an object {PERSON!r}, found none")
    return vocabulary.person


class Rows:
    """Things and people of one picture, each only once, and their interactions."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Box, int], int] = {}
        self._interactions: list[tuple[int, int, int]] = []

    def row(self, box_xyxy: Box, label: int) -> int:
        """Row of a box with this label; a new one unless exactly this box was there before."""
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
    """Lists to arrays that keep their shape when they are empty."""
    return ImageAnnotation(
        file_name=file_name,
        boxes_xyxy=np.array(boxes_xyxy, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        interactions=np.array(interactions, np.int64).reshape(-1, 3),
        width_px=width_px,
        height_px=height_px,
    )


def keep_rows(one: ImageAnnotation, kept: NDArray[np.bool_]) -> ImageAnnotation:
    """Only some of the boxes, and the interactions between those."""
    if kept.all():
        return one
    new_row = np.append(np.where(kept, np.cumsum(kept) - 1, NO_OBJECT), NO_OBJECT)
    human, thing, verb = one.interactions.T
    stays = kept[human] & ((thing == NO_OBJECT) | np.append(kept, False)[thing])
    interactions = np.stack([new_row[human], new_row[thing], verb], axis=1)[stays]
    return replace(one, boxes_xyxy=one.boxes_xyxy[kept], labels=one.labels[kept], interactions=interactions)


def inside(one: ImageAnnotation, width_px: int, height_px: int) -> ImageAnnotation:
    """Boxes cut at the border of a picture of this size; what vanishes goes, with its interactions."""
    boxes = one.boxes_xyxy.clip(0, np.array([width_px, height_px] * 2, np.float32))
    cut = replace(one, boxes_xyxy=boxes, width_px=width_px, height_px=height_px)
    return keep_rows(cut, np.all(boxes[:, 2:] > boxes[:, :2], axis=1))
