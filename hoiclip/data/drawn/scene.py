"""What there is to see: people, things and what they do with each other, in pixels. Nothing is drawn here.

Ids are unique within a scene and stay with a person or thing through a clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hoiclip.data.drawn.background import Backdrop
from hoiclip.data.drawn.figure import Look, random_colour
from hoiclip.data.drawn.objects import PHASE_STEPS, icon
from hoiclip.data.drawn.shapes import Colour, Palette, Point, moved_point
from hoiclip.data.drawn.skeleton import Pose


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    id: int
    look: Look
    x_px: float
    ground_px: float
    """Height of the ground under the person, from the top of the picture."""
    height_px: float
    facing: int = 1
    """1 to the right, -1 to the left."""
    pose: Pose = Pose()  # noqa: RUF009  frozen
    depth: float = 0.0
    """Larger is nearer to the viewer; a person takes up depth - 0.3 (far limbs) to depth + 0.3 (near arm)."""

    def point_px(self, point: Point) -> Point:
        """From body heights to the picture."""
        return moved_point(point, self.x_px, self.ground_px, scale=self.height_px, facing=self.facing)

    def point_body(self, point_px: Point) -> Point:
        """From the picture to body heights."""
        x, y = point_px[0] - self.x_px, point_px[1] - self.ground_px
        return self.facing * x / self.height_px, y / self.height_px


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
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
        """Where one of the icon's anchors is in the picture."""
        point = icon(self.name, self.phase_step).anchors[name]
        return moved_point(point, self.x_px, self.y_px, scale=self.scale_px, angle=self.angle, facing=self.facing)

    def pinned(self, anchor: str, point_px: Point) -> Thing:
        """The same thing moved so that an anchor lies at a point."""
        x, y = self.anchor_px(anchor)
        return replace(self, x_px=self.x_px + point_px[0] - x, y_px=self.y_px + point_px[1] - y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    person: int
    thing: int
    verbs: tuple[str, ...]
    """As in the vocabulary "hico"; never empty, ("no_interaction",) where nothing happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cord:
    """A leash or a string. It belongs to nobody's box."""

    start_px: Point
    end_px: Point
    depth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    width_px: int
    height_px: int
    backdrop: Backdrop
    people: tuple[Person, ...] = ()
    things: tuple[Thing, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    cords: tuple[Cord, ...] = ()
    shadows: bool = True

    def __post_init__(self) -> None:
        if self.width_px < 16 or self.height_px < 16:
            raise ValueError(f"a scene needs at least 16x16 pixels, got {self.width_px}x{self.height_px}")
        people, things = {person.id for person in self.people}, {thing.id for thing in self.things}
        if len(people | things) != len(self.people) + len(self.things):
            raise ValueError(f"ids must be unique in a scene, got people {sorted(people)} and things {sorted(things)}")
        for done in self.interactions:
            if done.person not in people or done.thing not in things or not done.verbs:
                raise ValueError(f"an interaction needs a person and a thing of the scene and a verb, got {done}")


def random_thing(rng: np.random.Generator, id: int, name: str, scale_px: float) -> Thing:
    """A thing in colours of its own, not placed yet."""
    return Thing(id=id, name=name, scale_px=scale_px, main=random_colour(rng), accent=random_colour(rng))
