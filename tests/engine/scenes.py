"""Triplets of made-up scenes, as the model would give them, for tests of tracking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoiclip.core.detections import HOIDetections

Box = Sequence[float]

NUM_VERBS = 4
PERSON, CUP, DOG, BIKE = 0, 1, 2, 3
HOLD, KICK, RIDE, HUG = 0, 1, 2, 3


@dataclass(frozen=True)
class Triplet:
    """One row of HOIDetections; `target` None is a person acting without an object."""

    human: Box
    target: Box | None
    label: int = CUP
    verb: int = HOLD
    score: float = 0.8
    verb_score: float = 0.8


def pairs_of(*triplets: Triplet) -> HOIDetections:
    """The rows as given, each from a query of its own."""
    return HOIDetections(
        query=np.arange(len(triplets)),
        human_boxes_xyxy=np.array([t.human for t in triplets], np.float32).reshape(-1, 4),
        object_boxes_xyxy=np.array([t.target or (0, 0, 0, 0) for t in triplets], np.float32).reshape(-1, 4),
        label=np.array([-1 if t.target is None else t.label for t in triplets], np.int64),
        verb=np.array([t.verb for t in triplets], np.int64),
        hoi=np.full(len(triplets), -1),
        score=np.array([t.score for t in triplets], np.float64),
        verb_score=np.array([t.verb_score for t in triplets], np.float64),
    )


def box_at(x: float, y: float, width: float = 60, height: float = 120) -> Box:
    """Corners of a box from its centre."""
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def times(fps: float, seconds: float, *, jitter: float = 0.0, seed: int = 0) -> list[float]:
    """Presentation times from 0; jitter is a fraction of the frame period."""
    count = round(seconds * fps)
    shift = np.random.default_rng(seed).uniform(-jitter / 2, jitter / 2, count)
    return ((np.arange(count) + shift) / fps - shift[0] / fps).tolist()
