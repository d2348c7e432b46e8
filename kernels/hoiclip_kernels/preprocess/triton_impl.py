"""preprocess in Triton, for frames that a hardware decoder left on the GPU: one launch per image.

A program makes a few pixels of one row and channel. It repeats PIL's two passes for itself, across for each source row
it needs and then down, rounded to bytes between; so it is bit for bit the reference. Reading a pixel more than once
is cheap there, an image of row sums in memory is not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from hoiclip_kernels.preprocess import filters, nv12
from hoiclip_kernels.preprocess.filters import Taps
from hoiclip_kernels.preprocess.nv12 import Nv12
from hoiclip_kernels.preprocess.plan import Plan
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, DETECTOR_TABLE, Inputs

BLOCK = 128
_SHIFT = tl.constexpr(filters.SHIFT)
_HALF = tl.constexpr(1 << (filters.SHIFT - 1))
_YUV_SHIFT = tl.constexpr(nv12.SHIFT)
_YUV_HALF = tl.constexpr(1 << (nv12.SHIFT - 1))


@triton.jit
def _byte(value, SHIFT: tl.constexpr):
    return tl.minimum(tl.maximum(value >> SHIFT, 0), 255)


@triton.jit
def kernel(
    source, uv, first_x, count_x, weight_x, first_y, count_y, weight_y, table, image, out, mask,
    row_step, pixel_step, channel_step, uv_row_step, width, height, padded_width, padded_height, taps_x, taps_y,
    y_offset, y_all, v_red, u_green, v_green, u_blue,
    NV12: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Grid: blocks of columns, rows, channels of the padded size. Writes bytes, normalised values and the mask."""
    x = tl.program_id(0) * BLOCK_X + tl.arange(0, BLOCK_X)
    y = tl.program_id(1)
    channel = tl.program_id(2)
    inside = (x < width) & (x * 0 + y < height)
    within_padded = x < padded_width
    line = tl.minimum(y, height - 1)  # below the image nothing is stored of what is read
    left = tl.load(first_x + x, mask=inside, other=0)
    columns = tl.load(count_x + x, mask=inside, other=0)
    top = tl.load(first_y + line)
    rows = tl.load(count_y + line)
    down = tl.full([BLOCK_X], _HALF, tl.int32)
    for j in range(rows):
        row = top + j
        across = tl.full([BLOCK_X], _HALF, tl.int32)
        for i in range(taps_x):
            seen = inside & (i < columns)
            column = left + i
            if NV12:
                light = tl.load(source + row * row_step + column, mask=seen, other=0).to(tl.int32)
                at = uv + (row // 2) * uv_row_step + (column // 2) * 2
                u = tl.load(at, mask=seen, other=0).to(tl.int32) - 128
                v = tl.load(at + 1, mask=seen, other=0).to(tl.int32) - 128
                colour = tl.where(channel == 1, u_green * u + v_green * v, u_blue * u)
                colour = tl.where(channel == 0, v_red * v, colour)
                value = _byte(y_all * (light - y_offset) + _YUV_HALF + colour, _YUV_SHIFT)
            else:
                at = source + row * row_step + column * pixel_step + channel * channel_step
                value = tl.load(at, mask=seen, other=0).to(tl.int32)
            across += value * tl.load(weight_x + x * taps_x + i, mask=seen, other=0)
        down += _byte(across, _SHIFT) * tl.load(weight_y + line * taps_y + j)
    value = _byte(down, _SHIFT)
    tl.store(image + (channel * height + y) * width + x, value.to(tl.uint8), mask=inside)
    normal = tl.where(inside, tl.load(table + channel * 256 + value), 0.0)
    tl.store(out + (channel * padded_height + y) * padded_width + x, normal, mask=within_padded)
    if HAS_MASK:
        tl.store(
            mask + y * padded_width + x,
            tl.where(inside, 0, 1).to(tl.uint8),
            mask=within_padded & (x * 0 + channel == 0),
        )


def empty(plan: Plan, device: torch.device) -> Inputs:
    """Tensors to write into; what they hold is undefined."""
    detector = torch.empty((3, *plan.padded_hw), device=device)
    mask = torch.empty(plan.padded_hw, dtype=torch.bool, device=device)
    clip = torch.empty((3, plan.clip_side, plan.clip_side), device=device)
    return Inputs(detector, mask, clip)  # type: ignore[arg-type]


def preprocess(frame: Tensor | Nv12, plan: Plan, out: Inputs) -> None:
    """See reference.preprocess. Frame and outputs are tensors of one device; `out` is contiguous."""
    pixels = frame.y_hw if isinstance(frame, Nv12) else frame
    device = str(pixels.device)
    (height, width), side = plan.image_hw, plan.clip_side
    image = torch.empty((3, height, width), dtype=torch.uint8, device=device)
    small = torch.empty((3, side, side), dtype=torch.uint8, device=device)
    detector_taps, clip_taps = _taps(plan, device)
    tables = _tables(device)
    mask: Any = out.mask_hw.view(torch.uint8)
    _launch(frame, *detector_taps, tables[0], image, out.detector_chw, mask)
    _launch(image.permute(1, 2, 0), *clip_taps, tables[1], small, out.clip_chw, None)


def _launch(frame: Any, columns: Any, rows: Any, table: Tensor, image: Tensor, out: Any, mask: Any) -> None:
    _, height, width = image.shape
    _, padded_height, padded_width = out.shape
    is_nv12 = isinstance(frame, Nv12)
    source, uv = (frame.y_hw, frame.uv_hw2) if is_nv12 else (frame, frame)
    steps = (source.stride(0), 1, 0) if is_nv12 else source.stride()
    factors = nv12.factors(frame.matrix, frame.full_range) if is_nv12 else (0,) * 6
    kernel[(triton.cdiv(padded_width, BLOCK), padded_height, 3)](
        source, uv, *columns, *rows, table, image, out, out if mask is None else mask,
        *steps, uv.stride(0), width, height, padded_width, padded_height, columns[2].shape[1], rows[2].shape[1],
        *factors, NV12=is_nv12, HAS_MASK=mask is not None, BLOCK_X=BLOCK,
    )  # fmt: skip


@lru_cache(maxsize=16)
def _taps(plan: Plan, device: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Columns and rows of both images, on the device."""
    return tuple(tuple(_on(device, one) for one in pair) for pair in filters.of_plan(plan))  # type: ignore[return-value]


def _on(device: str, taps: Taps) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in taps)


@lru_cache(maxsize=8)
def _tables(device: str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(DETECTOR_TABLE).to(device), torch.from_numpy(CLIP_TABLE).to(device)
