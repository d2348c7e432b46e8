"""pair_decode in Triton: every query keeps its best classes, then the survivors of eight are merged until one is left.

A score and its place are one 64-bit number, ordered like (score falling, place rising), so that sorting numbers is all
there is to do and ties come out as in the reference. With weights, scores are compared in float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hoiclip_kernels.dispatch import KernelError
from hoiclip_kernels.pair_decode.reference import Decoded

MOST = 1024
"""Largest top_k: sorting more in one program would spill."""
_FAN_IN = 8
_NOTHING = tl.constexpr(-(2**63))
_NO_SCORE = tl.constexpr(-(2**31))
_CHUNK = tl.constexpr(16)


@triton.jit
def _rank(score):
    """float32 to int32 that compare alike; no number becomes the smallest of all."""
    bits = (score + 0.0).to(tl.int32, bitcast=True)  # minus zero becomes zero
    return tl.where(score == score, bits ^ ((bits >> 31) & 0x7FFFFFFF), _NO_SCORE)


@triton.jit
def _rank_of_hoi(hoi_prob, object_prob, object_of_hoi, query, hoi, hois, objects):
    index = tl.load(object_of_hoi + hoi, mask=hoi < hois, other=-1)
    known = (index >= 0) & (index < objects)
    object_score = tl.load(object_prob + query * objects + index, mask=known, other=float("nan"))
    hoi_score = tl.load(hoi_prob + query * hois + hoi, mask=known, other=float("nan"))
    return _rank(hoi_score + object_score * object_score)


@triton.jit
def best_of_query(
    hoi_prob, object_prob, object_of_hoi, class_of_hoi, weight, keys,
    hois, objects, classes, kept,
    HAS_WEIGHT: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Grid: queries. Writes the `kept` best keys of each."""
    query = tl.program_id(0).to(tl.int64)
    klass = tl.arange(0, BLOCK_C)
    best = tl.full([BLOCK_C], _NO_SCORE, tl.int32)
    for start in range(0, hois, _CHUNK):
        hoi = start + tl.arange(0, _CHUNK)
        rank = _rank_of_hoi(hoi_prob, object_prob, object_of_hoi, query, hoi, hois, objects)
        of = tl.load(class_of_hoi + hoi, mask=hoi < hois, other=-1)
        best = tl.maximum(best, tl.max(tl.where(of[None, :] == klass[:, None], rank[None, :], _NO_SCORE), 1))
    there = (best != _NO_SCORE) & (klass < classes)
    if HAS_WEIGHT:
        score = (best ^ ((best >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
        factor = tl.load(weight + query * classes + klass, mask=klass < classes, other=0.0)
        best = _rank((score.to(tl.float64) * factor).to(tl.float32))
        there = there & (best != _NO_SCORE)
    place = query * classes + klass
    key = tl.where(there, (best.to(tl.int64) << 32) | (0xFFFFFFFF - place), _NOTHING)
    key = tl.sort(key, descending=True)
    tl.store(keys + query * kept + klass, key, mask=klass < kept)


@triton.jit
def merge(keys, merged, total, kept, BLOCK: tl.constexpr, SHARE: tl.constexpr):
    """Grid: shares of SHARE keys. Writes the `kept` best keys of each."""
    index = tl.arange(0, BLOCK)
    place = tl.program_id(0) * SHARE + index
    key = tl.load(keys + place, mask=(index < SHARE) & (place < total), other=_NOTHING)
    key = tl.sort(key, descending=True)
    tl.store(merged + tl.program_id(0) * kept + index, key, mask=index < kept)


@triton.jit
def unpack(
    keys, hoi_prob, object_prob, object_of_hoi, class_of_hoi, query_n, class_n, hoi_n, hois, objects, classes, count,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: the place of each key, and the first HOI with the best score of its class."""
    n = tl.arange(0, BLOCK)
    key = tl.load(keys + n, mask=n < count, other=_NOTHING)
    place = 0xFFFFFFFF - (key & 0xFFFFFFFF)
    place = tl.where(key == _NOTHING, 0, place)
    query = place // classes
    klass = place % classes
    best = tl.full([BLOCK], _NO_SCORE, tl.int32)
    found = tl.full([BLOCK], -1, tl.int32)
    for hoi in range(hois):
        column = hoi + tl.zeros([BLOCK], tl.int32)
        rank = _rank_of_hoi(hoi_prob, object_prob, object_of_hoi, query, column, hois, objects)
        better = (tl.load(class_of_hoi + hoi) == klass) & (rank > best)
        best = tl.where(better, rank, best)
        found = tl.where(better, hoi, found)
    tl.store(query_n + n, query, mask=n < count)
    tl.store(class_n + n, klass, mask=n < count)
    tl.store(hoi_n + n, tl.where(key == _NOTHING, -1, found).to(tl.int64), mask=n < count)


def pair_decode(
    hoi_prob_qk: Tensor,
    object_prob_qo: Tensor,
    object_of_hoi_k: Tensor,
    class_of_hoi_k: Tensor,
    num_classes: int,
    weight_qc: Tensor | None,
    top_k: int,
) -> Decoded:
    """See reference.pair_decode; tensors in, tensors out. A HOI of no known object or class is passed over.

    Raises:
        KernelError: top_k is more than MOST.
    """
    queries, hois = hoi_prob_qk.shape
    objects = object_prob_qo.shape[1]
    device = hoi_prob_qk.device
    room = max(0, min(top_k, queries * num_classes))
    if room > MOST:
        raise KernelError(f"pair_decode: the Triton implementation keeps at most {MOST}, asked for {room}; use numba")
    place = torch.empty((3, room), dtype=torch.int64, device=device)
    if room == 0 or hois == 0:
        return Decoded(place[0, :0], place[1, :0], place[2, :0], torch.empty(0, dtype=torch.float64, device=device))  # type: ignore[arg-type]
    hoi_prob = hoi_prob_qk.float().contiguous()
    object_prob = object_prob_qo.float().contiguous()
    weight = hoi_prob if weight_qc is None else weight_qc.double().contiguous()
    kept = min(room, num_classes)
    keys = torch.empty((queries, kept), dtype=torch.int64, device=device)
    best_of_query[(queries,)](
        hoi_prob, object_prob, object_of_hoi_k, class_of_hoi_k, weight, keys,
        hois, objects, num_classes, kept,
        HAS_WEIGHT=weight_qc is not None, BLOCK_C=triton.next_power_of_2(num_classes), num_warps=8,
    )  # fmt: skip
    keys = _merged(keys, room)
    unpack[(1,)](
        keys, hoi_prob, object_prob, object_of_hoi_k, class_of_hoi_k, *place, hois, objects, num_classes, room,
        BLOCK=triton.next_power_of_2(room), num_warps=8,
    )  # fmt: skip
    query, klass, hoi = place[:, hoi >= 0] if (hoi := place[2]).min() < 0 else place
    object_score = object_prob[query, object_of_hoi_k[hoi]]
    score = (hoi_prob[query, hoi] + object_score * object_score).double()
    if weight_qc is not None:
        score = score * weight_qc[query, klass]
        order = torch.sort(score, descending=True, stable=True).indices
        query, klass, hoi, score = query[order], klass[order], hoi[order], score[order]
    return Decoded(query, klass, hoi, score)  # type: ignore[arg-type]


def _merged(keys: Tensor, room: int) -> Tensor:
    """(rows, kept) to the `room` best, padded with nothing."""
    while True:
        rows, kept = keys.shape
        fan_in = _FAN_IN if kept * _FAN_IN <= 2 * MOST else 2
        share = kept * fan_in
        shares = triton.cdiv(rows, fan_in)
        merged = torch.empty((shares, min(room, share)), dtype=torch.int64, device=keys.device)
        merge[(shares,)](
            keys, merged, keys.numel(), merged.shape[1],
            BLOCK=triton.next_power_of_2(share), SHARE=share, num_warps=8,
        )  # fmt: skip
        keys = merged
        if shares == 1:
            return keys.flatten()
