"""dual_attention in Triton: both attentions in one launch, online softmax, nothing of size queries × cells in memory.

The head dimension is taken in two powers of two (96 = 64 + 32): padding it to 128 spills registers. A program does a
few queries of one head against one of the memories; the third axis of the grid says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = 1.4426950408889634


@dataclass(frozen=True, slots=True)
class Tiles:
    """Sizes a launch is made of."""

    queries: int
    cells: int
    warps: int
    stages: int


TILES = {
    "q16c64": Tiles(16, 64, 4, 3),
    "q16c128": Tiles(16, 128, 4, 2),
    "q32c64": Tiles(32, 64, 4, 3),
    "q64c32": Tiles(64, 32, 4, 3),
}
"""Few queries per program fill a large GPU at batch 1; many read the memory less often. Which wins is measured."""
DEFAULT_TILES = "q16c64"
chosen: dict[tuple[Any, ...], str] = {}
"""The tiles taken for each device, type and shape, as measured when it was first seen."""


@triton.jit
def _load(at, first_step, columns, rows_seen, DEPTH: tl.constexpr, EXACT: tl.constexpr):
    """Rows at `first_step`, zero where not seen; without a mask over columns where none is needed."""
    if EXACT:
        return tl.load(at + first_step + columns, mask=rows_seen, other=0.0)
    return tl.load(at + first_step + columns, mask=rows_seen & (columns < DEPTH), other=0.0)


@triton.jit
def _store(at, first_step, columns, value, rows_seen, DEPTH: tl.constexpr, EXACT: tl.constexpr):
    if EXACT:
        tl.store(at + first_step + columns, value, mask=rows_seen)
    else:
        tl.store(at + first_step + columns, value, mask=rows_seen & (columns < DEPTH))


@triton.jit
def _attend(
    q_at, k_at, v_at, padding_at, out_at,
    q_row, k_row, v_row, out_row,
    first_query, queries, cells, scale,
    HAS_PADDING: tl.constexpr, DEPTH: tl.constexpr, DEPTH_A: tl.constexpr, DEPTH_B: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_M: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A block of queries of one head and image against one memory; pointers are to the first row of each."""
    EXACT: tl.constexpr = DEPTH_A + DEPTH_B == DEPTH
    rows = first_query + tl.arange(0, BLOCK_Q)
    columns_a = tl.arange(0, DEPTH_A)
    columns_b = DEPTH_A + tl.arange(0, DEPTH_B)
    in_rows = rows[:, None] < queries
    q_a = _load(q_at, rows[:, None] * q_row, columns_a[None, :], in_rows, DEPTH, EXACT)
    q_b = _load(q_at, rows[:, None] * q_row, columns_b[None, :], in_rows, DEPTH, EXACT)
    peak = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed_a = tl.zeros([BLOCK_Q, DEPTH_A], tl.float32)
    mixed_b = tl.zeros([BLOCK_Q, DEPTH_B], tl.float32)
    for start in range(0, cells, BLOCK_M):
        cell = start + tl.arange(0, BLOCK_M)
        seen = cell < cells
        k_a = _load(k_at, cell[None, :] * k_row, columns_a[:, None], seen[None, :], DEPTH, EXACT)
        k_b = _load(k_at, cell[None, :] * k_row, columns_b[:, None], seen[None, :], DEPTH, EXACT)
        v_a = _load(v_at, cell[:, None] * v_row, columns_a[None, :], seen[:, None], DEPTH, EXACT)
        v_b = _load(v_at, cell[:, None] * v_row, columns_b[None, :], seen[:, None], DEPTH, EXACT)
        if HAS_PADDING:
            seen = seen & (tl.load(padding_at + cell, mask=seen, other=1) == 0)
        scores = tl.dot(q_a, k_a, input_precision=PRECISION)
        scores = tl.dot(q_b, k_b, scores, input_precision=PRECISION)
        scores = tl.where(seen[None, :], scores * scale, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        level = tl.where(new_peak == float("-inf"), 0.0, new_peak)  # nothing seen yet: -inf - -inf is no number
        weights = tl.exp2(scores - level[:, None])
        faded = tl.exp2(peak - level)
        total = total * faded + tl.sum(weights, 1)
        half = weights.to(v_a.dtype)
        mixed_a = tl.dot(half, v_a, mixed_a * faded[:, None], input_precision=PRECISION)
        mixed_b = tl.dot(half, v_b, mixed_b * faded[:, None], input_precision=PRECISION)
        peak = new_peak
    share = 1.0 / tl.where(total == 0.0, 1.0, total)[:, None]
    at = rows[:, None] * out_row
    _store(out_at, at, columns_a[None, :], (mixed_a * share).to(q_a.dtype), in_rows, DEPTH, EXACT)
    _store(out_at, at, columns_b[None, :], (mixed_b * share).to(q_a.dtype), in_rows, DEPTH, EXACT)


@triton.jit
def kernel(
    q, k1, v1, k2, v2, padding2, out1, out2,
    q_batch, q_head, q_row, k1_batch, k1_head, k1_row, v1_batch, v1_head, v1_row,
    k2_batch, k2_head, k2_row, v2_batch, v2_head, v2_row, padding_batch, out_batch, out_head, out_row,
    heads, queries, cells1, cells2, scale,
    HAS_PADDING: tl.constexpr, DEPTH: tl.constexpr, DEPTH_A: tl.constexpr, DEPTH_B: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_M: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid: blocks of queries, batch × heads, memories. The last dimension of every tensor is contiguous."""
    first_query = tl.program_id(0) * BLOCK_Q
    batch = (tl.program_id(1) // heads).to(tl.int64)
    head = (tl.program_id(1) % heads).to(tl.int64)
    q_at = q + batch * q_batch + head * q_head
    out_at = batch * out_batch + head * out_head
    if tl.program_id(2) == 0:
        _attend(
            q_at, k1 + batch * k1_batch + head * k1_head, v1 + batch * v1_batch + head * v1_head, q_at, out1 + out_at,
            q_row, k1_row, v1_row, out_row, first_query, queries, cells1, scale,
            False, DEPTH, DEPTH_A, DEPTH_B, BLOCK_Q, BLOCK_M, PRECISION,
        )  # fmt: skip
    else:
        _attend(
            q_at, k2 + batch * k2_batch + head * k2_head, v2 + batch * v2_batch + head * v2_head,
            padding2 + batch * padding_batch, out2 + out_at,
            q_row, k2_row, v2_row, out_row, first_query, queries, cells2, scale,
            HAS_PADDING, DEPTH, DEPTH_A, DEPTH_B, BLOCK_Q, BLOCK_M, PRECISION,
        )  # fmt: skip


def depths(depth: int) -> tuple[int, int]:
    """The two powers of two that a head dimension is taken in, at least 16 each, as tensor cores need."""
    first = max(16, 1 << (depth.bit_length() - 1))
    return first, max(16, triton.next_power_of_2(max(1, depth - first)))


def dual_attention(
    q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None, out: tuple[Tensor, Tensor]
) -> None:
    """See reference.dual_attention. The tiles are those that were fastest for this shape when it was first seen."""
    launch(tiles_for(q, k1, v1, k2, v2, padding2), q, k1, v1, k2, v2, padding2, out)


def launch(
    tiles: str,
    q: Tensor,
    k1: Tensor,
    v1: Tensor,
    k2: Tensor,
    v2: Tensor,
    padding2: Tensor | None,
    out: tuple[Tensor, Tensor],
) -> None:
    """One launch with the tiles of that name; can be captured in a CUDA graph."""
    batch, heads, queries, depth = q.shape
    q, k1, v1, k2, v2 = (one if one.stride(-1) == 1 else one.contiguous() for one in (q, k1, v1, k2, v2))
    if any(one.stride(-1) != 1 for one in out) or out[0].stride() != out[1].stride():
        raise ValueError("expected two outputs of the same strides, contiguous in the last dimension")
    size = TILES[tiles]
    first, second = depths(depth)
    padding = q if padding2 is None else padding2.contiguous().view(torch.uint8)
    strides = [step for one in (q, k1, v1, k2, v2) for step in one.stride()[:3]]
    kernel[(triton.cdiv(queries, size.queries), batch * heads, 2)](
        q, k1, v1, k2, v2, padding, *out,
        *strides, padding.stride(0), *out[0].stride()[:3],
        heads, queries, k1.shape[2], k2.shape[2], depth**-0.5 * LOG2_E,
        HAS_PADDING=padding2 is not None, DEPTH=depth, DEPTH_A=first, DEPTH_B=second,
        BLOCK_Q=size.queries, BLOCK_M=size.cells, PRECISION="ieee" if q.dtype == torch.float32 else "tf32",
        num_warps=size.warps, num_stages=size.stages,
    )  # fmt: skip


def tiles_for(q: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor, padding2: Tensor | None) -> str:
    """The name of the tiles, measured once per device, type and shape; never while a CUDA graph is captured."""
    if q.device.type != "cuda":
        return DEFAULT_TILES
    key = (q.device.index, q.dtype, tuple(q.shape), k1.shape[2], k2.shape[2], padding2 is not None)
    if key not in chosen:
        if torch.cuda.is_current_stream_capturing():
            return DEFAULT_TILES
        out = torch.empty_like(q), torch.empty_like(q)
        times = {
            name: triton.testing.do_bench(
                lambda name=name: launch(name, q, k1, v1, k2, v2, padding2, out), warmup=5, rep=20
            )
            for name in TILES
        }
        chosen[key] = min(times, key=times.__getitem__)
    return chosen[key]
