"""Average precision of one class, from hits in the order of falling scores."""

from __future__ import annotations

import numpy as np

from hoiclip.core.array_types import F64, Bool

RECALL_LEVELS = np.arange(11) / 10
OFFICIAL_RECALL_LEVELS = np.arange(0, 1.1, 0.1)
"""Levels of upstream: the fourth is 0.30000000000000004, which a recall of exactly 0.3 does not reach."""


def precision_recall(hits: Bool, num_gt: int) -> tuple[F64, F64]:
    """(n,) precision and (n,) recall after each prediction."""
    found = np.cumsum(hits)
    return found / np.arange(1, len(hits) + 1), found / num_gt


def eleven_point(hits: Bool, num_gt: int, levels: F64 = RECALL_LEVELS) -> float:
    """Mean of the best precision at or beyond each recall level; 0 for a level that is not reached."""
    precision, recall = precision_recall(hits, num_gt)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, levels, side="left")
    return float(best_from_here[first[first < len(hits)]].sum() / len(levels))


def envelope_area(hits: Bool, num_gt: int, *, official: bool = False) -> float:
    """Area under the precision envelope, as in VOC 2010 and the V-COCO evaluation.

    Args:
        official: with the rounding of the V-COCO code, which holds recall and result in float32.
    """
    precision, recall = precision_recall(hits, num_gt)
    if official:
        recall = (np.cumsum(hits, dtype=np.float32) / np.float32(num_gt)).astype(np.float64)
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    area = float(np.sum(np.diff(recall) * envelope[1:]))
    return float(np.float32(area)) if official else area
