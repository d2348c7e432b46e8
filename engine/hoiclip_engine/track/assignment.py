"""Assignment of detections to tracks: overlaps within a label, and the best pairing of them.

Most objects stand alone, so that a track and a detection have only each other: compiled code settles these, and only
knots of several go to scipy. entities.py decides on the tracks and detections that take part, and on their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from scipy.optimize import linear_sum_assignment

from hoiclip.core.array_types import F64, I64, Bool

_SAME_BOX = 0.3
"""IoU from which a detection continues a previous one: an object that moves by half of its size has it."""


def overlap_within_label(
    expected_xyxy: F64, labels_t: I64, boxes_xyxy: F64, labels_n: I64, margin_px: F64 | None = None
) -> F64:
    """(T, N) IoU of boxes of T tracks and N detections, 0 where labels differ or a box has no area.

    Args:
        margin_px: (T,) by which both boxes grow to every side.
    """
    out = np.empty((len(expected_xyxy), len(boxes_xyxy)))
    margin = np.zeros(len(expected_xyxy)) if margin_px is None else margin_px
    _overlap(expected_xyxy, labels_t, boxes_xyxy, labels_n, margin, out)
    return out


def best_overlapping(before_xyxy: F64, labels_b: I64, boxes_xyxy: F64, labels_n: I64) -> I64:
    """(B,) index of the detection with the same label that overlaps each previous detection most, -1 for none."""
    overlap = overlap_within_label(before_xyxy, labels_b, boxes_xyxy, labels_n)
    if not overlap.size:
        return np.full(len(before_xyxy), -1)
    best = overlap.argmax(axis=1)
    return np.where(overlap[np.arange(len(best)), best] >= _SAME_BOX, best, -1)


def assign_tracks(rows: I64, overlap_tn: F64, tracks: Bool, detections: Bool, min_overlap: float) -> None:
    """Assigns free detections to free tracks: the pairing with the largest total overlap.

    Args:
        rows: (N,) track of each detection, -1 where it is free; changed in place.
        tracks: (T,) True for tracks that take part if they are free.
        detections: (N,) likewise.
        min_overlap: positive; least overlap of an assigned pair.
    """
    knotted_t, knotted_n = np.empty(len(tracks), bool), np.empty(len(detections), bool)
    if _settle_clear(rows, overlap_tn, tracks, detections, min_overlap, knotted_t, knotted_n):
        t, n = np.flatnonzero(knotted_t), np.flatnonzero(knotted_n)
        knotted_tn = overlap_tn[t[:, None], n]
        knotted_tn[knotted_tn < min_overlap] = 0
        row, column = linear_sum_assignment(knotted_tn, maximize=True)
        good = knotted_tn[row, column] > 0
        rows[n[column[good]]] = t[row[good]]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _overlap(a: Any, labels_a: Any, b: Any, labels_b: Any, margin: Any, out: Any) -> None:
    for i in range(a.shape[0]):
        grown = 2 * margin[i]
        area_a = (a[i, 2] - a[i, 0] + grown) * (a[i, 3] - a[i, 1] + grown)
        for j in range(b.shape[0]):
            out[i, j] = 0.0
            if labels_a[i] == labels_b[j] and b[j, 2] > b[j, 0] and b[j, 3] > b[j, 1]:
                width = min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]) + grown
                height = min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]) + grown
                if width > 0.0 and height > 0.0:
                    shared = width * height
                    area_b = (b[j, 2] - b[j, 0] + grown) * (b[j, 3] - b[j, 1] + grown)
                    out[i, j] = shared / (area_a + area_b - shared)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _settle_clear(
    rows: Any, overlap: Any, tracks: Any, detections: Any, min_overlap: float, knotted_t: Any, knotted_n: Any
) -> bool:
    """Assigns pairs that have only each other, marks rows with a choice, and returns whether any are left."""
    count_t, count_n = overlap.shape
    for t in range(count_t):
        knotted_t[t] = tracks[t]
    for n in range(count_n):
        knotted_n[n] = False
        if rows[n] >= 0:
            knotted_t[rows[n]] = False  # taken already
    choices_n = np.zeros(count_n, np.int64)
    choices_t = np.zeros(count_t, np.int64)
    last = np.zeros(count_t, np.int64)
    for t in range(count_t):
        if knotted_t[t]:
            for n in range(count_n):
                if rows[n] < 0 and detections[n] and overlap[t, n] >= min_overlap:
                    choices_t[t] += 1
                    choices_n[n] += 1
                    last[t] = n
    any_left = False
    for t in range(count_t):
        if choices_t[t] == 1 and choices_n[last[t]] == 1:
            rows[last[t]] = t
            knotted_t[t] = False
        else:
            knotted_t[t] = choices_t[t] > 0
            any_left = any_left or knotted_t[t]
    for n in range(count_n):
        knotted_n[n] = choices_n[n] > 0 and rows[n] < 0
    return any_left
