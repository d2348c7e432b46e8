"""The content of a scene: people, objects and their interactions, in pixels. Nothing is drawn here.

Ids are unique within a scene and stay with a person or object through a clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hoiclip.synthetic.background import Backdrop
from hoiclip.synthetic.figure import Appearance, random_colour
from hoiclip.synthetic.icons import PHASE_STEPS, icon
from hoiclip.synthetic.shapes import Colour, Palette, Point, moved_point
from hoiclip.synthetic.skeleton import Pose


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person of a scene: appearance, position and pose."""

    id: int
    appearance: Appearance
    x_px: float
    ground_px: float
    """Height of the ground under the person, from the top of the image."""
    height_px: float
    facing: int = 1
    """1 to the right, -1 to the left."""
    pose: Pose = Pose()  # noqa: RUF009  frozen
    depth: float = 0.0
    """Larger is nearer to the viewer; a person takes up depth - 0.3 (far limbs) to depth + 0.3 (near arm)."""

    def point_px(self, point: Point) -> Point:
        """From body heights to the image."""
        return moved_point(point, self.x_px, self.ground_px, scale=self.height_px, facing=self.facing)

    def point_body(self, point_px: Point) -> Point:
        """From the image to body heights."""
        x, y = point_px[0] - self.x_px, point_px[1] - self.ground_px
        return self.facing * x / self.height_px, y / self.height_px


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """An object of a scene: icon, colours and position."""

    id: int
    name: str
    """As in the vocabulary "hico"."""
    scale_px: float
    """Pixels per body height."""
    x_px: float = 0.0
    y_px: float = 0.0
    facing: int = 1
    angle: float = 0.0
    """Radians; positive tips the top forward."""
    phase: float = 0.0
    """Radians of its own movement: wheels, pedals, legs."""
    main: Colour = (200, 60, 50)
    accent: Colour = (240, 200, 60)
    depth: float = 0.0

    @property
    def phase_step(self) -> int:
        return round(self.phase / (2 * np.pi) * PHASE_STEPS) % PHASE_STEPS

    @property
    def palette(self) -> Palette:
        return {
            "main": self.main,
            "accent": self.accent,
            "dark": (38, 36, 42),
            "light": (240, 240, 236),
            "grey": (150, 152, 158),
            "glow": (176, 224, 250),
        }

    def anchor_px(self, name: str) -> Point:
        """Position of one of the icon's anchors in the image."""
        point = icon(self.name, self.phase_step).anchors[name]
        return moved_point(point, self.x_px, self.y_px, scale=self.scale_px, angle=self.angle, facing=self.facing)

    def pinned(self, anchor: str, point_px: Point) -> SceneObject:
        """The same object moved so that an anchor lies at a point."""
        x, y = self.anchor_px(anchor)
        return replace(self, x_px=self.x_px + point_px[0] - x, y_px=self.y_px + point_px[1] - y)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneInteraction:
    """A person and an object, and what the person does with it."""

    person_id: int
    object_id: int
    verbs: tuple[str, ...]
    """As in the vocabulary "hico"; never empty, ("no_interaction",) where nothing happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cord:
    """A leash or a string. It belongs to no box."""

    start_px: Point
    end_px: Point
    depth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticScene:
    """Everything an image is drawn from."""

    width_px: int
    height_px: int
    backdrop: Backdrop
    people: tuple[Person, ...] = ()
    objects: tuple[SceneObject, ...] = ()
    interactions: tuple[SceneInteraction, ...] = ()
    cords: tuple[Cord, ...] = ()
    shadows: bool = True

    def __post_init__(self) -> None:
        if self.width_px < 16 or self.height_px < 16:
            raise ValueError(f"a scene needs at least 16x16 pixels, got {self.width_px}x{self.height_px}")
        people, objects = {person.id for person in self.people}, {obj.id for obj in self.objects}
        if len(people | objects) != len(self.people) + len(self.objects):
            raise ValueError(
                f"ids must be unique in a scene, got people {sorted(people)} and objects {sorted(objects)}"
            )
        for interaction in self.interactions:
            known = interaction.person_id in people and interaction.object_id in objects
            if not known or not interaction.verbs:
                raise ValueError(
                    f"an interaction needs a person and an object of the scene and a verb, got {interaction}"
                )


def random_object(rng: np.random.Generator, id: int, name: str, scale_px: float) -> SceneObject:
    """An object in colours of its own, not placed yet."""
    return SceneObject(id=id, name=name, scale_px=scale_px, main=random_colour(rng), accent=random_colour(rng))
