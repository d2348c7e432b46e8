"""Scored triplets of one image, as a struct of numpy arrays.

Boxes are x1, y1, x2, y2 in pixels of the upright image. Identities over time are hoiclip_engine.types.tracked_pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from hoiclip.core.array_types import F32, F64, I64


@dataclass(frozen=True, slots=True, kw_only=True)
class HOIDetections:
    """N scored (human, verb, object) triplets of one image, in the order of docs/model.md, Scores.

    Several rows may share one query pair (one human-object pair with several verbs).
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
