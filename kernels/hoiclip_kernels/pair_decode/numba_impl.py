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
    num_classes: int,
    weight_qc: F64,
    score_n: F64,
    flat_n: I64,
    hoi_n: I64,
) -> int:
    """Fills the three arrays as a heap and returns how many rows of it are used. Without rows, weights are ones."""
    num_hois, weighs = len(class_of_hoi_k), weight_qc.shape[0] > 0
    best_c = np.full(num_classes, np.nan, np.float32)
    best_hoi_c = np.arange(num_classes)
    one_each = num_classes == num_hois and np.all(class_of_hoi_k == best_hoi_c)
    score_k = best_c if one_each else np.empty(num_hois, np.float32)
    squared_o = np.empty(object_prob_qo.shape[1], np.float32)
    size = 0
    for q in range(hoi_prob_qk.shape[0]):
        for o in range(len(squared_o)):
            squared_o[o] = object_prob_qo[q, o] * object_prob_qo[q, o]
        for k in range(num_hois):
            score_k[k] = hoi_prob_qk[q, k] + squared_o[np.uint64(object_of_hoi_k[k])]
        if not one_each:
            best_c[:] = np.nan
            for k in range(num_hois):
                c = class_of_hoi_k[k]
                if score_k[k] > best_c[c] or (best_c[c] != best_c[c] and score_k[k] == score_k[k]):
                    best_c[c] = score_k[k]
                    best_hoi_c[c] = k
        for c in range(num_classes):
            weighted = np.float64(best_c[c])
            if weighs:
                weighted *= weight_qc[q, c]
            # Of equal ones the later in (query, class) ranks behind. What is no number is not above anything.
            if size == len(score_n) and not weighted > score_n[0]:
                continue
            if size < len(score_n):
                if weighted == weighted:
                    score_n[size], flat_n[size], hoi_n[size] = weighted, q * num_classes + c, best_hoi_c[c]
                    _rise(score_n, flat_n, hoi_n, size)
                    size += 1
            else:
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
    room = max(0, min(top_k, num_queries * num_classes))
    score_n, flat_n, hoi_n = np.empty(room), np.empty(room, np.int64), np.empty(room, np.int64)
    if room == 0:
        return Decoded(flat_n, flat_n, hoi_n, score_n)
    size = _select(
        np.ascontiguousarray(hoi_prob_qk, np.float32),
        np.ascontiguousarray(object_prob_qo, np.float32),
        np.ascontiguousarray(object_of_hoi_k, np.int64),
        np.ascontiguousarray(class_of_hoi_k, np.int64),
        num_classes,
        np.empty((0, 0)) if weight_qc is None else np.ascontiguousarray(weight_qc, np.float64),
        score_n,
        flat_n,
        hoi_n,
    )
    order = np.lexsort((flat_n[:size], -score_n[:size]))
    query_n, class_n = np.divmod(flat_n[order], num_classes)
    return Decoded(query_n, class_n, hoi_n[order], score_n[order])
