"""Where boxes go: a Kalman filter per coordinate, in real time, vectorised over tracks.

A box is centre x, centre y, log width, log height, each with a velocity that fades when nothing is measured. Detectors
err and things move in proportion to size, so everything is counted in units of the measurement's own noise: the size
cancels out of the gains, and one set of numbers fits a cup and a bus. Which box belongs to which track is not decided
here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoiclip_engine.pairs import F64, I64, Bool

# Order: centre x, centre y, log width, log height. A detector places a box to about 5 % of its size, the unit.
_UNIT = 0.05
_START_SPEED = np.array([20.0, 20.0, 6.0, 6.0]) ** 2
"""Variance of an unknown velocity: one size per second for places, 30 % per second for sizes."""
_ACCELERATION = np.array([200.0, 200.0, 16.0, 16.0])
"""Growth of the velocity's variance per second: 0.7 sizes per second, 20 % per second, each within a second."""
_FADE_S = np.array([2.0, 2.0, 0.5, 0.5])
"""Time constant with which an unseen velocity dies out: a hidden thing seldom goes on growing."""


class Motion:
    """State of T boxes. Row t of every array belongs to the same track; the owner adds and drops rows."""

    def __init__(self) -> None:
        self._mean = np.empty((0, 4))
        self._speed = np.empty((0, 4))
        self._covariance = np.empty((3, 0, 4))
        """Place-place, place-speed and speed-speed, in units of the measurement's variance."""

    def __len__(self) -> int:
        return len(self._mean)

    def add(self, boxes_xyxy: NDArray[np.floating]) -> None:
        """New rows at the end, standing still until measured again."""
        boxes = _to_state(boxes_xyxy)
        covariance = np.zeros((3, len(boxes), 4))
        covariance[0] = 1.0
        covariance[2] = _START_SPEED
        self._mean = np.concatenate([self._mean, boxes])
        self._speed = np.concatenate([self._speed, np.zeros_like(boxes)])
        self._covariance = np.concatenate([self._covariance, covariance], axis=1)

    def keep(self, rows: Bool) -> None:
        """Drops the rows where `rows` is False."""
        self._mean, self._speed, self._covariance = self._mean[rows], self._speed[rows], self._covariance[:, rows]

    def advance(self, dt_s: float) -> None:
        """Moves every row on by dt_s ≥ 0 seconds."""
        if dt_s == 0 or not len(self):
            return
        fade = np.exp(-dt_s / _FADE_S)
        reach_s = _FADE_S * (1 - fade)
        place, mixed, speed = self._covariance
        self._mean = self._mean + reach_s * self._speed
        self._speed = fade * self._speed
        self._covariance = np.stack(
            [
                place + reach_s * (2 * mixed + reach_s * speed) + _ACCELERATION * dt_s**3 / 3,
                fade * (mixed + reach_s * speed) + _ACCELERATION * dt_s**2 / 2,
                fade**2 * speed + _ACCELERATION * dt_s,
            ]
        )

    def correct(self, rows: I64, boxes_xyxy: NDArray[np.floating]) -> None:
        """Takes one measured box for each of the given rows, no row twice."""
        place, mixed, speed = self._covariance[:, rows]
        place_gain, speed_gain = place / (place + 1), mixed / (place + 1)
        surprise = _to_state(boxes_xyxy) - self._mean[rows]
        self._mean[rows] += place_gain * surprise
        self._speed[rows] += speed_gain * surprise
        # The measurement's variance is 1, so what is left of the covariance are the gains themselves.
        self._covariance[:, rows] = np.stack([place_gain, speed_gain, speed - speed_gain * mixed])

    def boxes_xyxy(self, ahead_s: float = 0.0) -> F64:
        """(T, 4) where the boxes are ahead_s ≥ 0 seconds after the last advance; the state stays as it is."""
        state = self._mean + _FADE_S * (1 - np.exp(-ahead_s / _FADE_S)) * self._speed
        half = np.exp(state[:, 2:]) / 2
        return np.concatenate([state[:, :2] - half, state[:, :2] + half], axis=1)

    def doubt_px(self) -> F64:
        """(T,) standard deviation of where the centres are: small where much was seen, growing while nothing is."""
        size_px = np.exp(self._mean[:, 2:].mean(axis=1))
        doubt: F64 = _UNIT * np.sqrt(self._covariance[0, :, 0]) * size_px
        return doubt

    def rescale(self, sx: float, sy: float) -> None:
        """Goes on in a picture whose pixels are sx times as many across and sy times as many down."""
        self._mean[:, :2] *= (sx, sy)
        self._mean[:, 2:] += np.log((sx, sy))
        self._speed[:, :2] *= (sx, sy)


def _to_state(boxes_xyxy: NDArray[np.floating]) -> F64:
    boxes = np.asarray(boxes_xyxy, np.float64)
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2, np.log(high - low)], axis=1)
