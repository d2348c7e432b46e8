"""A sequence of states of a person and an object that blend softly, and the events they stand for.

A state is a function of time that places a person and an object; the states themselves are in routines.py and clip.py.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hoiclip.synthetic.repertoire import ACTS, Performance
from hoiclip.synthetic.scene import Cord, Person, SceneObject
from hoiclip.synthetic.skeleton import between, mix
from hoiclip.synthetic.stances import eased

State = Callable[[float], Performance]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticEvent:
    """One verb between a person and an object, from `start_s` until just before `end_s`."""

    human: int
    object: int
    label: str
    verb: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneMoment:
    """People, objects and cords of a routine at one time."""

    people: tuple[Person, ...]
    objects: tuple[SceneObject, ...] = ()
    cords: tuple[Cord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Routine:
    """A small story of its own: people and objects at any time, and its events."""

    at: Callable[[float], SceneMoment]
    events: tuple[SyntheticEvent, ...] = ()


class Timeline:
    """One person and one object, from state to state."""

    def __init__(self, first: State) -> None:
        self._states = [first]
        self._starts_s = [-math.inf]
        self._ease_s = [1.0]

    def then(self, start_s: float, state: State, *, ease_s: float = 0.5) -> None:
        """Adds a state from `start_s` on, fully reached `ease_s` later. States are added in order of time."""
        self._starts_s.append(max(start_s, self._starts_s[-1]))
        self._states.append(state)
        self._ease_s.append(max(ease_s, 1e-6))

    def __call__(self, at_s: float) -> Performance:
        row = bisect_right(self._starts_s, at_s) - 1
        now = self._states[row](at_s)
        fraction = eased((at_s - self._starts_s[row]) / self._ease_s[row]) if row else 1.0
        return now if fraction >= 1 else _blend(self._states[row - 1](at_s), now, fraction)


def events(person: Person, obj: SceneObject, spans: Sequence[tuple[float, float, str]]) -> tuple[SyntheticEvent, ...]:
    """The spans that the repertoire can show with this object; equal verbs that follow each other are one event."""
    merged: list[SyntheticEvent] = []
    for start_s, end_s, verb in spans:
        if (verb, obj.name) not in ACTS or end_s <= start_s:
            continue
        if merged and merged[-1].verb == verb and merged[-1].end_s >= start_s:
            merged[-1] = replace(merged[-1], end_s=end_s)
        else:
            merged.append(
                SyntheticEvent(human=person.id, object=obj.id, label=obj.name, verb=verb, start_s=start_s, end_s=end_s)
            )
    return tuple(merged)


def _blend(start: Performance, end: Performance, fraction: float) -> Performance:
    """A mixture of two performances; what cannot be mixed changes in the middle."""
    nearer = start if fraction < 0.5 else end
    x_px, ground_px = between(
        (start.person.x_px, start.person.ground_px), (end.person.x_px, end.person.ground_px), fraction
    )
    pose = mix(start.person.pose, end.person.pose, fraction)
    object_x, object_y = between((start.obj.x_px, start.obj.y_px), (end.obj.x_px, end.obj.y_px), fraction)
    angle = start.obj.angle + (end.obj.angle - start.obj.angle) * fraction
    return replace(
        nearer,
        person=replace(nearer.person, x_px=x_px, ground_px=ground_px, pose=pose),
        obj=replace(nearer.obj, x_px=object_x, y_px=object_y, angle=angle),
    )
