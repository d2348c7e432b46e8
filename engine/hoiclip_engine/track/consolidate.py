"""Merges the triplets of one image into its humans, objects and pairs, each of them once.

The model's 64 query pairs repeat the same human and object with slightly different boxes. Here they become one list of
boxes and one list of pairs with a score per verb. Time plays no role here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from hoiclip.core.array_types import F32, F64, I64, Bool
from hoiclip.core.boxes import usable_boxes
from hoiclip.core.detections import HOIDetections
from hoiclip.core.vocabulary import NO_OBJECT

_ABSENT = -1
"""Object of a pair in which a person acts without one."""
_DROPPED = -2
_FAINTER = 3.0
"""Exponent of the ratio of two scores: at half the score, boxes need hardly more than faint_overlap."""
_MAX_SCORE = 1e6
"""Scores are about 1; a number beyond this is no score, and would overflow float32 in the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """E boxes and P pairs of one image. Humans are boxes whose label is the person label; best score first."""

    boxes_xyxy: F32
    """(E, 4)"""
    labels: I64
    """(E,) object index; the person label for humans, also where it is -1."""
    scores: F64
    """(E,) best triplet that contains the box."""
    human: I64
    """(P,) index of the human's box."""
    object: I64
    """(P,) index of the object's box, -1 where there is none."""
    pair_scores: F64
    """(P,) best triplet of the pair."""
    verb_scores: F64
    """(P, V) best interaction score of each verb, 0 where the pair has no triplet of it."""


def consolidate(
    pairs: HOIDetections,
    *,
    num_verbs: int,
    person_label: int,
    same_overlap: float = 0.75,
    faint_overlap: float = 0.5,
    confused_overlap: float = 0.8,
) -> Scene:
    """Merges duplicates, the better score leading.

    Args:
        pairs: N triplets; those with boxes that are empty, not finite or far beyond any image, or with impossible
            scores, are ignored.
        num_verbs: V.
        person_label: object index of "person", -1 where the vocabulary has none. Such an object is a human like others,
            so that the pair of two people names both of them.
        same_overlap: IoU from which two boxes of one label and of equal scores are one object.
        faint_overlap: the same as the worse score approaches 0: the fainter a box beside another, the more probable is
            it a loose one of the same object. Between them it grows with the cube of the scores' ratio.
        confused_overlap: IoU from which two object boxes of different labels are one object under two names; the
            worse name is dropped with its triplets.

    Raises:
        ValueError: a verb index is not below num_verbs.
    """
    if len(pairs) and not (pairs.verb.min() >= 0 and pairs.verb.max() < num_verbs):
        raise ValueError(f"verbs must be 0..{num_verbs - 1}, got {pairs.verb.min()}..{pairs.verb.max()}")
    has_object = pairs.label != NO_OBJECT
    known = (np.abs(pairs.score) < _MAX_SCORE) & (np.abs(pairs.verb_score) < _MAX_SCORE)
    solid = usable_boxes(pairs.human_boxes_xyxy) & (~has_object | usable_boxes(pairs.object_boxes_xyxy))
    rows = np.flatnonzero(known & solid)
    with_object = rows[has_object[rows]]

    # Humans come first, so that of two equal scores the human's own box leads.
    boxes = np.concatenate([pairs.human_boxes_xyxy[rows], pairs.object_boxes_xyxy[with_object]])
    labels = np.concatenate([np.full(len(rows), person_label), pairs.label[with_object]])
    scores = np.concatenate([pairs.score[rows], pairs.score[with_object]])
    is_human = np.arange(len(boxes)) < len(rows)
    owner, leaders = _group(boxes, labels, scores, is_human, (faint_overlap, same_overlap, confused_overlap))

    human = owner[: len(rows)]
    object_ = np.full(len(rows), _ABSENT)
    object_[has_object[rows]] = owner[len(rows) :]
    kept = (object_ != _DROPPED) & (object_ != human)
    rows, human, object_ = rows[kept], human[kept], object_[kept]
    keys, pair_of_row = np.unique(human * (len(leaders) + 1) + (object_ + 1), return_inverse=True)

    pair_scores, verb_scores = np.zeros(len(keys)), np.zeros((len(keys), num_verbs))
    np.maximum.at(pair_scores, pair_of_row, pairs.score[rows])
    np.maximum.at(verb_scores, (pair_of_row, pairs.verb[rows]), pairs.verb_score[rows])
    return Scene(
        boxes_xyxy=boxes[leaders].astype(np.float32),
        labels=labels[leaders],
        scores=scores[leaders],
        human=keys // (len(leaders) + 1),
        object=keys % (len(leaders) + 1) - 1,
        pair_scores=pair_scores,
        verb_scores=verb_scores,
    )


@lru_cache(maxsize=1)
def precompile() -> None:
    """Loads or compiles the functions that run per frame, before the first frame."""
    box = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
    _group(box, np.zeros(1, np.int64), np.ones(1), np.zeros(1, bool), (0.5, 0.5, 0.5))


def _group(
    boxes_xyxy: F32, labels: I64, scores: F64, is_human: Bool, overlaps: tuple[float, float, float]
) -> tuple[I64, I64]:
    """Greedy by score: (N,) group of every box, _DROPPED for a worse name; and the row that leads each group.

    Args:
        overlaps: faint, same and confused, as of consolidate().
    """
    order = np.argsort(-scores, kind="stable")
    owner, leaders = np.full(len(order), _ABSENT), np.empty(len(order), np.int64)
    boxes, score = np.ascontiguousarray(boxes_xyxy, np.float64), np.maximum(scores, 0.0).astype(np.float64)
    count = _lead(order, boxes, score, labels, is_human, overlaps, owner, leaders)
    return owner, leaders[:count]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _lead(
    order: Any, boxes: Any, scores: Any, labels: Any, is_human: Any, overlaps: Any, owner: Any, leaders: Any
) -> int:
    """Fills owner and leaders; returns the number of leaders."""
    faint, same, confused = overlaps
    count = 0
    for place in range(order.shape[0]):
        row = order[place]
        if owner[row] != _ABSENT:
            continue
        for later in range(place + 1, order.shape[0]):
            other = order[later]
            if owner[other] != _ABSENT:
                continue
            if labels[other] == labels[row]:
                ratio = scores[other] / scores[row] if scores[row] > 0.0 else 1.0
                if _iou(boxes[row], boxes[other]) >= faint + (same - faint) * ratio**_FAINTER:
                    owner[other] = count
            elif not is_human[row] and not is_human[other] and _iou(boxes[row], boxes[other]) >= confused:
                owner[other] = _DROPPED
        owner[row] = count
        leaders[count] = row
        count += 1
    return count


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _iou(a: Any, b: Any) -> float:
    """IoU of two boxes with an area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    shared = width * height
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))
