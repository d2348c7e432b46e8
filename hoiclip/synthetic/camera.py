"""A camera that pans, zooms and shakes before a place larger than its image, and the optics of a recorded image.

People, objects and cords are moved into the camera's coordinates before they are drawn, so that they stay sharp and
their boxes exact; only the backdrop is resampled. The camera is a function of time and knows no frame rate. Optics
(light, blur, noise, compression) leave boxes as they are: no pixel moves by more than the width of its blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.synthetic.scene import SyntheticScene
from hoiclip.synthetic.shapes import Point
from hoiclip.synthetic.stances import eased

_SHAKES_HZ = (0.7, 1.9, 4.3)
_LIGHT, _BLUR, _NOISE, _COMPRESSION = 0.7, 0.3, 0.3, 0.6
"""Probability of each effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The window of the place that fills the image: its corner in pixels of the place, and its magnification."""

    left_px: float = 0.0
    top_px: float = 0.0
    zoom: float = 1.0

    def point(self, point: Point) -> Point:
        return (point[0] - self.left_px) * self.zoom, (point[1] - self.top_px) * self.zoom


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A camera move from one framing to another during `duration_s`, with some shake."""

    place_px: tuple[int, int]
    image_px: tuple[int, int]
    """Width and height of the place and of the image."""
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    """Fractions of the free range across and down, and zoom."""
    duration_s: float
    shake_px: float
    phase: float

    def view(self, at_s: float) -> View:
        fraction = eased(at_s / self.duration_s)
        across, down, zoom = (a + (b - a) * fraction for a, b in zip(self.start, self.end, strict=True))
        free = [place - image / zoom for place, image in zip(self.place_px, self.image_px, strict=True)]
        left = across * free[0] + self.shake_px * self._shake(at_s, 0.0)
        top = down * free[1] + self.shake_px * self._shake(at_s, 2.0)
        return View(left_px=min(max(left, 0.0), free[0]), top_px=min(max(top, 0.0), free[1]), zoom=zoom)

    def _shake(self, at_s: float, shift: float) -> float:
        waves = (math.sin(2 * math.pi * hz * at_s + self.phase * hz + shift) / (1 + hz) for hz in _SHAKES_HZ)
        return sum(waves)


def random_camera(
    rng: np.random.Generator, place_px: tuple[int, int], image_px: tuple[int, int], duration_s: float
) -> Camera:
    """A random pan and zoom within the place."""
    framings = rng.uniform((0.0, 0.5, 1.0), (1.0, 1.0, 1.25), size=(2, 3)).tolist()
    return Camera(
        place_px=place_px,
        image_px=image_px,
        start=tuple(framings[0]),
        end=tuple(framings[1]),
        duration_s=duration_s,
        shake_px=0.006 * image_px[0] * float(rng.uniform(0.0, 1.0)),
        phase=float(rng.uniform(0, 2 * math.pi)),
    )


def view_scene(scene: SyntheticScene, view: View, width_px: int, height_px: int) -> SyntheticScene:
    """The scene in the coordinates of the image."""
    people, objects = [], []
    for person in scene.people:
        x, y = view.point((person.x_px, person.ground_px))
        people.append(replace(person, x_px=x, ground_px=y, height_px=person.height_px * view.zoom))
    for obj in scene.objects:
        x, y = view.point((obj.x_px, obj.y_px))
        objects.append(replace(obj, x_px=x, y_px=y, scale_px=obj.scale_px * view.zoom))
    return replace(
        scene,
        width_px=width_px,
        height_px=height_px,
        people=tuple(people),
        objects=tuple(objects),
        cords=tuple(
            replace(cord, start_px=view.point(cord.start_px), end_px=view.point(cord.end_px)) for cord in scene.cords
        ),
    )


def view_backdrop(place_rgb: RGB, view: View, width_px: int, height_px: int) -> RGB:
    """(H, W, 3) the window of the place's backdrop."""
    matrix = np.array(((view.zoom, 0.0, -view.zoom * view.left_px), (0.0, view.zoom, -view.zoom * view.top_px)))
    size = (width_px, height_px)
    image = cv2.warpAffine(place_rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(image, dtype=np.uint8)


def degrade(rgb: RGB, rng: np.random.Generator) -> RGB:
    """Applies random effects of a camera and a codec; (H, W, 3) to a new array of the same shape."""
    if rng.random() < _LIGHT:
        rgb = _relit(rgb, rng)
    if rng.random() < _BLUR:
        rgb = _blurred(rgb, rng)
    if rng.random() < _NOISE:
        rgb = _noisy(rgb, rng)
    if rng.random() < _COMPRESSION:
        rgb = _compressed(rgb, rng)
    return rgb


def _relit(rgb: RGB, rng: np.random.Generator) -> RGB:
    """Changes exposure, contrast and white balance."""
    gamma, gain = float(rng.uniform(0.7, 1.4)), rng.uniform(0.8, 1.15, size=1) * rng.uniform(0.92, 1.08, size=3)
    level = np.linspace(0.0, 1.0, 256)[:, None] ** gamma * gain
    table = np.clip(np.rint(255 * level), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(rgb, table[None]), dtype=np.uint8)


def _blurred(rgb: RGB, rng: np.random.Generator) -> RGB:
    """Blurs as out of focus, or as enlarged from fewer pixels."""
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(0.4, 1.1))), dtype=np.uint8)
    height, width = rgb.shape[:2]
    scale = float(rng.uniform(0.5, 0.95))
    small = cv2.resize(rgb, (max(1, round(scale * width)), max(1, round(scale * height))), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _noisy(rgb: RGB, rng: np.random.Generator) -> RGB:
    noise = rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 8.0))
    noisy: RGB = np.clip(np.rint(rgb + noise), 0, 255).astype(np.uint8)
    return noisy


def _compressed(rgb: RGB, rng: np.random.Generator) -> RGB:
    """Compresses as JPEG, whose blocks and washed-out colours resemble those of a video's keyframes."""
    quality = int(rng.integers(25, 96))
    _, coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
