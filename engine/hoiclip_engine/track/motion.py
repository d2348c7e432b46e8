"""Motion of boxes: a Kalman filter per coordinate, in real time, compiled over tracks; and interpolation of pairs.

A box is centre x, centre y, log width, log height, each with a velocity that fades when nothing is measured. Detectors
err and objects move in proportion to size, so everything is counted in units of the measurement's own noise: the size
cancels out of the gains, and one set of numbers fits a cup and a bus. Boxes are assigned to tracks in assignment.py.

Between two inferences a live stream predicts; a file can wait for the second one, and then interpolates.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hoiclip.core.array_types import F32, F64, I64, Bool
from hoiclip.core.boxes import MAX_COORDINATE_PX
from hoiclip_engine.types.tracked_pairs import TrackedPairs

# Order: centre x, centre y, log width, log height. A detector places a box to about 5 % of its size, the unit.
_UNIT = 0.05
_START_SPEED = np.array([20.0, 20.0, 6.0, 6.0]) ** 2
"""Variance of an unknown velocity: one size per second for places, 30 % per second for sizes."""
_ACCELERATION = np.array([200.0, 200.0, 16.0, 16.0])
"""Growth of the velocity's variance per second: 0.7 sizes per second, 20 % per second, each within a second."""
_FADE_S = np.array([2.0, 2.0, 0.5, 0.5])
"""Time constant with which an unseen velocity dies out: a hidden object seldom continues to grow."""
_SURPRISE = 9.0
"""Squared surprise, in units of what the filter expects, beyond which a track is taken to have turned: its doubt grows
until the measurement is no longer surprising, so that a thrown ball is not lost to the path it was on."""
_LOG_SIZES = (-30.0, 30.0)
"""Limits of reported boxes, so that no size overflows, whatever was measured."""

# Of the second axis of the state; the covariance is in units of the measurement's variance.
_PLACE, _SPEED, _PLACE_PLACE, _PLACE_SPEED, _SPEED_SPEED = range(5)


class Motion:
    """State of T boxes. Row t belongs to one track; the owner adds and drops rows."""

    def __init__(self) -> None:
        self._state = np.empty((0, 5, 4))

    def __len__(self) -> int:
        return len(self._state)

    def add(self, boxes_xyxy: NDArray[np.floating]) -> None:
        """New rows at the end, standing still until measured again."""
        state = np.zeros((len(boxes_xyxy), 5, 4))
        state[:, _PLACE] = _to_places(boxes_xyxy)
        state[:, _PLACE_PLACE] = 1.0
        state[:, _SPEED_SPEED] = _START_SPEED
        self._state = np.concatenate([self._state, state])

    def keep(self, rows: Bool) -> None:
        """Drops the rows where `rows` is False."""
        self._state = self._state[rows]

    def advance(self, dt_s: float) -> None:
        """Advances every row by dt_s ≥ 0 seconds."""
        if dt_s > 0:
            _advance(self._state, dt_s)

    def correct(self, rows: I64, boxes_xyxy: F64) -> None:
        """Takes one measured box for each of the given rows, no row twice."""
        _correct(self._state, rows, boxes_xyxy)

    def boxes_xyxy(self, after_s: float = 0.0) -> F64:
        """(T, 4) boxes after_s ≥ 0 seconds after the last advance; the state does not change."""
        boxes = np.empty((len(self), 4))
        _boxes(self._state, after_s, boxes)
        return boxes

    def doubt_px(self) -> F64:
        """(T,) standard deviation of the centres: small after many measurements, growing without any."""
        size_px = np.exp(np.clip(self._state[:, _PLACE, 2:].mean(axis=1), *_LOG_SIZES))
        doubt: F64 = _UNIT * np.sqrt(self._state[:, _PLACE_PLACE, 0]) * size_px
        return doubt

    def rescale(self, sx: float, sy: float) -> None:
        """Continues in an image with sx times as many pixels across and sy times as many down."""
        self._state[:, :2, :2] *= (sx, sy)
        self._state[:, _PLACE, 2:] += np.log((sx, sy))
        self._stay_within_reach()

    def move_camera(self, affine: F64) -> None:
        """Moves every row with the camera: points go from p to affine[:, :2] @ p + affine[:, 2]."""
        turn = affine[:, :2]
        self._state[:, :2, :2] = self._state[:, :2, :2] @ turn.T
        self._state[:, _PLACE, :2] += affine[:, 2]
        self._state[:, _PLACE, 2:] += 0.5 * math.log(abs(np.linalg.det(turn)))
        self._stay_within_reach()

    def _stay_within_reach(self) -> None:
        """Limits the state: maps multiply up, and a track that is not measured in between must not overflow."""
        np.clip(self._state[:, :2, :2], -MAX_COORDINATE_PX, MAX_COORDINATE_PX, out=self._state[:, :2, :2])
        np.clip(self._state[:, _PLACE, 2:], *_LOG_SIZES, out=self._state[:, _PLACE, 2:])


