"""Random scenes: one to three people, each busy with something, and a few things that nobody minds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hoiclip.data.drawn import stances
from hoiclip.data.drawn.background import BACKDROP_KINDS, Backdrop
from hoiclip.data.drawn.figure import random_look
from hoiclip.data.drawn.objects import ICON_NAMES, icon, natural_size
from hoiclip.data.drawn.repertoire import ACTS, NO_INTERACTION, Performance
from hoiclip.data.drawn.scene import Cord, Interaction, Person, Scene, Thing, random_thing

_TRIPLETS = tuple(ACTS)
_MIN_THING_PX = 18.0
"""Things are never drawn smaller: a cup of four pixels teaches nothing."""
_ID_STEP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeConfig:
    """How crowded random scenes are."""

    most_people: int = 3
    most_strays: int = 2
    """Things that nobody interacts with."""
    idle_share: float = 0.12
    """How often a person only stands beside a thing: a no_interaction pair."""

    def __post_init__(self) -> None:
        if self.most_people < 1 or self.most_strays < 0 or not 0 <= self.idle_share <= 1:
            raise ValueError(f"need most_people >= 1, most_strays >= 0 and idle_share in [0, 1], got {self}")


def random_scene(rng: np.random.Generator, width_px: int, height_px: int, config: ComposeConfig | None = None) -> Scene:
    """A scene in which pose and placement follow from what each person does."""
    config = config or ComposeConfig()
    kind = BACKDROP_KINDS[rng.integers(len(BACKDROP_KINDS))]
    count = int(rng.integers(1, config.most_people + 1))
    people: list[Person] = []
    things: list[Thing] = []
    interactions: list[Interaction] = []
    cords: list[Cord] = []
    for slot in range(count):
        person = _random_person(rng, slot, count, width_px, height_px)
        if rng.random() < config.idle_share:
            verb, performance = NO_INTERACTION, _idle(person, rng)
        else:
            verb, name = _TRIPLETS[rng.integers(len(_TRIPLETS))]
            performance = act_out(person, verb, name, rng)
        people.append(performance.person)
        for thing, doing in ((performance.thing, verb), *performance.props):
            things.append(thing)
            interactions.append(Interaction(person=person.id, thing=thing.id, verbs=(doing,)))
        if performance.cord is not None:
            cords.append(performance.cord)
    strays = int(rng.integers(0, config.most_strays + 1))
    things += [_stray(rng, _ID_STEP * (count + 1) + i, width_px, height_px) for i in range(strays)]
    return Scene(
        width_px=width_px,
        height_px=height_px,
        backdrop=Backdrop(kind=kind, seed=int(rng.integers(2**31))),
        people=tuple(people),
        things=tuple(things),
        interactions=tuple(interactions),
        cords=tuple(cords),
    )


def act_out(person: Person, verb: str, name: str, rng: np.random.Generator) -> Performance:
    """The person doing this with a new thing of this name; its id is the person's plus one.

    Raises:
        ValueError: nobody has said what that looks like.
    """
    if (verb, name) not in ACTS:
        raise ValueError(f"no action draws {verb!r} with {name!r}; see repertoire.ACTS")
    if verb == "ride" and name == "horse":
        person = replace(person, height_px=0.75 * person.height_px)
    return ACTS[verb, name](person, _sized(rng, person.id + 1, name, person.height_px), rng)


def _random_person(rng: np.random.Generator, slot: int, count: int, width_px: int, height_px: int) -> Person:
    height = height_px * float(rng.uniform(0.42, 0.74 if count == 1 else 0.6))
    ground = height_px * float(rng.uniform(0.8, 0.96))
    return Person(
        id=_ID_STEP * slot + 1,
        look=random_look(rng),
        x_px=width_px * (slot + float(rng.uniform(0.25, 0.75))) / count,
        ground_px=ground,
        height_px=height,
        facing=1 if rng.random() < 0.5 else -1,
        depth=ground,
        pose=stances.STAND,
    )


def _idle(person: Person, rng: np.random.Generator) -> Performance:
    """Somebody who stands or walks past a thing on the ground."""
    pose = stances.walk(float(rng.uniform(0, 2 * np.pi))) if rng.random() < 0.5 else stances.STAND
    name = ICON_NAMES[rng.integers(len(ICON_NAMES))]
    thing = _sized(rng, person.id + 1, name, 0.8 * person.height_px)
    side = float(rng.choice((-1.0, 1.0))) * (0.3 + 0.5 * natural_size(name))
    x, _ = person.point_px((side, 0.0))
    return Performance(
        replace(person, pose=pose), _grounded(replace(thing, x_px=x, depth=person.depth), person.ground_px)
    )


def _stray(rng: np.random.Generator, id: int, width_px: int, height_px: int) -> Thing:
    name = ICON_NAMES[rng.integers(len(ICON_NAMES))]
    thing = _sized(rng, id, name, height_px * float(rng.uniform(0.3, 0.55)))
    ground = height_px * float(rng.uniform(0.68, 0.98))
    facing = 1 if rng.random() < 0.5 else -1
    return _grounded(replace(thing, x_px=width_px * float(rng.random()), facing=facing, depth=ground), ground)


def _grounded(thing: Thing, ground_px: float) -> Thing:
    """Standing or lying on the ground, whatever its origin is."""
    lowest = float(icon(thing.name).outlines.points_xy[:, 1].max())
    return replace(thing, y_px=ground_px - lowest * thing.scale_px)


def _sized(rng: np.random.Generator, id: int, name: str, person_height_px: float) -> Thing:
    scale = person_height_px * (1.0 if natural_size(name) > 0.4 else float(rng.uniform(1.0, 1.35)))
    return random_thing(rng, id, name, max(scale, _MIN_THING_PX / natural_size(name)))
