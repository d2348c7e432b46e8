"""Random scenes: one to six people, each busy with something, and a few objects without interaction.

Crowding, sizes and truncation are those of videos (video.py): people stand before each other, each on a ground of their
own, and the camera may have come so near that its frame cuts them off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.synthetic import stances
from hoiclip.synthetic.background import BACKDROP_KINDS, Backdrop
from hoiclip.synthetic.camera import View, view_scene
from hoiclip.synthetic.draw import object_outlines
from hoiclip.synthetic.figure import random_appearance
from hoiclip.synthetic.icons import ICON_NAMES, icon, natural_size
from hoiclip.synthetic.repertoire import ACTS, NO_INTERACTION, Performance
from hoiclip.synthetic.scene import Cord, Person, SceneInteraction, SceneObject, SyntheticScene, random_object

_TRIPLETS = tuple(ACTS)
_MIN_OBJECT_PX = 18.0
"""Objects are never drawn smaller: a cup of four pixels teaches nothing."""
_REACH, _SAME_GROUND = 0.6, 0.2
"""Body heights within which an object lies at a person's feet."""
_ID_STEP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeConfig:
    """Crowding and framing of random scenes."""

    people: tuple[float, ...] = (0.22, 0.26, 0.23, 0.15, 0.09, 0.05)
    """Probability of one person, two people, and so on."""
    most_strays: int = 2
    """Objects without any interaction."""
    idle_fraction: float = 0.12
    """Probability that a person only stands beside an object, a no_interaction pair, where `choose` is not given."""
    framed_fraction: float = 0.7
    """Probability that a person stands so that the object is inside the image."""
    closest: float = 1.3
    """Largest magnification of the camera."""

    def __post_init__(self) -> None:
        if not self.people or min(self.people) < 0 or abs(sum(self.people) - 1) > 1e-6 or self.most_strays < 0:
            raise ValueError(f"need probabilities of numbers of people that sum to 1 and most_strays >= 0, got {self}")
        if not (0 <= self.idle_fraction <= 1 and 0 <= self.framed_fraction <= 1 and self.closest >= 1):
            raise ValueError(f"idle_fraction and framed_fraction must be in [0, 1], closest at least 1, got {self}")


def random_scene(
    rng: np.random.Generator,
    width_px: int,
    height_px: int,
    config: ComposeConfig | None = None,
    choose: Callable[[np.random.Generator], tuple[str, str]] | None = None,
) -> SyntheticScene:
    """A scene in which pose and placement follow from what each person does.

    Args:
        choose: gives the (verb, object) of the next person; any action equally often where it is left out.
    """
    config = config or ComposeConfig()
    kind = BACKDROP_KINDS[rng.integers(len(BACKDROP_KINDS))]
    count = 1 + int(rng.choice(len(config.people), p=config.people))
    people: list[Person] = []
    objects: list[SceneObject] = []
    interactions: list[SceneInteraction] = []
    cords: list[Cord] = []
    for slot in range(count):
        person = _random_person(rng, slot, width_px, height_px)
        verb, name = choose(rng) if choose else _any_triplet(rng, config.idle_fraction)
        idle = verb == NO_INTERACTION
        performance = _idle(person, name, rng) if idle else act_out(person, verb, name, rng)
        if rng.random() < config.framed_fraction:
            performance = _framed(performance, width_px)
        people.append(performance.person)
        for obj, doing in ((performance.obj, verb), *performance.props):
            objects.append(obj)
            if not idle:
                interactions.append(SceneInteraction(person_id=person.id, object_id=obj.id, verbs=(doing,)))
        if performance.cord is not None:
            cords.append(performance.cord)
    strays = int(rng.integers(0, config.most_strays + 1))
    objects += [_stray(rng, _ID_STEP * (count + 1) + i, width_px, height_px) for i in range(strays)]
    scene = SyntheticScene(
        width_px=width_px,
        height_px=height_px,
        backdrop=Backdrop(kind=kind, seed=int(rng.integers(2**31))),
        people=tuple(people),
        objects=tuple(objects),
        interactions=(*interactions, *idle_pairs(people, objects, interactions)),
        cords=tuple(cords),
    )
    return view_scene(scene, _random_view(rng, width_px, height_px, config.closest), width_px, height_px)


def act_out(person: Person, verb: str, name: str, rng: np.random.Generator) -> Performance:
    """The person doing this with a new object of this name; its id is the person's plus one.

    Raises:
        ValueError: repertoire.ACTS has no such action.
    """
    if (verb, name) not in ACTS:
        raise ValueError(f"no action draws {verb!r} with {name!r}; see repertoire.ACTS")
    if verb == "ride" and name == "horse":
        person = replace(person, height_px=0.75 * person.height_px)
    return ACTS[verb, name](person, sized(rng, person.id + 1, name, person.height_px), rng)


