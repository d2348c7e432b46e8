"""Paints a scene and says exactly where everything in it is.

Boxes cover all that a person or thing would show if it were alone: what stands in front does not cut them, the frame
does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hoiclip.data.drawn.background import draw_backdrop
from hoiclip.data.drawn.figure import figure_parts
from hoiclip.data.drawn.objects import icon
from hoiclip.data.drawn.scene import Cord, Person, Scene, Thing
from hoiclip.data.drawn.shapes import Box, Image, Outlines, extent_xyxy, paint
from hoiclip.data.drawn.visibility import Layer, visible_shares

MIN_VISIBLE_PX = 4.0
"""A pair with a box narrower or flatter than this is not annotated: nobody could tell what it is."""
MIN_PERSON_SHARE, MIN_THING_SHARE = 0.3, 0.25
"""Nor is a pair of which less than this can be seen (visibility.py). Hands and laps hide a part of what they hold."""
_SHADOW = 0.72
_PART_DEPTHS = (-0.3, 0.0, 0.3)
"""Of far limbs, body and near arm, relative to the person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnEntity:
    """Ground truth of one person or thing of which enough can be seen."""

    id: int
    label: str
    box_xyxy: Box
    visible: float
    """Share of it that can be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPair:
    """Ground truth of one person and one thing; boxes in pixels."""

    human: int
    object: int
    label: str
    verbs: tuple[str, ...]
    human_box_xyxy: Box
    object_box_xyxy: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Who and what can be seen, people first, and what they do with each other."""

    entities: tuple[DrawnEntity, ...]
    pairs: tuple[DrawnPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFrame:
    rgb: NDArray[np.uint8]
    """(H, W, 3), contiguous."""
    pts_s: float
    entities: tuple[DrawnEntity, ...]
    pairs: tuple[DrawnPair, ...]


class Placed:
    """A scene with its outlines in pixels, so that painting and ground truth share them."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.people = {person.id: person_outlines(person) for person in scene.people}
        self.things = {thing.id: thing_outlines(thing) for thing in scene.things}

    def truth(self) -> Truth:
        """Exact ground truth without painting anything."""
        scene = self.scene
        entities = {entity.id: entity for entity in self._entities()}
        labels = {thing.id: thing.name for thing in scene.things}
        pairs = tuple(
            DrawnPair(
                human=done.person,
                object=done.thing,
                label=labels[done.thing],
                verbs=done.verbs,
                human_box_xyxy=entities[done.person].box_xyxy,
                object_box_xyxy=entities[done.thing].box_xyxy,
            )
            for done in scene.interactions
            if done.person in entities and done.thing in entities
        )
        return Truth(entities=tuple(entities.values()), pairs=pairs)

    def _entities(self) -> Iterator[DrawnEntity]:
        width_px, height_px = self.scene.width_px, self.scene.height_px
        shares = visible_shares(self._layers(), width_px, height_px)
        owners = [(person.id, "person", self.people[person.id], MIN_PERSON_SHARE) for person in self.scene.people]
        things = [(thing.id, thing.name, (self.things[thing.id],), MIN_THING_SHARE) for thing in self.scene.things]
        for id, label, parts, least in (*owners, *things):
            box = extent_xyxy(parts, width_px, height_px) if shares[id] >= least else None
            if box is not None and _visible(box):
                yield DrawnEntity(id=id, label=label, box_xyxy=box, visible=shares[id])

    def _layers(self) -> list[Layer]:
        layers = [
            Layer(person.depth + offset, person.id, part)
            for person in self.scene.people
            for offset, part in zip(_PART_DEPTHS, self.people[person.id], strict=True)
        ]
        return layers + [Layer(thing.depth, thing.id, self.things[thing.id]) for thing in self.scene.things]

    def paint(self, backdrop_rgb: Image | None = None) -> Image:
        """(H, W, 3) RGB; the backdrop is copied where it is given."""
        scene = self.scene
        if backdrop_rgb is None:
            image = draw_backdrop(scene.backdrop, scene.width_px, scene.height_px)
        else:
            image = backdrop_rgb.copy()
        if scene.shadows:
            for person in scene.people:
                _shadow(image, person.x_px, person.ground_px, 0.2 * person.height_px)
        for _, stroke in sorted(_strokes(image, scene, self.people, self.things), key=lambda item: item[0]):
            stroke()
        return image


def draw_scene(scene: Scene, *, pts_s: float = 0.0, backdrop_rgb: Image | None = None) -> DrawnFrame:
    """One picture with its ground truth.

    Args:
        backdrop_rgb: the scene's backdrop where it is already drawn, as in a clip; it is copied.
    """
    placed = Placed(scene)
    truth = placed.truth()
    return DrawnFrame(rgb=placed.paint(backdrop_rgb), pts_s=pts_s, entities=truth.entities, pairs=truth.pairs)


def person_outlines(person: Person) -> tuple[Outlines, Outlines, Outlines]:
    """Far limbs, body, near arm, in pixels."""
    far, body, near_arm = (
        part.moved(person.x_px, person.ground_px, scale=person.height_px, facing=person.facing)
        for part in figure_parts(person.look, person.pose)
    )
    return far, body, near_arm


def thing_outlines(thing: Thing) -> Outlines:
    """In pixels."""
    return icon(thing.name, thing.phase_step).outlines.moved(
        thing.x_px, thing.y_px, scale=thing.scale_px, angle=thing.angle, facing=thing.facing
    )


def _strokes(
    image: Image, scene: Scene, people: dict[int, tuple[Outlines, Outlines, Outlines]], things: dict[int, Outlines]
) -> list[tuple[float, Callable[[], None]]]:
    """Everything that is to be painted, with its depth."""

    def fill(outlines: Outlines, owner: Person | Thing) -> Callable[[], None]:
        palette = owner.look.palette if isinstance(owner, Person) else owner.palette
        return lambda: paint(image, outlines, palette)

    def string(cord: Cord) -> Callable[[], None]:
        return lambda: _cord(image, cord)

    strokes: list[tuple[float, Callable[[], None]]] = []
    for person in scene.people:
        for offset, part in zip(_PART_DEPTHS, people[person.id], strict=True):
            strokes.append((person.depth + offset, fill(part, person)))
    strokes += [(thing.depth, fill(things[thing.id], thing)) for thing in scene.things]
    strokes += [(cord.depth, string(cord)) for cord in scene.cords]
    return strokes


def _visible(box_xyxy: Box) -> bool:
    x0, y0, x1, y1 = box_xyxy
    return min(x1 - x0, y1 - y0) >= MIN_VISIBLE_PX


def _cord(image: Image, cord: Cord) -> None:
    start, end = (tuple(round(16 * (value - 0.5)) for value in point) for point in (cord.start_px, cord.end_px))
    cv2.line(image, start, end, (48, 44, 46), 1, cv2.LINE_AA, 4)


def _shadow(image: Image, x: float, y: float, radius: float) -> None:
    """Darkens the ground in a flat oval."""
    height, width = image.shape[:2]
    flat = 0.22 * radius
    left, right = max(0, math.floor(x - radius)), min(width, math.ceil(x + radius) + 1)
    top, bottom = max(0, math.floor(y - flat)), min(height, math.ceil(y + flat) + 1)
    if left >= right or top >= bottom:
        return
    dx = (np.arange(left, right) - x) / max(radius, 1.0)
    dy = (np.arange(top, bottom) - y) / max(flat, 1.0)
    inside = np.clip(1.0 - (dx * dx)[None] - (dy * dy)[:, None], 0.0, 0.5)[..., None] * 2
    ground = image[top:bottom, left:right]
    ground[:] = ground * (1.0 - (1.0 - _SHADOW) * inside)
