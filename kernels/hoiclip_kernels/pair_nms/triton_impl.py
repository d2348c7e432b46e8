"""pair_nms in Triton: one program ranks the rows, then lets each row that stays strike out the weaker ones it overlaps.

There are a hundred rows: the greedy loop is a chain whatever the machine, and one program needs no other to wait for.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hoiclip_kernels.dispatch import KernelError

MOST = 1024
_CHUNK = tl.constexpr(32)


@triton.jit
def _box_iou(a, b, row, column):
    """One row of `a` against rows of `b`, in float64 and with the +1 pixel."""
    ax1 = tl.load(a + row * 4).to(tl.float64)
    ay1 = tl.load(a + row * 4 + 1).to(tl.float64)
    ax2 = tl.load(a + row * 4 + 2).to(tl.float64)
    ay2 = tl.load(a + row * 4 + 3).to(tl.float64)
    bx1 = tl.load(b + column * 4).to(tl.float64)
    by1 = tl.load(b + column * 4 + 1).to(tl.float64)
    bx2 = tl.load(b + column * 4 + 2).to(tl.float64)
    by2 = tl.load(b + column * 4 + 3).to(tl.float64)
    width = tl.minimum(ax2, bx2) - tl.maximum(ax1, bx1) + 1
    height = tl.minimum(ay2, by2) - tl.maximum(ay1, by1) + 1
    common = width * height
    union = (ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1) - common
    # The union holds every number of both boxes; with one that is none it is none itself, and not above zero.
    real = (width > 0) & (height > 0) & (union > 0)
    return tl.where(real, common / tl.where(real, union, 1.0), 0.0)


@triton.jit
def _power(x, EXPONENT: tl.constexpr):
    if EXPONENT == 0.0:
        return x * 0.0 + 1.0
    elif EXPONENT == 0.5:  # noqa: RET505 - the compiler drops the other branches
        return tl.sqrt(x)
    elif EXPONENT == 1.0:
        return x
    elif EXPONENT == 2.0:
        return x * x
    else:
        return tl.exp2(tl.log2(x.to(tl.float32)) * EXPONENT).to(tl.float64)


@triton.jit
def kernel(
    humans, objects, class_n, score_n, group_n, order_n, kept_n, count, n, threshold,
    HUMAN_POWER: tl.constexpr, OBJECT_POWER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program. group_n and order_n are room to work in; kept_n gets the rows that stay, `count` how many."""
    row = tl.arange(0, BLOCK)
    there = row < n
    limit = tl.load(threshold)  # in float64, as a plain argument it would be float32
    klass = tl.load(class_n + row, mask=there, other=-1)
    score = tl.load(score_n + row, mask=there, other=float("nan"))
    group = tl.full([BLOCK], 2147483647, tl.int32)
    for start in range(0, n, _CHUNK):
        other = start + tl.arange(0, _CHUNK)
        same = tl.load(class_n + other, mask=other < n, other=-2)[None, :] == klass[:, None]
        same = same & (other < n)[None, :]
        group = tl.minimum(group, tl.min(tl.where(same, other[None, :], 2147483647), 1))
    tl.store(group_n + row, group, mask=there)
    tl.debug_barrier()
    rank = tl.zeros([BLOCK], tl.int32)
    for start in range(0, n, _CHUNK):
        other = start + tl.arange(0, _CHUNK)
        group_o = tl.load(group_n + other, mask=other < n, other=2147483647)[None, :]
        score_o = tl.load(score_n + other, mask=other < n, other=float("nan"))[None, :]
        none, none_o = (score != score)[:, None], score_o != score_o
        equal = (score_o == score[:, None]) | (none & none_o)
        better = (none & (score_o == score_o)) | (score_o > score[:, None])
        first = better | (equal & (other[None, :] < row[:, None]))
        before = (group_o < group[:, None]) | ((group_o == group[:, None]) & first)
        rank += tl.sum((before & (other < n)[None, :]).to(tl.int32), 1)
    tl.store(order_n + rank, row, mask=there)
    tl.debug_barrier()
    ranked = tl.load(order_n + row, mask=there, other=0)
    ranked_group = tl.load(group_n + ranked, mask=there, other=-1)
    struck = (~there).to(tl.int32)
    for place in range(n):
        stays = tl.sum(tl.where(row == place, struck, 0), 0) == 0
        one = tl.load(order_n + place)
        overlap = _power(_box_iou(humans, humans, one, ranked), HUMAN_POWER) * _power(
            _box_iou(objects, objects, one, ranked), OBJECT_POWER
        )
        weaker = (row > place) & (ranked_group == tl.load(group_n + one)) & (overlap > limit)
        struck = struck | (weaker & stays).to(tl.int32)
    stays_n = 1 - struck
    tl.store(kept_n + tl.cumsum(stays_n, 0) - 1, ranked.to(tl.int64), mask=stays_n == 1)
    tl.store(count, tl.sum(stays_n, 0))


def pair_nms(
    human_boxes_xyxy: Tensor,
    object_boxes_xyxy: Tensor,
    class_n: Tensor,
    score_n: Tensor,
    threshold: float,
    human_power: float,
    object_power: float,
) -> Tensor:
    """See reference.pair_nms; tensors of one device in, a tensor out.

    Raises:
        KernelError: there are more than MOST rows.
    """
    n, device = len(score_n), score_n.device
    if n > MOST:
        raise KernelError(f"pair_nms: the Triton implementation takes at most {MOST} rows, got {n}; use numba")
    kept = torch.empty(n, dtype=torch.int64, device=device)
    if n == 0:
        return kept
    room = torch.empty((2, n), dtype=torch.int32, device=device)
    count = torch.empty(1, dtype=torch.int32, device=device)
    limit = torch.tensor([threshold], dtype=torch.float64, device=device)
    kernel[(1,)](
        human_boxes_xyxy.float().contiguous(), object_boxes_xyxy.float().contiguous(), class_n.contiguous(),
        score_n.double().contiguous(), *room, kept, count, n, limit,
        HUMAN_POWER=float(human_power), OBJECT_POWER=float(object_power), BLOCK=triton.next_power_of_2(n), num_warps=4,
    )  # fmt: skip
    return kept[: int(count)]