def interpolate_pairs(
    before: TrackedPairs, predicted: TrackedPairs, after: TrackedPairs, fraction: float
) -> TrackedPairs:
    """Predicted pairs of a frame between two inferences, boxes and scores on the line between those of both.

    Args:
        before: pairs of the inference before the frame.
        predicted: pairs of the frame itself; those missing from one of the inferences stay as predicted.
        after: pairs of the inference after it.
        fraction: position of the frame between the first and the second inference, 0 to 1.

    Source: linear interpolation by presentation time, as MOT benchmarks fill gaps of a track.
    """
    pairs, rows_before, rows = np.intersect1d(before.pair, predicted.pair, return_indices=True)
    _, kept, rows_after = np.intersect1d(pairs, after.pair, return_indices=True)
    rows_before, rows = rows_before[kept], rows[kept]

    def line(name: str) -> F32:
        values: F32 = getattr(predicted, name).copy()
        # An unseen member is predicted at both ends, so the line is as good as the prediction.
        values[rows] = (1 - fraction) * getattr(before, name)[rows_before] + fraction * getattr(after, name)[rows_after]
        return values

    return replace(
        predicted,
        human_boxes_xyxy=line("human_boxes_xyxy"),
        object_boxes_xyxy=line("object_boxes_xyxy"),
        score=line("score"),
        verb_scores=line("verb_scores"),
    )


def _to_places(boxes_xyxy: NDArray[np.floating]) -> F64:
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2, np.log(high - low)], axis=1)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _advance(state: Any, dt_s: float) -> None:
    for c in range(4):
        fade = math.exp(-dt_s / _FADE_S[c])
        reach_s = _FADE_S[c] * (1 - fade)
        growth = _ACCELERATION[c] * dt_s
        for t in range(state.shape[0]):
            mixed, speed = state[t, _PLACE_SPEED, c], state[t, _SPEED_SPEED, c]
            state[t, _PLACE, c] += reach_s * state[t, _SPEED, c]
            state[t, _SPEED, c] *= fade
            state[t, _PLACE_PLACE, c] += reach_s * (2 * mixed + reach_s * speed) + growth * dt_s * dt_s / 3
            state[t, _PLACE_SPEED, c] = fade * (mixed + reach_s * speed) + growth * dt_s / 2
            state[t, _SPEED_SPEED, c] = fade * fade * speed + growth


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _correct(state: Any, rows: Any, boxes: Any) -> None:
    for n in range(rows.shape[0]):
        t = rows[n]
        for c in range(4):
            low, high = boxes[n, c % 2], boxes[n, c % 2 + 2]
            measured = (low + high) / 2 if c < 2 else math.log(high - low)
            surprise = measured - state[t, _PLACE, c]
            size_px = math.exp(min(max(state[t, _PLACE, c % 2 + 2], _LOG_SIZES[0]), _LOG_SIZES[1]))
            turned = (surprise / (_UNIT * size_px)) ** 2 / (_SURPRISE * (state[t, _PLACE_PLACE, c] + 1))
            if c < 2 and turned > 1:
                for row in range(_PLACE_PLACE, _SPEED_SPEED + 1):
                    state[t, row, c] *= turned
            place, mixed = state[t, _PLACE_PLACE, c], state[t, _PLACE_SPEED, c]
            place_gain, speed_gain = place / (place + 1), mixed / (place + 1)
            state[t, _PLACE, c] += place_gain * surprise
            state[t, _SPEED, c] += speed_gain * surprise
            # The measurement's variance is 1, so what is left of the covariance are the gains themselves.
            state[t, _PLACE_PLACE, c] = place_gain
            state[t, _PLACE_SPEED, c] = speed_gain
            state[t, _SPEED_SPEED, c] -= speed_gain * mixed


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _boxes(state: Any, after_s: float, out: Any) -> None:
    for c in range(2):
        reach_s = _FADE_S[c] * (1 - math.exp(-after_s / _FADE_S[c]))
        reach_size_s = _FADE_S[c + 2] * (1 - math.exp(-after_s / _FADE_S[c + 2]))
        for t in range(state.shape[0]):
            centre = state[t, _PLACE, c] + reach_s * state[t, _SPEED, c]
            log_size = state[t, _PLACE, c + 2] + reach_size_s * state[t, _SPEED, c + 2]
            half = math.exp(min(max(log_size, _LOG_SIZES[0]), _LOG_SIZES[1])) / 2
            out[t, c], out[t, c + 2] = centre - half, centre + half
