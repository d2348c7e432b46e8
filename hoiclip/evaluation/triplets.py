"""Scored predictions and ground truth of one image as rows, the input of every image metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F64, I64
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.data.annotations import ImageAnnotation

Boxes = NDArray[np.floating]
BoxPair = tuple[Boxes, Boxes | None]
"""(4,) box of the human, and of the object where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedTriplets:
    """N scored triplets of one image, in any order. Several rows may share one query pair."""

    human_boxes_xyxy: NDArray[np.floating]
    """(N, 4) pixels of the image."""
    object_boxes_xyxy: NDArray[np.floating]
    """(N, 4); meaningless where label is -1."""
    label: I64
    """(N,) object index into the vocabulary, -1 where there is no object."""
    category: I64
    """(N,) HOI class for the HICO metrics, verb for those of V-COCO."""
    score: F64
    """(N,)"""
    query: I64
    """(N,) number of the human-object pair a row came from."""

    def __post_init__(self) -> None:
        n = self.score.shape[0]
        columns = (self.label, self.category, self.score, self.query)
        boxes = (self.human_boxes_xyxy, self.object_boxes_xyxy)
        if any(column.shape != (n,) for column in columns) or any(box.shape != (n, 4) for box in boxes):
            raise ValueError(
                f"expected {n} rows and boxes of 4 everywhere, got {[a.shape for a in (*columns, *boxes)]}"
            )

    def __len__(self) -> int:
        return int(self.score.shape[0])

    def rows(self, index: I64 | NDArray[np.bool_]) -> PredictedTriplets:
        """Rows of an index or a mask."""
        return PredictedTriplets(
            human_boxes_xyxy=self.human_boxes_xyxy[index],
            object_boxes_xyxy=self.object_boxes_xyxy[index],
            label=self.label[index],
            category=self.category[index],
            score=self.score[index],
            query=self.query[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruthTriplets:
    """G interactions of one image."""

    human_boxes_xyxy: Boxes
    """(G, 4)"""
    object_boxes_xyxy: Boxes
    """(G, 4); the human's own where there is no object."""
    label: I64
    """(G,) object index, -1 where there is no object."""
    category: I64
    """(G,) HOI class or verb; -1 for a triplet the vocabulary does not have."""

    def __len__(self) -> int:
        return int(self.category.shape[0])

    def rows(self, index: I64 | NDArray[np.bool_]) -> GroundTruthTriplets:
        """Rows of an index or a mask."""
        return GroundTruthTriplets(**{name: getattr(self, name)[index] for name in self.__slots__})


def hoi_ground_truth(
    annotation: ImageAnnotation, vocabulary: Vocabulary, *, keep_duplicates: bool
) -> GroundTruthTriplets:
    """Ground truth by HOI class; "no object" is the vocabulary's class of that name, where it has one."""
    pairs = verb_ground_truth(annotation, keep_duplicates=keep_duplicates)
    table = np.full((len(vocabulary.verbs), vocabulary.num_object_classes + 1), -1, np.int64)  # last column: unknown
    for index, (verb, obj) in enumerate(vocabulary.hois):
        table[verb, obj] = index
    no_object = len(vocabulary.objects) if vocabulary.has_no_object_class else vocabulary.num_object_classes
    column = np.where(pairs.label == NO_OBJECT, no_object, pairs.label)
    return GroundTruthTriplets(
        human_boxes_xyxy=pairs.human_boxes_xyxy,
        object_boxes_xyxy=pairs.object_boxes_xyxy,
        label=pairs.label,
        category=table[pairs.category, column],
    )


def verb_ground_truth(annotation: ImageAnnotation, *, keep_duplicates: bool) -> GroundTruthTriplets:
    """Ground truth by verb.

    Args:
        keep_duplicates: whether an interaction that is annotated twice, with the same boxes and verb, counts twice.
    """
    interactions = annotation.interactions.reshape(-1, 3) if keep_duplicates else distinct_interactions(annotation)
    human, obj, verb = interactions.T
    boxes = annotation.boxes_xyxy.reshape(-1, 4)
    return GroundTruthTriplets(
        human_boxes_xyxy=boxes[human],
        object_boxes_xyxy=boxes[np.where(obj < 0, human, obj)],
        label=np.where(obj < 0, NO_OBJECT, annotation.labels[obj] if len(annotation.labels) else NO_OBJECT),
        category=verb,
    )


def distinct_interactions(annotation: ImageAnnotation) -> I64:
    """(G, 3) interactions in their order; of exact duplicates the first."""
    interactions = annotation.interactions.reshape(-1, 3)
    _, first = np.unique(interactions, axis=0, return_index=True)
    return interactions[np.sort(first)]
