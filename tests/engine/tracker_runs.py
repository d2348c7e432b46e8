"""Scenes played to a pair tracker, and summaries of its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from hoiclip_engine.track.verbs import VerbConfig
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs
from tests.engine.scenes import NUM_VERBS, PERSON, Triplet, box_at, pairs_of

FRAME_RATES = pytest.mark.parametrize(("fps", "jitter"), [(15, 0), (30, 0), (60, 0), (25, 0.8)])
SEEN_AT_ONCE = VerbConfig(half_life_s=0.0, min_duration_s=0.0, settle_s=0.0, adapt=False)

Script = Callable[[float], Iterable[Triplet]]
"""Triplets that the model would find at a time."""


def ann(t: float) -> tuple[float, ...]:
    return tuple(box_at(100 + 20 * t, 100))


def bob(t: float) -> tuple[float, ...]:
    return tuple(box_at(300 + 20 * t, 100))


def mug(person: tuple[float, ...]) -> tuple[float, ...]:
    """In the hand of a person."""
    return tuple(box_at(person[2], (person[1] + person[3]) / 2, 24, 24))


def play(tracker: PairTracker, script: Script, pts_s: Iterable[float]) -> tuple[list[TrackedPairs], list[Event]]:
    frames, events = [], []
    for t in pts_s:
        frames.append(tracker.update(pairs_of(*script(t)), t))
        events += tracker.take_events()
    return frames, events


def tracker_of(person_label: int = PERSON, **config) -> PairTracker:
    return PairTracker(TrackConfig(**config, num_verbs=NUM_VERBS, person_label=person_label))


def identities(pairs: TrackedPairs) -> list[tuple[int, int, int]]:
    return list(zip(pairs.pair.tolist(), pairs.human.tolist(), pairs.object.tolist(), strict=True))


def kinds(events: Iterable[Event]) -> list[tuple[str, int, int]]:
    return [(event.event, event.pair, event.verb_index) for event in events]
