"""Effects of a camera and a codec on a drawn image: light, blur, noise, compression.

Boxes stay as they are: nothing here moves a pixel by more than the width of its blur.
"""

from __future__ import annotations

import cv2
import numpy as np

from hoiclip.data.drawn.shapes import Image

_LIGHT, _BLUR, _NOISE, _COMPRESSION = 0.7, 0.3, 0.3, 0.6
"""Probability of each effect."""


def degrade(rgb: Image, rng: np.random.Generator) -> Image:
    """(H, W, 3) to a new array of the same shape, as some camera would have recorded it."""
    if rng.random() < _LIGHT:
        rgb = _relit(rgb, rng)
    if rng.random() < _BLUR:
        rgb = _blurred(rgb, rng)
    if rng.random() < _NOISE:
        rgb = _noisy(rgb, rng)
    if rng.random() < _COMPRESSION:
        rgb = _compressed(rgb, rng)
    return rgb


def _relit(rgb: Image, rng: np.random.Generator) -> Image:
    """Another exposure, contrast and white balance."""
    gamma, gain = float(rng.uniform(0.7, 1.4)), rng.uniform(0.8, 1.15, size=1) * rng.uniform(0.92, 1.08, size=3)
    level = np.linspace(0.0, 1.0, 256)[:, None] ** gamma * gain
    table = np.clip(np.rint(255 * level), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(rgb, table[None]), dtype=np.uint8)


def _blurred(rgb: Image, rng: np.random.Generator) -> Image:
    """Out of focus, or enlarged from fewer pixels."""
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(0.4, 1.1))), dtype=np.uint8)
    height, width = rgb.shape[:2]
    scale = float(rng.uniform(0.5, 0.95))
    small = cv2.resize(rgb, (max(1, round(scale * width)), max(1, round(scale * height))), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _noisy(rgb: Image, rng: np.random.Generator) -> Image:
    noise = rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 8.0))
    noisy: Image = np.clip(np.rint(rgb + noise), 0, 255).astype(np.uint8)
    return noisy


def _compressed(rgb: Image, rng: np.random.Generator) -> Image:
    """Blocks and washed-out colours of a JPEG, which are much like those of a video's key frames."""
    quality = int(rng.integers(25, 96))
    _, coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
