"""Test and validation sets fixed by seed, with hashes in fixed_sets.json to check that they have not changed.

Scenes and annotations are hashed rounded to a tenth of a pixel, not as pixels: machines differ in the last bit of a
sine and OpenCV versions in anti-aliasing. Pixels are compared as mean colours, with a tolerance.
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
from hoiclip.data.images import EvaluationSet, MemoryImages
from hoiclip.synthetic.scene import SyntheticScene
from hoiclip.synthetic.video import VideoConfig, random_script
from hoiclip.synthetic.world import SyntheticWorld, WorldConfig

WITH_IMAGE = 16
"""Number of scenes of a set whose mean colours are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSet:
    """Scenes 0 ... count - 1 of a world."""

    name: str
    count: int
    world: WorldConfig

    def scenes(self) -> list[SyntheticScene]:
        world = SyntheticWorld(self.world)
        return [world.scene(index) for index in range(self.count)]

    def annotations(self) -> list[ImageAnnotation]:
        world = SyntheticWorld(self.world)
        return [world.annotation(index) for index in range(self.count)]


FIXED_SETS = {
    fixed.name: fixed
    for fixed in (
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


VIDEO_SEEDS = {"train": 0, "validation": 1_000_000, "test": 2_000_000}
"""Seed of the first video of each set; the others follow."""
TEST_SEEDS = (VIDEO_SEEDS["test"], 3_000_000)
"""Seeds of the first videos of the two halves of the test set."""
FIXED_VIDEOS = 24
"""Videos of the test set for evaluation, whose ground truth is recorded."""
VIDEO_CONFIG = VideoConfig(fps=12.5)
_RECORDED_EVERY = 25
"""Frames, of which one has its pairs and boxes recorded."""
_RECORDED_NAMES = {"appearance": "look", "objects": "things", "person_id": "person", "object_id": "thing"}
"""Names of a scene's fields under which the committed hashes were made."""


def video_fingerprint() -> dict[str, Any]:
    """The entry of the first test videos in fixed_sets.json."""
    seeds = [first + number for first in TEST_SEEDS for number in range(FIXED_VIDEOS // len(TEST_SEEDS))]
    scripts = [random_script(VIDEO_CONFIG, seed) for seed in seeds]
    recorded = [{"pts_s": script.pts_s, "events": [asdict(event) for event in script.events]} for script in scripts]
    seldom = [replace(script, pts_s=script.pts_s[::_RECORDED_EVERY]) for script in scripts]
    frames = [frame for script in seldom for frame in script.frames()]
    return {
        "count": FIXED_VIDEOS,
        "events": sum(len(video["events"]) for video in recorded),
        "events_sha256": _sha256(recorded),
        "pairs_sha256": _sha256({"pairs": [asdict(pair) for pair in frame.pairs]} for frame in frames),
    }


def fixed_set(name: str) -> FixedSet:
    """One of FIXED_SETS.

    Raises:
        ValueError: no fixed set has this name.
    """
    if name not in FIXED_SETS:
        raise ValueError(f"unknown fixed set {name!r}; known are {', '.join(FIXED_SETS)}")
    return FIXED_SETS[name]


def synthetic_set(name: str) -> EvaluationSet:
    """One of FIXED_SETS for evaluation; images are drawn on request.

    Raises:
        ValueError: no fixed set has this name.
    """
    fixed = fixed_set(name)
    world = SyntheticWorld(fixed.world)
    size_hw = fixed.world.height_px, fixed.world.width_px
    images = MemoryImages(size_hw, lambda index: world.image(index).rgb, fixed.count)
    return EvaluationSet(annotations=fixed.annotations(), images=images)


def fingerprint(fixed: FixedSet) -> dict[str, Any]:
    """The entry of a set in fixed_sets.json."""
    world = SyntheticWorld(fixed.world)
    both = [world.scene_and_annotation(index) for index in range(fixed.count)]
    return {
        "count": fixed.count,
        "pairs": sum(len(annotation.interactions) for _, annotation in both),
        "scenes_sha256": _sha256(asdict(scene) for scene, _ in both),
        "annotations_sha256": _sha256(_plain(annotation) for _, annotation in both),
        "mean_colours": [world.image(index).rgb.mean(axis=(0, 1)).round(2).tolist() for index in range(WITH_IMAGE)],
    }


@cache
def committed_fingerprints() -> dict[str, dict[str, Any]]:
    text = resources.files("hoiclip.synthetic").joinpath("fixed_sets.json").read_text(encoding="utf-8")
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
            return {_RECORDED_NAMES.get(key, key): _rounded(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_rounded(inner) for inner in value]
        case _:
            return value


if __name__ == "__main__":  # python -m hoiclip.synthetic.fixed_sets > hoiclip/synthetic/fixed_sets.json
    print(
        json.dumps(
            {**{name: fingerprint(fixed) for name, fixed in FIXED_SETS.items()}, "films": video_fingerprint()}, indent=1
        )
    )
