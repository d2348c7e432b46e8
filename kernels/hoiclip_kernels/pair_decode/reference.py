"""pair_decode in plain numpy: the meaning, slow and clear, and inputs to try it on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Decoded(NamedTuple):
    """N combinations, best first."""

    query_n: I64
    class_n: I64
    hoi_n: I64
    """The HOI that gave the class its score (the first of several equal ones)."""
    score_n: F64

    def rows(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Decoded:
        """Some of the rows."""
        return Decoded(self.query_n[index], self.class_n[index], self.hoi_n[index], self.score_n[index])


def pair_decode(
    hoi_prob_qk: F32,
    object_prob_qo: F32,
    object_of_hoi_k: I64,
    class_of_hoi_k: I64,
    num_classes: int,
    weight_qc: F64 | None,
    top_k: int,
) -> Decoded:
    """The `top_k` best (query, class) combinations of one image.

    A HOI scores hoi + object², both in float32; a class scores the best of its HOIs, times its weight.
    For HICO every HOI is a class of its own, for V-COCO the classes are the verbs.

    Args:
        hoi_prob_qk: (Q, K) HOI probabilities.
        object_prob_qo: (Q, O) object probabilities.
        object_of_hoi_k: (K,) object of every HOI, in 0..O-1.
        class_of_hoi_k: (K,) class of every HOI, in 0..num_classes-1.
        weight_qc: (Q, num_classes) factors, or None for ones.

    Returns:
        At most `top_k` rows by falling score; equal scores in the order of (query, class). A NaN is never returned,
        nor a class without HOIs.

    Source: docs/model.md, Scores. Of equal scores the official code repeats the first, which is not followed.
    """
    object_prob_qk = object_prob_qo[:, object_of_hoi_k]
    with np.errstate(over="ignore", invalid="ignore"):  # NaN goes below, infinite ones come first
        score_qk = hoi_prob_qk + object_prob_qk * object_prob_qk
    rows: list[tuple[float, int, int, int]] = []
    for query in range(score_qk.shape[0]):
        for klass in range(num_classes):
            hois = [k for k in np.flatnonzero(class_of_hoi_k == klass) if not np.isnan(score_qk[query, k])]
            if not hois:
                continue
            best = max(hois, key=lambda k: (score_qk[query, k], -k))
            score = float(score_qk[query, best]) * (1.0 if weight_qc is None else float(weight_qc[query, klass]))
            if not np.isnan(score):
                rows.append((-score, query, klass, int(best)))
    rows = sorted(rows)[:top_k]
    index = np.array([row[1:] for row in rows], np.int64).reshape(-1, 3)
    return Decoded(index[:, 0], index[:, 1], index[:, 2], -np.array([row[0] for row in rows], np.float64))


def example_inputs(
    num_queries: int, num_hois: int, num_objects: int, num_classes: int | None = None, seed: int = 0
) -> tuple[F32, F32, I64, I64, int, F64 | None]:
    """Everything but top_k; `num_classes` None means one class per HOI and no weights."""
    rng = np.random.default_rng(seed)
    hoi_prob = rng.beta(1, 6, (num_queries, num_hois)).astype(np.float32)
    object_prob = rng.beta(1, 6, (num_queries, num_objects)).astype(np.float32)
    object_of_hoi = rng.integers(0, num_objects, num_hois)
    if num_classes is None:
        return hoi_prob, object_prob, object_of_hoi, np.arange(num_hois), num_hois, None
    class_of_hoi = rng.integers(0, num_classes, num_hois)
    weight = rng.uniform(0.5, 1.0, (num_queries, num_classes))
    return hoi_prob, object_prob, object_of_hoi, class_of_hoi, num_classes, weight
