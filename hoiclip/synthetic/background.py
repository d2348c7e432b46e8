"""Backdrops: a field, a street, a court, a room, a beach, each different for every seed, with a little grain.

A backdrop is a kind, a seed and a size; the people in front of it are drawn elsewhere (draw.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.synthetic.shapes import Colour, arc_xy

BackdropKind = Literal["field", "street", "court", "room", "beach"]
BACKDROP_KINDS: tuple[BackdropKind, ...] = ("field", "street", "court", "room", "beach")
_GRAIN_SHIFT_PX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Backdrop:
    """A place without people: its kind, and the seed of its details."""

    kind: BackdropKind
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in BACKDROP_KINDS:
            raise ValueError(f"backdrop kind must be one of {', '.join(BACKDROP_KINDS)}, got {self.kind!r}")


def draw_backdrop(backdrop: Backdrop, width_px: int, height_px: int) -> RGB:
    """Draws a backdrop to a new (H, W, 3) RGB array."""
    rng = np.random.default_rng(backdrop.seed)
    image = np.empty((height_px, width_px, 3), dtype=np.uint8)
    horizon = int(height_px * rng.uniform(0.5, 0.62))
    match backdrop.kind:
        case "field":
            _field(image, horizon, rng)
        case "street":
            _street(image, horizon, rng)
        case "court":
            _court(image, horizon, rng)
        case "room":
            _room(image, horizon, rng)
        case "beach":
            _beach(image, horizon, rng)
    grain = _grain(width_px, height_px)
    x, y = rng.integers(_GRAIN_SHIFT_PX, size=2).tolist()
    return np.asarray(cv2.add(image, grain[y : y + height_px, x : x + width_px]), dtype=np.uint8)


def _field(image: RGB, horizon: int, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    _sky(image, horizon, rng)
    green = _tint(rng, (104, 158, 78), 30)
    for shade in (0.72, 0.84):
        x, breadth = rng.uniform(0, width), width * rng.uniform(0.35, 0.7)
        _blob(image, _shade(green, shade), x, horizon + 2, breadth, height * rng.uniform(0.1, 0.22))
    for x in rng.uniform(0, width, size=int(rng.integers(1, 4))):
        size = height * rng.uniform(0.12, 0.2)
        _box(image, (98, 74, 54), x - 0.07 * size, horizon - size, x + 0.07 * size, horizon + 2)
        for dx, dy in ((-0.25, -1.0), (0.25, -1.05), (0.0, -1.35)):
            _blob(image, _shade(green, 0.62 - 0.1 * dx), x + dx * size, horizon + dy * size, 0.4 * size, 0.36 * size)
    _gradient(image, horizon, height, _shade(green, 1.1), _shade(green, 0.85))
    for _ in range(14):
        x, y = rng.uniform(0, width), rng.uniform(horizon + 3, height)
        _box(image, _shade(green, 0.8), x, y, x + 0.02 * width, y + 1)


def _street(image: RGB, horizon: int, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    _sky(image, horizon, rng)
    x = -rng.uniform(0, 0.1) * width
    while x < width:
        breadth, top = width * rng.uniform(0.14, 0.26), horizon * rng.uniform(0.15, 0.6)
        wall = _tint(rng, (170, 140, 122), 50)
        _box(image, wall, x, top, x + breadth, horizon)
        pane = _shade(wall, 0.62) if rng.random() < 0.6 else (232, 224, 176)
        step = breadth / 4
        for row in np.arange(top + 0.4 * step, horizon - step, 1.15 * step):
            for i in range(3):
                left = x + (0.5 + 1.1 * i) * step
                _box(image, pane, left, row, left + 0.62 * step, row + 0.7 * step)
        x += breadth
    kerb = horizon + int(0.3 * (height - horizon))
    _gradient(image, horizon, kerb, (186, 182, 176), (170, 166, 160))
    road = _tint(rng, (98, 98, 104), 12)
    _gradient(image, kerb, height, road, _shade(road, 0.85))
    _box(image, (206, 202, 194), 0, kerb, width, kerb + 0.008 * height)
    middle, dash = (kerb + height) / 2, 0.12 * width
    for left in np.arange(-rng.uniform(0, 2) * dash, width, 2 * dash):
        _box(image, (226, 220, 196), left, middle, left + dash, middle + 0.014 * height)


def _court(image: RGB, horizon: int, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    wall, floor = _tint(rng, (150, 164, 184), 40), _tint(rng, (190, 124, 84), 40)
    _gradient(image, 0, horizon, _shade(wall, 0.85), wall)
    _box(image, _shade(wall, 0.7), 0, horizon - 0.12 * height, width, horizon)
    for x in np.arange(rng.uniform(0, 0.2) * width, width, 0.22 * width):
        _box(image, _shade(wall, 1.12), x, 0.08 * height, x + 0.015 * width, horizon - 0.12 * height)
    _gradient(image, horizon, height, _shade(floor, 1.08), _shade(floor, 0.9))
    line, thick = (240, 236, 226), max(1, round(0.008 * height))
    centre = width * rng.uniform(0.3, 0.7)
    for fraction in rng.uniform(-1.0, 1.0, size=3):
        ends = (int(centre + fraction * 0.4 * width), horizon), (int(centre + fraction * 1.3 * width), height)
        cv2.line(image, *ends, line, thick, cv2.LINE_AA)
    _box(image, line, 0, horizon + 0.12 * height, width, horizon + 0.12 * height + thick)
    axes = (int(0.22 * width), int(0.1 * height))
    cv2.ellipse(image, (int(centre), horizon + int(0.28 * height)), axes, 0, 0, 360, line, thick, cv2.LINE_AA)


def _room(image: RGB, horizon: int, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    horizon = min(height - 2, horizon + int(0.08 * height))
    wall, floor = _tint(rng, (206, 196, 178), 45), _tint(rng, (164, 122, 86), 35)
    _gradient(image, 0, horizon, _shade(wall, 1.05), wall)
    if rng.random() < 0.5:
        for x in np.arange(0, width, 0.08 * width):
            _box(image, _shade(wall, 0.95), x, 0, x + 0.03 * width, horizon)
    x, y = width * rng.uniform(0.05, 0.6), height * rng.uniform(0.08, 0.14)
    right, bottom = x + 0.26 * width, y + 0.3 * height
    _box(image, (246, 244, 238), x - 0.015 * width, y - 0.015 * width, right + 0.015 * width, bottom + 0.015 * width)
    _box(image, _tint(rng, (160, 204, 236), 25), x, y, right, bottom)
    _box(image, (246, 244, 238), (x + right) / 2 - 2, y, (x + right) / 2 + 2, bottom)
    frame = (x + 0.5 * width) % (0.85 * width)
    _box(image, (84, 62, 46), frame, y, frame + 0.14 * width, y + 0.17 * height)
    _box(image, _tint(rng, (160, 150, 150), 80), frame + 4, y + 4, frame + 0.14 * width - 4, y + 0.17 * height - 4)
    _gradient(image, horizon, height, floor, _shade(floor, 0.86))
    for fraction in (0.18, 0.42, 0.72):
        y = horizon + fraction * (height - horizon)
        _box(image, _shade(floor, 0.84), 0, y, width, y + 1)
    _box(image, (240, 236, 230), 0, horizon - 0.025 * height, width, horizon)


def _beach(image: RGB, horizon: int, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    sea, sand = _tint(rng, (58, 134, 178), 25), _tint(rng, (226, 202, 150), 20)
    water = horizon - int(0.14 * height)
    _sky(image, water, rng)
    _gradient(image, water, horizon, _shade(sea, 0.85), _shade(sea, 1.15))
    for _ in range(8):
        x, y = rng.uniform(0, width), rng.uniform(water + 2, horizon)
        _box(image, _shade(sea, 1.35), x, y, x + 0.08 * width, y + 1)
    _gradient(image, horizon, height, sand, _shade(sand, 0.9))
    shore = arc_xy(width / 2, horizon, width * 0.7, 0.03 * height, 0, 360, 40)
    cv2.fillPoly(image, [np.rint(shore).astype(np.int32)], _shade(sea, 1.5), cv2.LINE_AA)


def _sky(image: RGB, horizon: int, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    high = _tint(rng, (120, 172, 226), 35)
    _gradient(image, 0, horizon, high, _tint(rng, (222, 228, 232), 20))
    for _ in range(int(rng.integers(0, 4))):
        x, y, size = rng.uniform(0, width), rng.uniform(0.05, 0.6) * horizon, height * rng.uniform(0.03, 0.06)
        for dx, dy, fraction in ((-1.1, 0.2, 0.8), (0.0, 0.0, 1.1), (1.1, 0.25, 0.75)):
            _blob(image, (246, 248, 250), x + dx * size, y + dy * size, 1.3 * fraction * size, 0.7 * fraction * size)


def _gradient(image: RGB, top: int, bottom: int, first: Colour, last: Colour) -> None:
    fraction = np.linspace(0, 1, max(1, bottom - top))[:, None]
    image[top:bottom] = (np.asarray(first) * (1 - fraction) + np.asarray(last) * fraction)[:, None].clip(0, 255)


def _box(image: RGB, colour: Colour, x0: float, y0: float, x1: float, y1: float) -> None:
    image[max(0, round(y0)) : max(0, round(y1)), max(0, round(x0)) : max(0, round(x1))] = colour


def _blob(image: RGB, colour: Colour, x: float, y: float, rx: float, ry: float) -> None:
    cv2.ellipse(image, (round(x), round(y)), (round(rx), round(ry)), 0, 0, 360, colour, -1, cv2.LINE_AA)


def _tint(rng: np.random.Generator, colour: Colour, spread: int) -> Colour:
    red, green, blue = (np.asarray(colour) + rng.uniform(-spread, spread, size=3)).clip(0, 245).astype(int).tolist()
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


@lru_cache(maxsize=4)
def _grain(width_px: int, height_px: int) -> RGB:
    """Noise a little larger than a frame, so that frames can take different crops of it."""
    rng = np.random.default_rng(0)
    height, width = height_px + _GRAIN_SHIFT_PX, width_px + _GRAIN_SHIFT_PX
    fine = rng.integers(0, 8, size=(height, width, 3), dtype=np.uint8)
    coarse = rng.integers(0, 12, size=(height // 6 + 1, width // 6 + 1), dtype=np.uint8)
    return np.asarray(fine + cv2.resize(coarse, (width, height))[..., None], dtype=np.uint8)
