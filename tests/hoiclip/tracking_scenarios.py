"""Synthetic tracking scenarios for the identity metrics: wandering people, and a tracker with errors. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Frame = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Identities (N,) and boxes (N, 4) xyxy."""


@dataclass(frozen=True, kw_only=True)
class TrackerErrors:
    """Rates of a tracker's errors."""

    noise_px: float = 4.0
    miss: float = 0.15
    """Fraction of boxes that it misses."""
    invent: float = 0.1
    """Boxes of nothing, per ground-truth box."""
    swap: float = 0.03
    """Chance in each frame that two identities change places for good."""


SCENARIOS: dict[str, tuple[int, int, int, TrackerErrors]] = {
    "usual": (1, 6, 60, TrackerErrors()),
    "good": (2, 4, 40, TrackerErrors(noise_px=1, miss=0.02, invent=0.0, swap=0.0)),
    "restless": (3, 5, 80, TrackerErrors(swap=0.3)),
    "blurred": (4, 8, 50, TrackerErrors(noise_px=25, miss=0.3, invent=0.5)),
    "crowded": (5, 25, 30, TrackerErrors(noise_px=8)),
    "nothing found": (6, 3, 10, TrackerErrors(miss=1.0, invent=0.0)),
    "nobody there": (7, 0, 10, TrackerErrors()),
}
"""Seed, people, frames, errors."""


def scenario(name: str) -> tuple[list[Frame], list[Frame]]:
    """Ground truth and results, frame by frame."""
    seed, people, frames, errors = SCENARIOS[name]
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(50, 350, (people, 2)), rng.uniform(-6, 6, (people, 2))
    size = rng.uniform((30, 60), (60, 120), (people, 2))
    starts, ends = rng.integers(0, max(frames // 3, 1), people), rng.integers(2 * frames // 3, frames + 1, people)
    number = np.arange(people) + 100
    ground_truth: list[Frame] = []
    found: list[Frame] = []
    for at in range(frames):
        present = np.flatnonzero((starts <= at) & (at < ends) & (rng.random(people) > 0.1))
        boxes = np.concatenate([place - size / 2, place + size / 2], axis=1)[present]
        ground_truth.append((present + 1, boxes))
        found.append(_seen(rng, number[present], boxes, errors))
        if people > 1 and rng.random() < errors.swap:
            a, b = rng.choice(people, 2, replace=False)
            number[[a, b]] = number[[b, a]]
        if people and rng.random() < errors.swap:
            number[rng.integers(people)] = 1000 + at
        place = place + speed + rng.normal(0, 2, (people, 2))
    if people == 0:  # a tracker that sees ghosts
        found = [(np.array([1, 2]), np.array([[10.0, 10, 50, 90], [60, 10, 90, 70]])) for _ in found]
    return ground_truth, found


def _seen(
    rng: np.random.Generator, number: NDArray[np.int64], boxes: NDArray[np.float64], errors: TrackerErrors
) -> Frame:
    kept = rng.random(len(boxes)) >= errors.miss
    shifted = boxes[kept] + rng.normal(0, errors.noise_px, (int(kept.sum()), 4))
    shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)
    ghosts = rng.random(len(boxes)) < errors.invent
    corner = rng.uniform(0, 350, (int(ghosts.sum()), 2))
    ghost_boxes = np.concatenate([corner, corner + rng.uniform(20, 90, corner.shape)], axis=1)
    ids = np.concatenate([number[kept], 5000 + np.flatnonzero(ghosts)])
    return ids.astype(np.int64), np.concatenate([shifted, ghost_boxes])


def mot_lines(frames: list[Frame]) -> str:
    """MOTChallenge text with enough digits to be the same boxes again."""
    return "".join(
        f"{number},{identity},{x1!r},{y1!r},{x2 - x1!r},{y2 - y1!r},1,-1,-1,-1\n"
        for number, (ids, boxes) in enumerate(frames, 1)
        for identity, (x1, y1, x2, y2) in zip(ids.tolist(), boxes.tolist(), strict=True)
    )
