"""What a model said about one picture, as evaluators take it. How it was scored is not known here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedPairs:
    """N scored triplets of one picture, in any order. Several rows may share one query pair."""

    human_boxes_xyxy: NDArray[np.floating]
    """(N, 4) pixels of the picture."""
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

    def rows(self, index: I64 | NDArray[np.bool_]) -> PredictedPairs:
        """Some of the rows."""
        return PredictedPairs(
            human_boxes_xyxy=self.human_boxes_xyxy[index],
            object_boxes_xyxy=self.object_boxes_xyxy[index],
            label=self.label[index],
            category=self.category[index],
            score=self.score[index],
            query=self.query[index],
        )