def idle_pairs(
    people: Sequence[Person], objects: Sequence[SceneObject], interactions: Sequence[SceneInteraction]
) -> list[SceneInteraction]:
    """A no_interaction for each idle person with each unused object on the ground within reach.

    This depends on what is visible only, not on the person whom the object was placed for.
    """
    busy = {interaction.person_id for interaction in interactions}
    used = {interaction.object_id for interaction in interactions}
    return [
        SceneInteraction(person_id=person.id, object_id=obj.id, verbs=(NO_INTERACTION,))
        for person in people
        if person.id not in busy
        for obj in objects
        if obj.id not in used and _beside(person, obj)
    ]


def _beside(person: Person, obj: SceneObject) -> bool:
    (left, _), (right, bottom) = _extent_px(obj)
    gap = max(left - person.x_px, person.x_px - right, 0.0)
    return gap < _REACH * person.height_px and abs(bottom - person.ground_px) < _SAME_GROUND * person.height_px


def _extent_px(obj: SceneObject) -> tuple[list[float], list[float]]:
    points = object_outlines(obj).points_xy
    return points.min(axis=0).tolist(), points.max(axis=0).tolist()


def _framed(done: Performance, width_px: int) -> Performance:
    """Moves a performance sideways until the object is in the image, as far as the person's middle stays in it."""
    (left, _), (right, _) = _extent_px(done.obj)
    wanted = max(0.0, -left) - max(0.0, right - width_px)
    shift = min(max(wanted, -done.person.x_px), width_px - done.person.x_px)
    if not shift:
        return done
    cord = done.cord
    if cord is not None:
        (x0, y0), (x1, y1) = cord.start_px, cord.end_px
        cord = replace(cord, start_px=(x0 + shift, y0), end_px=(x1 + shift, y1))
    return Performance(
        replace(done.person, x_px=done.person.x_px + shift),
        replace(done.obj, x_px=done.obj.x_px + shift),
        cord,
        tuple((replace(prop, x_px=prop.x_px + shift), verb) for prop, verb in done.props),
    )


def _any_triplet(rng: np.random.Generator, idle_fraction: float) -> tuple[str, str]:
    if rng.random() < idle_fraction:
        return NO_INTERACTION, ICON_NAMES[rng.integers(len(ICON_NAMES))]
    return _TRIPLETS[rng.integers(len(_TRIPLETS))]


def _random_view(rng: np.random.Generator, width_px: int, height_px: int, closest: float) -> View:
    """Shows half of the scenes whole, the others from nearer: mostly their lower half, where people are."""
    zoom = float(rng.uniform(1.0, closest)) if rng.random() < 0.5 else 1.0
    across, down = rng.uniform((0.0, 0.5), (1.0, 1.0)).tolist()
    free = 1 - 1 / zoom
    return View(left_px=across * free * width_px, top_px=down * free * height_px, zoom=zoom)


def _random_person(rng: np.random.Generator, slot: int, width_px: int, height_px: int) -> Person:
    """A person anywhere on the ground, the smaller the farther."""
    ground, nearness = height_px * float(rng.uniform(0.78, 0.99)), float(rng.uniform(0.43, 0.68))
    height = min(height_px, 0.75 * width_px) * nearness * ground / (0.99 * height_px)
    return Person(
        id=_ID_STEP * slot + 1,
        appearance=random_appearance(rng),
        x_px=width_px * float(rng.uniform(0.03, 0.97)),
        ground_px=ground,
        height_px=height,
        facing=1 if rng.random() < 0.5 else -1,
        depth=ground,
        pose=stances.STAND,
    )


def _idle(person: Person, name: str, rng: np.random.Generator) -> Performance:
    """A person who stands or walks past an object on the ground."""
    pose = stances.walk(float(rng.uniform(0, 2 * np.pi))) if rng.random() < 0.5 else stances.STAND
    obj = sized(rng, person.id + 1, name, 0.8 * person.height_px)
    side = float(rng.choice((-1.0, 1.0))) * (0.3 + 0.5 * natural_size(name))
    x, _ = person.point_px((side, 0.0))
    return Performance(replace(person, pose=pose), grounded(replace(obj, x_px=x, depth=person.depth), person.ground_px))


def _stray(rng: np.random.Generator, id: int, width_px: int, height_px: int) -> SceneObject:
    name = ICON_NAMES[rng.integers(len(ICON_NAMES))]
    obj = sized(rng, id, name, height_px * float(rng.uniform(0.3, 0.55)))
    ground = height_px * float(rng.uniform(0.68, 0.98))
    facing = 1 if rng.random() < 0.5 else -1
    return grounded(replace(obj, x_px=width_px * float(rng.random()), facing=facing, depth=ground), ground)


def grounded(obj: SceneObject, ground_px: float) -> SceneObject:
    """The object standing or lying on the ground, wherever its origin is."""
    lowest = float(icon(obj.name).outlines.points_xy[:, 1].max())
    return replace(obj, y_px=ground_px - lowest * obj.scale_px)


def sized(rng: np.random.Generator, id: int, name: str, person_height_px: float) -> SceneObject:
    scale = person_height_px * (1.0 if natural_size(name) > 0.4 else float(rng.uniform(1.0, 1.35)))
    return random_object(rng, id, name, max(scale, _MIN_OBJECT_PX / natural_size(name)))
