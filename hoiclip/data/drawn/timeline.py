"""What somebody does one after the other: states that blend softly, and the events that tell about them.

A state is a function of time that puts a person and a thing in their places; nothing here knows which states there are.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hoiclip.data.drawn.repertoire import ACTS, Performance
from hoiclip.data.drawn.scene import Cord, Person, Thing
from hoiclip.data.drawn.skeleton import between, mix
from hoiclip.data.drawn.stances import eased

State = Callable[[float], Performance]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnEvent:
    """Somebody does something from `start_s` until just before `end_s`."""

    human: int
    object: int
    label: str
    verb: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    people: tuple[Person, ...]
    things: tuple[Thing, ...] = ()
    cords: tuple[Cord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Routine:
    """A small story of its own: who is where at any time, and what happens when."""

    at: Callable[[float], Moment]
    events: tuple[DrawnEvent, ...] = ()


class Timeline:
    """One person and one thing, from state to state."""

    def __init__(self, first: State) -> None:
        self._states = [first]
        self._starts_s = [-math.inf]
        self._ease_s = [1.0]

    def then(self, start_s: float, state: State, *, ease_s: float = 0.5) -> None:
        """From `start_s` on another state, fully reached `ease_s` later. States are added in order of time."""
        self._starts_s.append(max(start_s, self._starts_s[-1]))
        self._states.append(state)
        self._ease_s.append(max(ease_s, 1e-6))

    def __call__(self, at_s: float) -> Performance:
        row = bisect_right(self._starts_s, at_s) - 1
        now = self._states[row](at_s)
        share = eased((at_s - self._starts_s[row]) / self._ease_s[row]) if row else 1.0
        return now if share >= 1 else _blend(self._states[row - 1](at_s), now, share)


def events(person: Person, thing: Thing, spans: Sequence[tuple[float, float, str]]) -> tuple[DrawnEvent, ...]:
    """The spans that the repertoire can show with this thing; equal verbs that follow each other are one event."""
    told: list[DrawnEvent] = []
    for start_s, end_s, verb in spans:
        if (verb, thing.name) not in ACTS or end_s <= start_s:
            continue
        if told and told[-1].verb == verb and told[-1].end_s >= start_s:
            told[-1] = replace(told[-1], end_s=end_s)
        else:
            told.append(
                DrawnEvent(human=person.id, object=thing.id, label=thing.name, verb=verb, start_s=start_s, end_s=end_s)
            )
    return tuple(told)


def _blend(start: Performance, end: Performance, share: float) -> Performance:
    """Part of the way from one to the other; what cannot be mixed changes in the middle."""
    nearer = start if share < 0.5 else end
    x_px, ground_px = between(
        (start.person.x_px, start.person.ground_px), (end.person.x_px, end.person.ground_px), share
    )
    pose = mix(start.person.pose, end.person.pose, share)
    thing_x, thing_y = between((start.thing.x_px, start.thing.y_px), (end.thing.x_px, end.thing.y_px), share)
    angle = start.thing.angle + (end.thing.angle - start.thing.angle) * share
    return replace(
        nearer,
        person=replace(nearer.person, x_px=x_px, ground_px=ground_px, pose=pose),
        thing=replace(nearer.thing, x_px=thing_x, y_px=thing_y, angle=angle),
    )
