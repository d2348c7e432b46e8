"""pair_decode in numba: one pass over the scores, a heap of the best so far. Meaning and shapes: reference.py.

A heap rather than a sort: of 38,400 scores some hundreds enter it, the rest cost one comparison each.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hoiclip_kernels.pair_decode.reference import F32, F64, I64, Decoded

# No fastmath anywhere here: hoi + object² must round like the reference, and NaN must stay NaN.


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _worse(score_n: F64, flat_n: I64, a: int, b: int) -> bool:
    """Whether row a ranks behind row b."""
    if score_n[a] == score_n[b]:
        return bool(flat_n[a] > flat_n[b])
    return bool(score_n[a] < score_n[b])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _swap(score_n: F64, flat_n: I64, hoi_n: I64, a: int, b: int) -> None:
    score_n[a], score_n[b] = score_n[b], score_n[a]
    flat_n[a], flat_n[b] = flat_n[b], flat_n[a]
    hoi_n[a], hoi_n[b] = hoi_n[b], hoi_n[a]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rise(score_n: F64, flat_n: I64, hoi_n: I64, child: int) -> None:
    while child > 0:
        parent = (child - 1) // 2
        if not _worse(score_n, flat_n, child, parent):
            return
        _swap(score_n, flat_n, hoi_n, child, parent)
        child = parent


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sink(score_n: F64, flat_n: I64, hoi_n: I64, size: int) -> None:
    """Moves the root down to where it belongs; the root of the heap is its worst row."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            return
        if child + 1 < size and _worse(score_n, flat_n, child + 1, child):
            child += 1
        if not _worse(score_n, flat_n, child, parent):
            return
        _swap(score_n, flat_n, hoi_n, child, parent)
        parent = child


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _select(
    hoi_prob_qk: F32,
    object_prob_qo: F32,
    object_of_hoi_k: I64,
    class_of_hoi_k: I64,
    weight_qc: F64,
    score_n: F64,
    flat_n: I64,
    hoi_n: I64,
) -> int:
    """Fills the three arrays as a heap and returns how many rows of it are used."""
    num_classes = weight_qc.shape[1]
    best_c = np.empty(num_classes, np.float32)
    best_hoi_c = np.empty(num_classes, np.int64)
    size = 0
    for q in range(hoi_prob_qk.shape[0]):
        best_hoi_c[:] = -1
        for k in range(hoi_prob_qk.shape[1]):
            object_prob = object_prob_qo[q, object_of_hoi_k[k]]
            score = hoi_prob_qk[q, k] + object_prob * object_prob
            c = class_of_hoi_k[k]
            if score == score and (best_hoi_c[c] < 0 or score > best_c[c]):
                best_c[c] = score
                best_hoi_c[c] = k
        for c in range(num_classes):
            weighted = np.float64(best_c[c]) * weight_qc[q, c]
            if best_hoi_c[c] < 0 or weighted != weighted:
                continue
            if size < score_n.shape[0]:
                score_n[size], flat_n[size], hoi_n[size] = weighted, q * num_classes + c, best_hoi_c[c]
                _rise(score_n, flat_n, hoi_n, size)
                size += 1
            elif weighted > score_n[0]:  # an equal one comes later in (query, class) and so ranks behind
                score_n[0], flat_n[0], hoi_n[0] = weighted, q * num_classes + c, best_hoi_c[c]
                _sink(score_n, flat_n, hoi_n, size)
    return size


def pair_decode(
    hoi_prob_qk: F32,
    object_prob_qo: F32,
    object_of_hoi_k: I64,
    class_of_hoi_k: I64,
    num_classes: int,
    weight_qc: F64 | None,
    top_k: int,
) -> Decoded:
    """See reference.pair_decode."""
    num_queries = len(hoi_prob_qk)
    if weight_qc is None:
        weight_qc = np.ones((num_queries, num_classes))
    room = max(0, min(top_k, num_queries * num_classes))
    score_n, flat_n, hoi_n = np.empty(room), np.empty(room, np.int64), np.empty(room, np.int64)
    if room == 0:
        return Decoded(flat_n, flat_n, hoi_n, score_n)
    size = _select(
        np.ascontiguousarray(hoi_prob_qk, np.float32),
        np.ascontiguousarray(object_prob_qo, np.float32),
        np.ascontiguousarray(object_of_hoi_k, np.int64),
        np.ascontiguousarray(class_of_hoi_k, np.int64),
        np.ascontiguousarray(weight_qc, np.float64),
        score_n,
        flat_n,
        hoi_n,
    )
    order = np.lexsort((flat_n[:size], -score_n[:size]))
    query_n, class_n = np.divmod(flat_n[order], num_classes)
    return Decoded(query_n, class_n, hoi_n[order], score_n[order])
