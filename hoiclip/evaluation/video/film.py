"""A film as pairs at moments: the form in which truth and results are compared.

The same for both, so that a truth measured against itself is perfect. Where frames come from (a file of JSON lines, a
running stream) is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.rows import image_annotation
from hoiclip.vocabulary import NO_INTERACTION, NO_OBJECT, Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFrame:
    """P human-object pairs of one frame, each pair at most once."""

    index: int
    pts_s: float
    """NaN where it is not told."""
    pair: I64
    """(P,) identity of the pair."""
    human: I64
    """(P,) identity of the human."""
    object: I64
    """(P,) identity of the object, -1 where the person acts without one."""
    human_boxes_xyxy: F64
    """(P, 4) pixels of the upright picture."""
    object_boxes_xyxy: F64
    """(P, 4); the human's own box where there is no object."""
    label: I64
    """(P,) object index of the vocabulary, NO_OBJECT (-1) where there is none."""
    verb_scores: F64
    """(P, V) in [0, 1]; of truth 1 or 0."""
    verb_active: Bool
    """(P, V) whether the verb is said to be going on."""

    def __len__(self) -> int:
        return int(self.pair.shape[0])

    def rows(self, chosen: Bool | I64) -> FilmFrame:
        """Some of the pairs."""
        columns = {field.name: getattr(self, field.name)[chosen] for field in fields(self)[2:]}
        return FilmFrame(index=self.index, pts_s=self.pts_s, **columns)


def still_frame(index: int, pts_s: float, num_verbs: int) -> FilmFrame:
    """A frame without pairs."""
    ids, boxes = np.zeros(0, np.int64), np.zeros((0, 4))
    return FilmFrame(
        index=index,
        pts_s=pts_s,
        pair=ids,
        human=ids,
        object=ids,
        human_boxes_xyxy=boxes,
        object_boxes_xyxy=boxes,
        label=ids,
        verb_scores=np.zeros((0, num_verbs)),
        verb_active=np.zeros((0, num_verbs), np.bool_),
    )


def acting(frame: FilmFrame, vocabulary: Vocabulary) -> FilmFrame:
    """Only pairs that do something, and of their verbs only those that are something.

    Doing nothing with each other (no_interaction) is an answer about a picture and no event of a film.
    """
    active = frame.verb_active.copy()
    active[:, [verb == NO_INTERACTION for verb in vocabulary.verbs]] = False
    return replace(frame, verb_active=active).rows(active.any(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities:
    """N humans and objects of a frame, by identity."""

    ids: I64
    labels: I64
    boxes_xyxy: F64


def entities(frame: FilmFrame, person: int) -> Entities:
    """Everybody and everything in pairs, once each; ordered by identity. Of two boxes of one identity the first counts.

    Args:
        person: object index that humans have.
    """
    things = frame.object >= 0
    ids = np.concatenate([frame.human, frame.object[things]])
    labels = np.concatenate([np.full(len(frame), person, np.int64), frame.label[things]])
    boxes = np.concatenate([frame.human_boxes_xyxy, frame.object_boxes_xyxy[things]])
    ids, first = np.unique(ids, return_index=True)
    return Entities(ids=ids, labels=labels[first], boxes_xyxy=boxes[first])


def annotation(frame: FilmFrame, person: int) -> ImageAnnotation:
    """A true frame as an annotated picture; verbs that are not active are no interactions."""
    there = entities(frame, person)
    row_of = {identity: row for row, identity in enumerate(there.ids.tolist())}
    interactions = [
        (row_of[int(frame.human[p])], row_of.get(int(frame.object[p]), NO_OBJECT), int(verb))
        for p, verb in np.argwhere(frame.verb_active)
    ]
    boxes = [(box[0], box[1], box[2], box[3]) for box in there.boxes_xyxy.tolist()]
    return image_annotation(f"frame {frame.index}", boxes, there.labels.tolist(), interactions)
