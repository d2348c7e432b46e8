"""Ground truth of one picture as rows that predictions are matched with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.vocabulary import NO_OBJECT, Vocabulary

I64 = NDArray[np.int64]
Boxes = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class TruePairs:
    """G interactions of one picture."""

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

    def rows(self, index: I64 | NDArray[np.bool_]) -> TruePairs:
        """Some of the rows."""
        return TruePairs(**{name: getattr(self, name)[index] for name in self.__slots__})


def true_hois(annotation: ImageAnnotation, vocabulary: Vocabulary, *, keep_doubles: bool) -> TruePairs:
    """Categories are HOI classes; no object is the vocabulary's class of that name, where it has one."""
    pairs = true_verbs(annotation, keep_doubles=keep_doubles)
    table = np.full((len(vocabulary.verbs), vocabulary.num_object_classes + 1), -1, np.int64)  # last column: unknown
    for index, (verb, obj) in enumerate(vocabulary.hois):
        table[verb, obj] = index
    no_object = len(vocabulary.objects) if vocabulary.has_no_object_class else vocabulary.num_object_classes
    column = np.where(pairs.label == NO_OBJECT, no_object, pairs.label)
    return TruePairs(
        human_boxes_xyxy=pairs.human_boxes_xyxy,
        object_boxes_xyxy=pairs.object_boxes_xyxy,
        label=pairs.label,
        category=table[pairs.category, column],
    )


def true_verbs(annotation: ImageAnnotation, *, keep_doubles: bool) -> TruePairs:
    """Categories are verbs.

    Args:
        keep_doubles: whether an interaction that is annotated twice, word for word, counts twice.
    """
    interactions = annotation.interactions.reshape(-1, 3) if keep_doubles else distinct_interactions(annotation)
    human, thing, verb = interactions.T
    boxes = annotation.boxes_xyxy.reshape(-1, 4)
    return TruePairs(
        human_boxes_xyxy=boxes[human],
        object_boxes_xyxy=boxes[np.where(thing < 0, human, thing)],
        label=np.where(thing < 0, NO_OBJECT, annotation.labels[thing] if len(annotation.labels) else NO_OBJECT),
        category=verb,
    )


def distinct_interactions(annotation: ImageAnnotation) -> I64:
    """(G, 3) in their order, of those that are annotated twice, word for word, the first."""
    interactions = annotation.interactions.reshape(-1, 3)
    _, first = np.unique(interactions, axis=0, return_index=True)
    return interactions[np.sort(first)]
