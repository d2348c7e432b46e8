"""preprocess in numba: both resizes, normalising and padding without an image in between. Meaning: reference.py.

Across, sixteen rows are turned on their side first, so that one weight multiplies 48 neighbours in memory: moving
bytes is cheaper than a weight per byte. Planes of a 4:2:0 frame go down first, which needs no turning, so that only
rows of the model's image are turned. Bit for bit the reference, because the same integers are added up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numba import njit

from hoiclip_kernels.preprocess import filters, nv12
from hoiclip_kernels.preprocess.filters import Taps
from hoiclip_kernels.preprocess.nv12 import Nv12
from hoiclip_kernels.preprocess.plan import Plan
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, DETECTOR_TABLE, F32, U8, Inputs
from hoiclip_kernels.preprocess.yuv420 import Yuv420

_ROWS = 16
"""Rows of a tile; with three channels, 48 lanes."""
_LANES = 3 * _ROWS
_HALF = 1 << (filters.SHIFT - 1)
_MOST_THREADS = 4
"""A frame is a millisecond of work; more threads wait for each other longer than they work."""
_WORTH_A_THREAD = 150_000
"""Pixels read, per thread: below, starting a thread costs more than it saves."""


# Indices are unsigned: of a signed one the compiler tests whether it counts from the end, and makes no vectors. Whole
# arrays come with their range of rows: a slice of one has lost its stride of one.
_u = np.uint64


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _byte(total: Any) -> Any:
    return min(max(total >> filters.SHIFT, 0), 255)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _load_rgb(tile: Any, words: Any, source: Any, last: Any, top: Any, rows: int, left: int, right: int) -> None:
    """Rows of a frame to (columns, 48): a pixel is moved as one word, whose fourth byte the next one covers."""
    width = source.shape[1] + 1
    for x in range(min(right, width - 1) - left):
        for r in range(rows):
            words[_u(x), _u(r)] = source[top + _u(r), _u(left + x)]
    if right == width:  # a word there would end beyond the frame
        for r in range(rows):
            for c in range(3):
                tile[_u(right - 1 - left), _u(3 * r + c)] = last[top + _u(r), _u(c)]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _load_planes(tile: Any, image: Any, top: Any, rows: int, left: int, right: int) -> None:
    """Rows of (3, H, W) to (columns, 48)."""
    for r in range(rows):
        for c in range(3):
            for x in range(right - left):
                tile[x, 3 * r + c] = image[c, top + _u(r), _u(left + x)]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _load_nv12(tile: Any, luma: Any, uv: Any, factors: Any, top: Any, rows: int, left: int, right: int) -> None:
    """Rows of (H, W) and their colours (H / 2, W) to (columns, 48)."""
    offset, y_all = np.int32(factors[0]), np.int32(factors[1])
    v_red, u_green = np.int32(factors[2]), np.int32(factors[3])
    v_green, u_blue = np.int32(factors[4]), np.int32(factors[5])
    half = np.int32(1 << (nv12.SHIFT - 1))
    columns = right - left
    light_x, u_x, v_x = np.empty((3, columns), np.int32)
    red_x, green_x, blue_x = np.empty((3, columns), np.uint8)
    for r in range(rows):
        row = top + _u(r)
        for x in range(columns):
            column = _u(left + x)
            light_x[x] = y_all * (np.int32(luma[row, column]) - offset) + half
            u_x[x] = np.int32(uv[row >> _u(1), column & ~_u(1)]) - np.int32(128)
            v_x[x] = np.int32(uv[row >> _u(1), column | _u(1)]) - np.int32(128)
        for x in range(columns):
            red_x[x] = min(max((light_x[x] + v_red * v_x[x]) >> nv12.SHIFT, 0), 255)
            green_x[x] = min(max((light_x[x] + u_green * u_x[x] + v_green * v_x[x]) >> nv12.SHIFT, 0), 255)
            blue_x[x] = min(max((light_x[x] + u_blue * u_x[x]) >> nv12.SHIFT, 0), 255)
        for x in range(columns):
            tile[x, 3 * r] = red_x[x]
            tile[x, 3 * r + 1] = green_x[x]
            tile[x, 3 * r + 2] = blue_x[x]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _filter_tile(
    tile: Any, first: Any, count: Any, weight: Any, left: int, rows: int, made: Any, out: Any, top: Any
) -> None:
    """A tile (columns, 48) to rows of `out` (3, H, N), by way of `made` (N, 48)."""
    total = np.empty(_LANES, np.int32)
    outputs = first.shape[0]
    for n in range(outputs):
        total[:] = _HALF
        start = _u(first[n] - left)
        for k in range(count[n]):
            w = weight[n, k]
            lanes = tile[start + _u(k)]
            for i in range(_LANES):
                total[i] += w * np.int32(lanes[i])
        for i in range(_LANES):
            made[n, i] = _byte(total[i])
    for r in range(rows):
        for c in range(3):
            for n in range(outputs):
                out[c, top + _u(r), n] = made[n, 3 * r + c]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _across_rgb(
    source: Any, last: Any, tile: Any, words: Any, above: int, first: Any, count: Any, weight: Any, out: Any
) -> None:
    """Rows of a frame from row `above` on to all of `out` (3, rows, N)."""
    left, right = first[0], first[-1] + count[-1]
    made = np.empty((first.shape[0], _LANES), np.uint8)
    for y in range(0, out.shape[1], _ROWS):
        rows = min(_ROWS, out.shape[1] - y)
        _load_rgb(tile, words, source, last, _u(above + y), rows, left, right)
        _filter_tile(tile, first, count, weight, left, rows, made, out, _u(y))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _across_nv12(luma: Any, uv: Any, factors: Any, above: int, first: Any, count: Any, weight: Any, out: Any) -> None:
    """Rows of (H, W) and their colours (H / 2, W) likewise."""
    left, right = first[0], first[-1] + count[-1]
    tile = np.zeros((right - left, _LANES), np.uint8)
    made = np.empty((first.shape[0], _LANES), np.uint8)
    for y in range(0, out.shape[1], _ROWS):
        rows = min(_ROWS, out.shape[1] - y)
        _load_nv12(tile, luma, uv, factors, _u(above + y), rows, left, right)
        _filter_tile(tile, first, count, weight, left, rows, made, out, _u(y))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _across_planes(image: Any, above: int, first: Any, count: Any, weight: Any, out: Any) -> None:
    """Rows of (3, H, W) likewise."""
    left, right = first[0], first[-1] + count[-1]
    tile = np.zeros((right - left, _LANES), np.uint8)
    made = np.empty((first.shape[0], _LANES), np.uint8)
    for y in range(0, out.shape[1], _ROWS):
        rows = min(_ROWS, out.shape[1] - y)
        _load_planes(tile, image, _u(above + y), rows, left, right)
        _filter_tile(tile, first, count, weight, left, rows, made, out, _u(y))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _down(
    lines: Any, above: int, first: Any, count: Any, weight: Any, table: Any, image: Any, out: Any, start: int
) -> None:
    """(3, rows, W), row 0 being row `above`, to rows `start`.. of `image` and, normalised, of the left of `out`."""
    width = lines.shape[2]
    total = np.empty(width, np.int32)
    for c in range(3):
        for y in range(first.shape[0]):
            n = _u(start + y)
            total[:] = _HALF
            top = _u(first[y] - above)
            for k in range(count[y]):
                w = weight[y, k]
                for x in range(width):
                    total[x] += w * np.int32(lines[c, top + _u(k), x])
            for x in range(width):
                image[c, n, x] = _byte(total[x])
            for x in range(width):
                out[c, n, x] = table[c, image[c, n, x]]
            for x in range(width, out.shape[2]):
                out[c, n, x] = 0.0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _plane_rows(plane: Any, width: int, columns: Any, rows: Any, out: Any) -> None:
    """A plane (H, padded width), of which `width` counts, to (N, M) bytes: first down, then across."""
    first_n, count_n, weight_nk = rows
    first_m, count_m, weight_mk = columns
    total = np.empty(width, np.int32)
    lanes = np.empty(_ROWS, np.int32)
    tile = np.zeros((width, _ROWS), np.uint8)
    for top in range(0, out.shape[0], _ROWS):
        high = min(_ROWS, out.shape[0] - top)
        for r in range(high):
            n = top + r
            total[:] = _HALF
            for k in range(count_n[n]):
                w, y = weight_nk[n, k], _u(first_n[n] + k)
                for x in range(width):
                    total[x] += w * np.int32(plane[y, _u(x)])
            for x in range(width):
                tile[_u(x), _u(r)] = _byte(total[x])
        for m in range(out.shape[1]):
            lanes[:] = _HALF
            for k in range(count_m[m]):
                w, x = weight_mk[m, k], _u(first_m[m] + k)
                for r in range(_ROWS):
                    lanes[r] += w * np.int32(tile[x, _u(r)])
            for r in range(high):
                out[_u(top + r), _u(m)] = _byte(lanes[r])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _colour(planes: Any, factors: Any, table: Any, image: Any, out: Any, start: int) -> None:
    """(3, rows, W) of y, u and v to rows `start`.. of `image` and, normalised, of the left of `out`."""
    offset, y_all = np.int32(factors[0]), np.int32(factors[1])
    v_red, u_green = np.int32(factors[2]), np.int32(factors[3])
    v_green, u_blue = np.int32(factors[4]), np.int32(factors[5])
    half = np.int32(1 << (nv12.SHIFT - 1))
    _, rows, width = planes.shape
    for r in range(rows):
        n = _u(start + r)
        for x in range(width):
            light = y_all * (np.int32(planes[0, r, x]) - offset) + half
            u, v = np.int32(planes[1, r, x]) - np.int32(128), np.int32(planes[2, r, x]) - np.int32(128)
            image[0, n, x] = min(max((light + v_red * v) >> nv12.SHIFT, 0), 255)
            image[1, n, x] = min(max((light + u_green * u + v_green * v) >> nv12.SHIFT, 0), 255)
            image[2, n, x] = min(max((light + u_blue * u) >> nv12.SHIFT, 0), 255)
        for c in range(3):
            for x in range(width):
                out[c, n, x] = table[c, image[c, n, x]]
            for x in range(width, out.shape[2]):
                out[c, n, x] = 0.0


def preprocess(frame: U8 | Nv12 | Yuv420, plan: Plan, out: Inputs) -> None:
    """See reference.preprocess."""
    (source_h, source_w), (height, width), side = plan.source_hw, plan.image_hw, plan.clip_side
    threads = max(1, min(_most_threads(), source_h * source_w // _WORTH_A_THREAD))
    detector, clip = filters.of_plan(plan)
    image = np.empty((3, height, width), np.uint8)
    if isinstance(frame, Yuv420):
        _resize_planes(frame, image, out.detector_chw, threads)
    else:
        _resize(_across_frame(frame), *detector, DETECTOR_TABLE, image, out.detector_chw, threads)
    out.detector_chw[:, height:] = 0.0
    out.mask_hw[...] = True
    out.mask_hw[:height, :width] = False
    small = np.empty((3, side, side), np.uint8)
    _resize(partial(_across_planes, image), *clip, CLIP_TABLE, small, out.clip_chw, threads)


def _across_frame(frame: U8 | Nv12) -> Callable[..., None]:
    if isinstance(frame, Nv12):
        luma, uv = np.ascontiguousarray(frame.y_hw), np.ascontiguousarray(frame.uv_hw2)
        return partial(_across_nv12, luma, uv.reshape(len(uv), -1), nv12.factors(frame.matrix, frame.full_range))
    rgb = np.ascontiguousarray(frame)
    height, width, _ = rgb.shape
    source: Any = np.ndarray((height, width - 1), np.uint32, rgb, 0, (3 * width, 3))  # a pixel and a byte of the next

    def across(*arguments: Any) -> None:
        room = np.zeros(width * _LANES + 1, np.uint8)
        tile = room[:-1].reshape(width, _LANES)
        words: Any = np.ndarray((width, _ROWS), np.uint32, room, 0, (_LANES, 3))
        _across_rgb(source, rgb[:, -1], tile, words, *arguments)

    return across


def _resize_planes(frame: Yuv420, image: U8, out: F32, threads: int) -> None:
    """Both passes over all planes, and their colours."""
    _, height, width = image.shape
    colours = nv12.factors(frame.matrix, frame.full_range)
    planes = [
        (_padded(plane), plane.shape[1], *filters.whole_image((plane.shape[0], plane.shape[1]), (height, width)))
        for plane in frame.planes
    ]

    def band(start: int, stop: int) -> None:
        small = np.empty((3, stop - start, width), np.uint8)
        for (plane, visible, columns, rows), made in zip(planes, small, strict=True):
            _plane_rows(plane, visible, columns, rows.part(start, stop), made)
        _colour(small, colours, DETECTOR_TABLE, image, out, start)

    _in_bands(band, height, threads)


def _padded(plane: U8) -> U8:
    """The same rows as an array with their padding, which compiled code takes for contiguous; it is never read."""
    height, width = plane.shape
    if plane.strides[1] != 1 or plane.strides[0] < width:
        return np.ascontiguousarray(plane)
    return np.lib.stride_tricks.as_strided(plane, (height, plane.strides[0]), writeable=False)


def _resize(
    across: Callable[..., None], columns: Taps, rows: Taps, table: F32, image: U8, out: F32, threads: int
) -> None:
    """Both passes, a band of output rows per thread, which reads the source rows it needs; no lock is held."""

    def band(start: int, stop: int) -> None:
        part = rows.part(start, stop)
        above, below = int(part.first_n[0]), int(part.first_n[-1] + part.count_n[-1])
        lines = np.empty((3, below - above, image.shape[2]), np.uint8)
        across(above, *columns, lines)
        _down(lines, above, *part, table, image, out, start)

    _in_bands(band, image.shape[1], threads)


def _in_bands(band: Callable[[int, int], None], count: int, threads: int) -> None:
    """Rows 0 to `count`, each thread a band of them."""
    starts = range(0, count, -(-count // threads))
    others = [_pool().submit(band, start, min(count, start + starts.step)) for start in starts[1:]]
    band(0, min(count, starts.step))
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _most_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, cores)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="preprocess")


if hasattr(os, "register_at_fork"):  # a forked child has the pool's memory, but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
