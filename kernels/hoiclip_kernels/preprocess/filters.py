"""PIL's resampling filters as integer tables, so that compiled code can repeat its uint8 resizes bit for bit.

Source: Pillow's documented convolution resampling: support scaled by the shrink factor, weights normalised in double,
rounded to 22 fraction bits; first across, then down, each pass rounded to bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hoiclip_kernels.preprocess.plan import Plan, Size

I32 = NDArray[np.int32]
F64 = NDArray[np.float64]
Filter = Literal["bilinear", "bicubic"]
SHIFT = 22
"""Fraction bits of the weights: 32 less 8 for the byte and 2 for overshoot."""
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}


class Taps(NamedTuple):
    """For each of N outputs, the inputs it is made of."""

    first_n: I32
    count_n: I32
    weight_nk: I32
    """(N, K) as 1 << SHIFT; zero beyond count."""

    def part(self, start: int, stop: int) -> Taps:
        """Some of the outputs."""
        return Taps(*(one[start:stop] for one in self))


@lru_cache(maxsize=64)
def taps(size: int, start: float, stop: float, outputs: int, kind: Filter) -> Taps:
    """What `outputs` pixels are made of when start..stop of a line of `size` pixels is resized to them."""
    scale = (stop - start) / outputs
    shrink = max(scale, 1.0)
    support = _SUPPORT[kind] * shrink
    centre_n = start + (np.arange(outputs) + 0.5) * scale
    # Truncation towards zero, as a C cast does.
    first_n = np.maximum(np.trunc(centre_n - support + 0.5), 0).astype(np.int64)
    count_n = np.minimum(np.trunc(centre_n + support + 0.5), size).astype(np.int64) - first_n
    widest = math.ceil(support) * 2 + 1
    k = np.arange(widest)
    weight_nk = _curve((k + first_n[:, None] - centre_n[:, None] + 0.5) * (1.0 / shrink), kind)
    weight_nk[k >= count_n[:, None]] = 0.0
    total_n = np.zeros(outputs)
    for column in weight_nk.T:  # in this order, for the last bit
        total_n += column
    weight_nk = np.divide(weight_nk, total_n[:, None], out=weight_nk, where=total_n[:, None] != 0)
    fixed_nk = np.trunc(np.where(weight_nk < 0, -0.5, 0.5) + weight_nk * (1 << SHIFT)).astype(np.int32)
    return Taps(first_n.astype(np.int32), count_n.astype(np.int32), fixed_nk)


def whole_image(source_hw: Size, image_hw: Size) -> tuple[Taps, Taps]:
    """Columns and rows of an image, or of a plane of it, from all of its source."""
    (source_h, source_w), (height, width) = source_hw, image_hw
    return taps(source_w, 0, source_w, width, "bilinear"), taps(source_h, 0, source_h, height, "bilinear")


def of_plan(plan: Plan) -> tuple[tuple[Taps, Taps], tuple[Taps, Taps]]:
    """Columns and rows of the detector image from the frame, and of the CLIP image from the detector image."""
    (height, width), cut = plan.image_hw, plan.cut
    left, top, right, bottom = np.array(cut.box_xyxy, np.float32).tolist()  # PIL takes the box in float32
    columns = taps(width, left, right, cut.resized_hw[1], "bicubic").part(cut.left, cut.left + cut.side)
    rows = taps(height, top, bottom, cut.resized_hw[0], "bicubic").part(cut.top, cut.top + cut.side)
    return whole_image(plan.source_hw, plan.image_hw), (columns, rows)


def _curve(x: F64, kind: Filter) -> F64:
    x = np.abs(x)
    if kind == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    a = -0.5
    near, far = ((a + 2.0) * x - (a + 3.0)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
