"""What was found: triplets of one image, tracked pairs of a stream, and events.

Struct of arrays in numpy; nothing here needs torch. Boxes are x1, y1, x2, y2 in pixels of the upright frame.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

MAX_COORDINATE_PX = 1e9
"""No image reaches this far. Boxes beyond it are finite, and still overflow when they are subtracted or multiplied."""
_MIN_SIDE_PX = 1e-9
"""A side below this has no logarithm and no area that arithmetic could tell from nothing."""


def within_reach(boxes_xyxy: NDArray[np.floating]) -> Bool:
    """(N,) whether all corners of a box (N, 4) are coordinates that can be computed with; false for NaN."""
    return np.asarray((np.abs(boxes_xyxy) < MAX_COORDINATE_PX).all(axis=1))


def usable_boxes(boxes_xyxy: NDArray[np.floating]) -> Bool:
    """(N,) whether a box (N, 4) lies within reach and has an area."""
    reached = within_reach(boxes_xyxy)
    boxes = np.where(reached[:, None], boxes_xyxy, 0.0)
    return np.asarray(reached & (boxes[:, 2:] - boxes[:, :2] > _MIN_SIDE_PX).all(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """N scored (human, verb, object) triplets of one image, in the order of SPEC.md §6.

    Several rows may share one query pair (one human-object pair doing several things).
    """

    query: I64
    """(N,) index 0..Q-1 of the query pair a row came from."""
    human_boxes_xyxy: F32
    """(N, 4) not clipped to the image."""
    object_boxes_xyxy: F32
    """(N, 4) not clipped to the image; meaningless where label is NO_OBJECT."""
    label: I64
    """(N,) object index into the vocabulary, NO_OBJECT (-1) where there is none."""
    verb: I64
    """(N,) verb index into the vocabulary."""
    hoi: I64
    """(N,) HOI class, -1 where verbs were scored without one (V-COCO)."""
    score: F64
    """(N,) score of the triplet in [0, 1]: half of the official sum hoi + object²."""
    verb_score: F64
    """(N,) the interaction's own probability in [0, 1]."""

    def __len__(self) -> int:
        return int(self.score.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedPairs:
    """P human-object pairs that are alive at one moment of a stream, ordered by pair id."""

    pair: I64
    """(P,) identity of the pair, the same from frame to frame."""
    human: I64
    """(P,) identity of the human."""
    object: I64
    """(P,) identity of the object; -1 where the person acts without one. Humans and objects share one number range."""
    human_boxes_xyxy: F32
    """(P, 4)"""
    object_boxes_xyxy: F32
    """(P, 4); the human's own box where there is no object."""
    label: I64
    """(P,) object index, NO_OBJECT (-1) where there is none."""
    score: F32
    """(P,) smoothed score of the pair in [0, 1]: that of its best triplet."""
    verb_scores: F32
    """(P, V) smoothed verb scores in [0, 1]."""
    verb_active: Bool
    """(P, V) whether the verb is going on, after hysteresis."""

    def __len__(self) -> int:
        return int(self.pair.shape[0])

    def rows(self, chosen: Bool) -> TrackedPairs:
        """Some of the pairs."""
        return TrackedPairs(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A verb of a pair starts or ends."""

    event: Literal["start", "end"]
    pair: int
    human: int
    object: int
    """-1 where the person acts without one."""
    label: int
    verb: int
    pts_s: float
    """When it began or ended. A start is told a moment later, once the verb is believed, and carries the time it began;
    an end by disappearance carries the last time the pair was seen."""
    start_s: float | None = None
    """When it began; of a start, pts_s itself."""
    peak_score: float | None = None
    """The best smoothed score of the verb so far."""
    evidence_s: tuple[float, ...] = ()
    """Times of up to three frames that show it, in order: the first, the one of the peak, the last that was sure."""
