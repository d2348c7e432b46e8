"""A camera that pans, zooms and is held by hand, before a place larger than its picture.

People, things and cords are moved to where the camera sees them, so that they are drawn sharp and their boxes stay
exact; only the backdrop is resampled. The camera is a function of time and knows no frame rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hoiclip.data.drawn.scene import Scene
from hoiclip.data.drawn.shapes import Image, Point
from hoiclip.data.drawn.stances import eased

_SHAKES_HZ = (0.7, 1.9, 4.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The part of the place that fills the picture: its corner in pixels of the place, and how much it is enlarged."""

    left_px: float = 0.0
    top_px: float = 0.0
    zoom: float = 1.0

    def point(self, point: Point) -> Point:
        return (point[0] - self.left_px) * self.zoom, (point[1] - self.top_px) * self.zoom


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """From one framing to another during `duration_s`, shaken a little."""

    place_px: tuple[int, int]
    picture_px: tuple[int, int]
    """Width and height of the place and of the picture."""
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    """Share of the way across and down that is left to the camera, and zoom."""
    duration_s: float
    shake_px: float
    phase: float

    def view(self, at_s: float) -> View:
        share = eased(at_s / self.duration_s)
        across, down, zoom = (a + (b - a) * share for a, b in zip(self.start, self.end, strict=True))
        free = [place - picture / zoom for place, picture in zip(self.place_px, self.picture_px, strict=True)]
        left = across * free[0] + self.shake_px * self._shake(at_s, 0.0)
        top = down * free[1] + self.shake_px * self._shake(at_s, 2.0)
        return View(left_px=min(max(left, 0.0), free[0]), top_px=min(max(top, 0.0), free[1]), zoom=zoom)

    def _shake(self, at_s: float, shift: float) -> float:
        waves = (math.sin(2 * math.pi * hz * at_s + self.phase * hz + shift) / (1 + hz) for hz in _SHAKES_HZ)
        return sum(waves)


def random_camera(
    rng: np.random.Generator, place_px: tuple[int, int], picture_px: tuple[int, int], duration_s: float
) -> Camera:
    """Any pan and zoom that the place allows."""
    framings = rng.uniform((0.0, 0.5, 1.0), (1.0, 1.0, 1.25), size=(2, 3)).tolist()
    return Camera(
        place_px=place_px,
        picture_px=picture_px,
        start=tuple(framings[0]),
        end=tuple(framings[1]),
        duration_s=duration_s,
        shake_px=0.006 * picture_px[0] * float(rng.uniform(0.0, 1.0)),
        phase=float(rng.uniform(0, 2 * math.pi)),
    )


def seen(scene: Scene, view: View, width_px: int, height_px: int) -> Scene:
    """The scene in the coordinates of the picture."""
    people, things = [], []
    for person in scene.people:
        x, y = view.point((person.x_px, person.ground_px))
        people.append(replace(person, x_px=x, ground_px=y, height_px=person.height_px * view.zoom))
    for thing in scene.things:
        x, y = view.point((thing.x_px, thing.y_px))
        things.append(replace(thing, x_px=x, y_px=y, scale_px=thing.scale_px * view.zoom))
    return replace(
        scene,
        width_px=width_px,
        height_px=height_px,
        people=tuple(people),
        things=tuple(things),
        cords=tuple(
            replace(cord, start_px=view.point(cord.start_px), end_px=view.point(cord.end_px)) for cord in scene.cords
        ),
    )


def seen_backdrop(place_rgb: Image, view: View, width_px: int, height_px: int) -> Image:
    """(H, W, 3) the same part of the drawn place."""
    matrix = np.array(((view.zoom, 0.0, -view.zoom * view.left_px), (0.0, view.zoom, -view.zoom * view.top_px)))
    size = (width_px, height_px)
    picture = cv2.warpAffine(place_rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(picture, dtype=np.uint8)
