"""Test and validation sets fixed by seed, with hashes in fixed_sets.json that tell whether they are still the same.

Scenes and annotations are hashed rounded to a tenth of a pixel, not as pixels: machines differ in the last bit of a
sine and OpenCV versions in anti-aliasing. Pixels are looked at as mean colours, with a tolerance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.drawn.scene import Scene
from hoiclip.data.drawn.video import VideoConfig, random_script
from hoiclip.data.drawn.world import DrawnWorld, WorldConfig

PICTURED = 16
"""How many scenes of a set have their mean colours recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSet:
    """Scenes 0 ... count - 1 of a world."""

    name: str
    count: int
    world: WorldConfig

    def scenes(self) -> list[Scene]:
        world = DrawnWorld(self.world)
        return [world.scene(index) for index in range(self.count)]

    def annotations(self) -> list[ImageAnnotation]:
        world = DrawnWorld(self.world)
        return [world.annotation(index) for index in range(self.count)]


FIXED_SETS = {
    one.name: one
    for one in (
        FixedSet(name="test", count=2_000, world=WorldConfig(stream="test", seed=2023, frequencies="equal")),
        FixedSet(
            name="validation",
            count=800,
            world=WorldConfig(stream="validation", seed=2023, frequencies="equal", video_fraction=0.5),
        ),
    )
}
"""All HOIs equally often, so that rare ones can be measured too; every split is evaluated on the same images. Choices
are made on the validation set, half of which are frames of videos."""


FILM_SEEDS = {"train": 0, "validation": 1_000_000, "test": 2_000_000}
"""Seed of the first film of each set; the others follow."""
TEST_SEEDS = (FILM_SEEDS["test"], 3_000_000)
"""Seeds of the first videos of the two halves of the test set."""
FIXED_FILMS = 24
"""Videos of the test set that models are measured on, and whose ground truth is recorded."""
FILM_CONFIG = VideoConfig(fps=12.5)
_RECORDED_EVERY = 25
"""Frames, of which one has its pairs and boxes recorded."""


def film_fingerprint() -> dict[str, Any]:
    """What fixed_sets.json holds of the first test films."""
    seeds = [first + number for first in TEST_SEEDS for number in range(FIXED_FILMS // len(TEST_SEEDS))]
    scripts = [random_script(FILM_CONFIG, seed) for seed in seeds]
    told = [{"pts_s": script.pts_s, "events": [asdict(event) for event in script.events]} for script in scripts]
    seldom = [replace(script, pts_s=script.pts_s[::_RECORDED_EVERY]) for script in scripts]
    frames = [frame for script in seldom for frame in script.frames()]
    return {
        "count": FIXED_FILMS,
        "events": sum(len(one["events"]) for one in told),
        "events_sha256": _sha256(told),
        "pairs_sha256": _sha256({"pairs": [asdict(pair) for pair in frame.pairs]} for frame in frames),
    }


def fixed_set(name: str) -> FixedSet:
    """One of FIXED_SETS.

    Raises:
        ValueError: there is no such set.
    """
    if name not in FIXED_SETS:
        raise ValueError(f"unknown fixed set {name!r}; there are {', '.join(FIXED_SETS)}")
    return FIXED_SETS[name]


def fingerprint(chosen: FixedSet) -> dict[str, Any]:
    """What fixed_sets.json holds of a set."""
    world = DrawnWorld(chosen.world)
    both = [world.scene_and_annotation(index) for index in range(chosen.count)]
    return {
        "count": chosen.count,
        "pairs": sum(len(annotation.interactions) for _, annotation in both),
        "scenes_sha256": _sha256(asdict(scene) for scene, _ in both),
        "annotations_sha256": _sha256(_plain(annotation) for _, annotation in both),
        "mean_colours": [world.picture(index).rgb.mean(axis=(0, 1)).round(2).tolist() for index in range(PICTURED)],
    }


@cache
def committed_fingerprints() -> dict[str, dict[str, Any]]:
    text = resources.files("hoiclip.data.drawn").joinpath("fixed_sets.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _plain(annotation: ImageAnnotation) -> dict[str, Any]:
    return {
        "boxes_xyxy": annotation.boxes_xyxy.tolist(),
        "labels": annotation.labels.tolist(),
        "interactions": annotation.interactions.tolist(),
    }


def _sha256(items: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(_rounded(item), sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 1) + 0.0
        case dict():
            return {key: _rounded(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_rounded(inner) for inner in value]
        case _:
            return value


if __name__ == "__main__":  # python -m hoiclip.data.drawn.fixed_sets > hoiclip/data/drawn/fixed_sets.json
    print(
        json.dumps(
            {**{name: fingerprint(one) for name, one in FIXED_SETS.items()}, "films": film_fingerprint()}, indent=1
        )
    )
