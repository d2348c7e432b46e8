"""The synthetic world as a dataset: images by number, drawn on request, with their annotation.

An image is a composed scene or a frame of a random video; both show the same actions, sizes and crowds.

A scene depends on its stream ("train", "validation", "test"), its seed and its number alone; streams share no scene.
Training sees a split as HICO-DET's zero-shot protocol does: a pair with an unseen triplet is left out of the annotation
while it stays in the image, and a scene without any pair left is drafted again under the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from hoiclip.core.array_types import F64, RGB
from hoiclip.core.vocabulary import PERSON
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.synthetic.camera import degrade
from hoiclip.synthetic.compose import random_scene
from hoiclip.synthetic.draw import PlacedScene, SceneGroundTruth
from hoiclip.synthetic.icons import ICON_NAMES
from hoiclip.synthetic.repertoire import NO_INTERACTION
from hoiclip.synthetic.scene import SyntheticScene
from hoiclip.synthetic.splits import FRACTIONS, SplitName, SyntheticSplit, synthetic_split
from hoiclip.synthetic.video import VideoConfig, random_script
from hoiclip.synthetic.vocabulary import Triplet, synthetic_vocabulary

StreamName = Literal["train", "validation", "test"]
STREAMS: tuple[StreamName, ...] = ("train", "validation", "test")
ALL_SCENES = 40_000
"""Scenes of the 100 % training set, about as many as HICO-DET has images; the fractions are its first ones."""
FrequencyName = Literal["long_tail", "equal"]
FREQUENCIES: tuple[FrequencyName, ...] = ("long_tail", "equal")
_ZIPF_EXPONENT = 0.7
"""With the actions there are, the first is about eleven times as frequent as the last that is not rare."""
RARE_PER_SCENE = 6 / 10_000
"""Instances of each rare action: a handful in ten thousand scenes."""
_PEOPLE_PER_SCENE = 1.9
_IDLE_FRACTION = 0.1
"""Of the people, in the long tail; as often as any other HOI where all are equal."""
WIDTH_PX, HEIGHT_PX = 256, 192
NEIGHBOURS = 2
"""Frames of a video that follow each other among the images, so that objects move a little from one to the next."""
_OPTICS, _KIND, _TIMES = 6, 7, 8
"""Subjects of random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """The choice of scenes, their split and size."""

    stream: StreamName = "train"
    seed: int = 0
    split: SplitName = "default"
    fraction: int | None = None
    """Percent of ALL_SCENES; None never ends."""
    frequencies: FrequencyName = "long_tail"
    video_fraction: float = 0.0
    """Of the images that are frames of random videos."""
    optics: bool = False
    """Whether images get the light, blur, noise and compression of a recording."""
    width_px: int = WIDTH_PX
    height_px: int = HEIGHT_PX

    def __post_init__(self) -> None:
        synthetic_split(self.split)
        if self.stream not in STREAMS:
            raise ValueError(f"stream must be one of {', '.join(STREAMS)}, got {self.stream!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if self.width_px < 16 or self.height_px < 16:
            raise ValueError(f"images need at least 16x16 pixels, got {self.width_px}x{self.height_px}")
        if self.frequencies not in FREQUENCIES:
            raise ValueError(f"frequencies must be one of {', '.join(FREQUENCIES)}, got {self.frequencies!r}")
        if not 0 <= self.video_fraction <= 1:
            raise ValueError(f"video_fraction must be in [0, 1], got {self.video_fraction}")
        if self.fraction is not None and self.fraction not in FRACTIONS:
            known = ", ".join(map(str, FRACTIONS))
            raise ValueError(f"fraction must be one of {known} percent or None, got {self.fraction}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticImage:
    """One drawn image with its annotation."""

    rgb: RGB
    """(H, W, 3), contiguous."""
    annotation: ImageAnnotation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """An image before it is painted."""

    placed: PlacedScene
    annotation: ImageAnnotation
    place: Callable[[], RGB] | None = None
    """Paints what lies behind; None: the scene's own backdrop."""


class SyntheticWorld:
    """Scenes 0, 1, 2 ...; a fraction begins again after its last one. Cheap to make and to send to another process."""

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self.split = synthetic_split(self.config.split)
        self.size = None if self.config.fraction is None else ALL_SCENES * self.config.fraction // 100
        self._frequencies = Frequencies(self.split, self.config.frequencies)

    def scene(self, index: int) -> SyntheticScene:
        """One scene, including unseen triplets."""
        return self._draft(index).placed.scene

    def annotation(self, index: int) -> ImageAnnotation:
        """The annotation for training, without painting."""
        return self._draft(index).annotation

    def scene_and_annotation(self, index: int) -> tuple[SyntheticScene, ImageAnnotation]:
        """Scene and annotation from one draft."""
        draft = self._draft(index)
        return draft.placed.scene, draft.annotation

    def image(self, index: int) -> SyntheticImage:
        draft = self._draft(index)
        rgb = draft.placed.paint(draft.place() if draft.place else None)
        return SyntheticImage(
            rgb=degrade(rgb, self._rng(_OPTICS, index)) if self.config.optics else rgb, annotation=draft.annotation
        )

    def images(self, start: int = 0, step: int = 1) -> Iterator[SyntheticImage]:
        """Images from scene `start` on, every `step`-th (for one of several workers); endless."""
        while True:
            yield self.image(start)
            start += step

    def _rng(self, subject: int, index: int) -> np.random.Generator:
        config = self.config
        return np.random.default_rng((subject, STREAMS.index(config.stream), config.seed, index))

    def _draft(self, index: int) -> _Draft:
        """The first draft of this number that shows a pair which training may see."""
        if index < 0:
            raise ValueError(f"scenes count from 0, got {index}")
        if self.size is not None:
            index %= self.size
        # Decided for all images of a group, which are frames of one video.
        if self.config.video_fraction > self._rng(_KIND, index // NEIGHBOURS).random():
            frame = self._video_frame(index)
            if len(frame.annotation.interactions) or not frame.placed.ground_truth().pairs:
                return frame
            # Without its pairs, which the split hides, it would teach that nothing happens where something does.
        config, draft = self.config, 0
        while True:
            rng = np.random.default_rng((STREAMS.index(config.stream), config.seed, index, draft))
            placed = PlacedScene(random_scene(rng, config.width_px, config.height_px, choose=self._frequencies))
            annotation = self._annotate(placed, index)
            if len(annotation.interactions):
                return _Draft(placed=placed, annotation=annotation)
            draft += 1

    def _video_frame(self, index: int) -> _Draft:
        """A frame of a video, close in time to the others of its group. It may show no interaction."""
        config, group = self.config, index // NEIGHBOURS
        video = VideoConfig(width_px=config.width_px, height_px=config.height_px)
        # Beyond all seeds of videos that are drawn by name: evaluation videos were never trained on.
        seed = ((STREAMS.index(config.stream) + 1) << 60) + (config.seed << 30) + group
        (chapter,) = random_script(video, seed).chapters
        rng = self._rng(_TIMES, group)
        times_s = rng.uniform(0.0, video.duration_s - 1.0) + np.cumsum(rng.uniform(0.05, 0.5, size=NEIGHBOURS))
        at_s = float(times_s[index % NEIGHBOURS])
        placed = PlacedScene(chapter.camera_scene(at_s))
        return _Draft(
            placed=placed,
            annotation=self._annotate(placed, index),
            place=lambda: chapter.camera_backdrop(at_s, chapter.place()),
        )

    def _annotate(self, placed: PlacedScene, index: int) -> ImageAnnotation:
        name = f"{self.config.stream}_{self.config.seed}_{index:06}"
        return annotate(placed.scene, placed.ground_truth(), name, self.split)


def annotate(
    scene: SyntheticScene, ground_truth: SceneGroundTruth, file_name: str, split: SyntheticSplit
) -> ImageAnnotation:
    """Ground truth in the synthetic vocabulary; pairs with unseen triplets and unseen objects are left out."""
    objects, verbs = _numbers()
    entities = [entity for entity in ground_truth.entities if entity.label not in split.unseen_objects]
    rows = {entity.id: row for row, entity in enumerate(entities)}
    interactions = [
        (rows[pair.human], rows[pair.object], verbs[verb])
        for pair in ground_truth.pairs
        if not _any_unseen(pair.verbs, pair.label, split.unseen)
        for verb in pair.verbs
    ]
    return ImageAnnotation(
        file_name=file_name,
        boxes_xyxy=np.array([entity.box_xyxy for entity in entities], dtype=np.float32).reshape(-1, 4),
        labels=np.array([objects[entity.label] for entity in entities], dtype=np.int64),
        interactions=np.array(interactions, dtype=np.int64).reshape(-1, 3),
        width_px=scene.width_px,
        height_px=scene.height_px,
    )


def _any_unseen(verbs: tuple[str, ...], label: str, unseen: frozenset[Triplet]) -> bool:
    return any((verb, label) in unseen for verb in verbs)


@cache
def _numbers() -> tuple[dict[str, int], dict[str, int]]:
    vocabulary = synthetic_vocabulary()
    objects = {name: i for i, name in enumerate(vocabulary.objects)}
    if objects[PERSON] != 0:
        raise AssertionError("the person is object 0, as everywhere")
    return objects, {name: i for i, name in enumerate(vocabulary.verbs)}


class Frequencies:
    """Draws (verb, object) triplets, no_interaction among them."""

    def __init__(self, split: SyntheticSplit, name: FrequencyName) -> None:
        self._triplets = (*split.by_frequency, *((NO_INTERACTION, obj) for obj in sorted(ICON_NAMES)))
        count = len(self._triplets)
        probabilities = _long_tail(split) if name == "long_tail" else np.full(count, 1.0 / count)
        self.probabilities: dict[Triplet, float] = dict(zip(self._triplets, probabilities.tolist(), strict=True))
        """Of what people do; sums to 1."""
        self._upto = np.cumsum(probabilities)

    def __call__(self, rng: np.random.Generator) -> Triplet:
        """Draws the triplet of the next person."""
        row = int(np.searchsorted(self._upto, rng.random() * self._upto[-1], side="right"))
        return self._triplets[min(row, len(self._triplets) - 1)]


def _long_tail(split: SyntheticSplit) -> F64:
    rare = len(split.rare)
    common = np.arange(1, len(split.by_frequency) - rare + 1, dtype=np.float64) ** -_ZIPF_EXPONENT
    tail = np.full(rare, RARE_PER_SCENE / _PEOPLE_PER_SCENE)
    idle = np.full(len(ICON_NAMES), _IDLE_FRACTION / len(ICON_NAMES))
    return np.concatenate((common / common.sum() * (1 - tail.sum() - idle.sum()), tail, idle))
