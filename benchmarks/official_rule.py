"""The official scoring of one HICO image in plain NumPy (docs/model.md, Scores): baseline of pair_decode and pair_nms.

As fast as NumPy lets it be without changing the rule: the best hundred by partition, overlaps a row at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F32, I64


def official_rule(
    hoi_prob_qk: F32, object_prob_qo: F32, object_of_hoi_k: I64, boxes_xyxy: F32, top_k: int = 100
) -> tuple[I64, I64]:
    """Queries and classes of the pairs that stay; boxes (2Q, 4) are humans, then objects."""
    score_qk = hoi_prob_qk + object_prob_qo[:, object_of_hoi_k] ** 2
    flat = score_qk.ravel()
    best = np.argpartition(-flat, top_k)[:top_k]
    best = best[np.argsort(-flat[best], kind="stable")]
    query, hoi = np.divmod(best, score_qk.shape[1])
    humans, objects = boxes_xyxy[query].astype(np.float64), boxes_xyxy[query + len(score_qk)].astype(np.float64)
    kept: list[int] = []
    for class_index in dict.fromkeys(hoi.tolist()):
        rest = np.flatnonzero(hoi == class_index)
        while len(rest):
            first, rest = rest[0], rest[1:]
            kept.append(int(first))
            overlap = _iou(humans[first], humans[rest]) * np.sqrt(_iou(objects[first], objects[rest]))
            rest = rest[overlap <= 0.7]
    return query[kept], hoi[kept]


def _iou(box: NDArray[np.float64], many: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.minimum(box[2:], many[:, 2:]) - np.maximum(box[:2], many[:, :2]) + 1
    common = np.maximum(size, 0).prod(axis=1)
    area = (many[:, 2:] - many[:, :2] + 1).prod(axis=1)
    overlap: NDArray[np.float64] = common / ((box[2:] - box[:2] + 1).prod() + area - common)
    return overlap
