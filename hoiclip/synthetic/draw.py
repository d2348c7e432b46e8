"""Paints a scene and gives its exact ground truth: boxes, visibility and interactions.

Boxes are those of a person or object alone: they are cut by the frame, not by what stands in front. Visibility is
(visible pixels / pixels of the silhouette alone, both on a coarse grid) x (fraction of the box inside the frame).
Layers are counted in the order in which they are painted, so a bicycle between a rider's legs hides what it really
hides; cords are too thin to hide anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.synthetic.background import draw_backdrop
from hoiclip.synthetic.figure import figure_parts
from hoiclip.synthetic.icons import icon
from hoiclip.synthetic.scene import Cord, Person, SceneObject, SyntheticScene
from hoiclip.synthetic.shapes import Box, Outlines, extent_xyxy, paint, silhouette

MIN_VISIBLE_PX = 4.0
"""A pair with a box narrower or flatter than this is not annotated: it could not be recognised."""
MIN_PERSON_VISIBLE, MIN_OBJECT_VISIBLE = 0.3, 0.25
"""Nor is a pair with a smaller visible fraction. Hands and laps hide some of what they hold."""
_GRID_PX = 128
"""Longer side of the grid that visibility is counted on; an 18 px object of a 256 px image still has about 40 cells."""
_SHADOW = 0.72
_PART_DEPTHS = (-0.3, 0.0, 0.3)
"""Of far limbs, body and near arm, relative to the person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticEntity:
    """Ground truth of one person or object that is visible enough."""

    id: int
    label: str
    box_xyxy: Box
    visible: float
    """Visible fraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticPair:
    """Ground truth of one person and one object; boxes in pixels."""

    human: int
    object: int
    label: str
    verbs: tuple[str, ...]
    human_box_xyxy: Box
    object_box_xyxy: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneGroundTruth:
    """Visible entities, people first, and their interactions."""

    entities: tuple[SyntheticEntity, ...]
    pairs: tuple[SyntheticPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticFrame:
    """One drawn frame with its ground truth."""

    rgb: RGB
    """(H, W, 3), contiguous."""
    pts_s: float
    entities: tuple[SyntheticEntity, ...]
    pairs: tuple[SyntheticPair, ...]


class Layer(NamedTuple):
    """Outlines of one body part or object at one depth."""

    depth: float
    owner: int
    """Id of a person or object."""
    outlines: Outlines


class PlacedScene:
    """A scene with its outlines in pixels, so that painting and ground truth share them."""

    def __init__(self, scene: SyntheticScene) -> None:
        self.scene = scene
        self.people = {person.id: person_outlines(person) for person in scene.people}
        self.objects = {obj.id: object_outlines(obj) for obj in scene.objects}

    def ground_truth(self) -> SceneGroundTruth:
        """Ground truth, without painting."""
        scene = self.scene
        entities = {entity.id: entity for entity in self._entities()}
        labels = {obj.id: obj.name for obj in scene.objects}
        pairs = tuple(
            SyntheticPair(
                human=interaction.person_id,
                object=interaction.object_id,
                label=labels[interaction.object_id],
                verbs=interaction.verbs,
                human_box_xyxy=entities[interaction.person_id].box_xyxy,
                object_box_xyxy=entities[interaction.object_id].box_xyxy,
            )
            for interaction in scene.interactions
            if interaction.person_id in entities and interaction.object_id in entities
        )
        return SceneGroundTruth(entities=tuple(entities.values()), pairs=pairs)

    def _entities(self) -> Iterator[SyntheticEntity]:
        width_px, height_px = self.scene.width_px, self.scene.height_px
        fractions = visible_fractions(self._layers(), width_px, height_px)
        owners = [(person.id, "person", self.people[person.id], MIN_PERSON_VISIBLE) for person in self.scene.people]
        objects = [(obj.id, obj.name, (self.objects[obj.id],), MIN_OBJECT_VISIBLE) for obj in self.scene.objects]
        for id, label, parts, least in (*owners, *objects):
            box = extent_xyxy(parts, width_px, height_px) if fractions[id] >= least else None
            if box is not None and _visible(box):
                yield SyntheticEntity(id=id, label=label, box_xyxy=box, visible=fractions[id])

    def _layers(self) -> list[Layer]:
        layers = [
            Layer(person.depth + offset, person.id, part)
            for person in self.scene.people
            for offset, part in zip(_PART_DEPTHS, self.people[person.id], strict=True)
        ]
        return layers + [Layer(obj.depth, obj.id, self.objects[obj.id]) for obj in self.scene.objects]

    def paint(self, backdrop_rgb: RGB | None = None) -> RGB:
        """Paints the scene to (H, W, 3) RGB; a given backdrop is copied."""
        scene = self.scene
        if backdrop_rgb is None:
            image = draw_backdrop(scene.backdrop, scene.width_px, scene.height_px)
        else:
            image = backdrop_rgb.copy()
        if scene.shadows:
            for person in scene.people:
                _shadow(image, person.x_px, person.ground_px, 0.2 * person.height_px)
        for _, stroke in sorted(_strokes(image, scene, self.people, self.objects), key=lambda item: item[0]):
            stroke()
        return image


def draw_scene(scene: SyntheticScene, *, pts_s: float = 0.0, backdrop_rgb: RGB | None = None) -> SyntheticFrame:
    """One image with its ground truth.

    Args:
        backdrop_rgb: the scene's backdrop where it is already drawn, as in a clip; it is copied.
    """
    placed = PlacedScene(scene)
    ground_truth = placed.ground_truth()
    return SyntheticFrame(
        rgb=placed.paint(backdrop_rgb), pts_s=pts_s, entities=ground_truth.entities, pairs=ground_truth.pairs
    )


def person_outlines(person: Person) -> tuple[Outlines, Outlines, Outlines]:
    """Far limbs, body, near arm, in pixels."""
    far, body, near_arm = (
        part.moved(person.x_px, person.ground_px, scale=person.height_px, facing=person.facing)
        for part in figure_parts(person.appearance, person.pose)
    )
    return far, body, near_arm


def object_outlines(obj: SceneObject) -> Outlines:
    """Outlines of the object, in pixels."""
    return icon(obj.name, obj.phase_step).outlines.moved(
        obj.x_px, obj.y_px, scale=obj.scale_px, angle=obj.angle, facing=obj.facing
    )


def _strokes(
    image: RGB,
    scene: SyntheticScene,
    people: dict[int, tuple[Outlines, Outlines, Outlines]],
    objects: dict[int, Outlines],
) -> list[tuple[float, Callable[[], None]]]:
    """Strokes of the scene, each with its depth."""

    def fill(outlines: Outlines, owner: Person | SceneObject) -> Callable[[], None]:
        palette = owner.appearance.palette if isinstance(owner, Person) else owner.palette
        return lambda: paint(image, outlines, palette)

    def string(cord: Cord) -> Callable[[], None]:
        return lambda: _cord(image, cord)

    strokes: list[tuple[float, Callable[[], None]]] = []
    for person in scene.people:
        for offset, part in zip(_PART_DEPTHS, people[person.id], strict=True):
            strokes.append((person.depth + offset, fill(part, person)))
    strokes += [(obj.depth, fill(objects[obj.id], obj)) for obj in scene.objects]
    strokes += [(cord.depth, string(cord)) for cord in scene.cords]
    return strokes


def _visible(box_xyxy: Box) -> bool:
    x0, y0, x1, y1 = box_xyxy
    return min(x1 - x0, y1 - y0) >= MIN_VISIBLE_PX


def _cord(image: RGB, cord: Cord) -> None:
    start, end = (tuple(round(16 * (value - 0.5)) for value in point) for point in (cord.start_px, cord.end_px))
    cv2.line(image, start, end, (48, 44, 46), 1, cv2.LINE_AA, 4)


def _shadow(image: RGB, x: float, y: float, radius: float) -> None:
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


def visible_fractions(layers: Sequence[Layer], width_px: int, height_px: int) -> dict[int, float]:
    """Visible fraction in [0, 1] by owner; 0 for what lies wholly outside."""
    scale = min(1.0, _GRID_PX / max(width_px, height_px))
    columns, rows = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    front = np.full((rows, columns), -1, dtype=np.int32)
    alone: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = {}
    for layer in sorted(layers, key=lambda layer: layer.depth):
        covered = silhouette(layer.outlines, scale, columns, rows).view(np.bool_)
        front[covered] = layer.owner
        alone[layer.owner] = alone[layer.owner] | covered if layer.owner in alone else covered
    inside = _fractions_inside(layers, width_px, height_px)
    fractions = {}
    for owner, covered in alone.items():
        cells = np.count_nonzero(covered)
        fractions[owner] = inside[owner] * np.count_nonzero(front[covered] == owner) / cells if cells else 0.0
    return fractions


def _fractions_inside(layers: Sequence[Layer], width_px: int, height_px: int) -> dict[int, float]:
    """Fraction of each owner's box that is inside the frame."""
    corners: dict[int, list[float]] = {}
    for _, owner, outlines in layers:
        (x0, y0), (x1, y1) = outlines.points_xy.min(axis=0).tolist(), outlines.points_xy.max(axis=0).tolist()
        left, top, right, bottom = corners.get(owner, (x0, y0, x1, y1))
        corners[owner] = [min(left, x0), min(top, y0), max(right, x1), max(bottom, y1)]
    fractions = {}
    for owner, (x0, y0, x1, y1) in corners.items():
        across = max(0.0, min(x1, width_px) - max(x0, 0.0)) / max(x1 - x0, 1e-9)
        down = max(0.0, min(y1, height_px) - max(y0, 0.0)) / max(y1 - y0, 1e-9)
        fractions[owner] = min(1.0, across) * min(1.0, down)
    return fractions
