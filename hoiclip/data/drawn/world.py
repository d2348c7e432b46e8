"""The drawn world as a data set: images by number, drawn when they are asked for, with their annotation.

An image is a composed scene or a frame of a random video; both show the same actions, sizes and crowds.

A scene depends on its stream ("train", "validation", "test"), its seed and its number alone; streams share no scene.
Training sees a split as HICO-DET's zero-shot protocol does: a pair with an unseen triplet is left out of the annotation
while it stays in the picture, and a scene without any pair left is drafted again under the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.drawn.compose import random_scene
from hoiclip.data.drawn.draw import Placed, Truth
from hoiclip.data.drawn.frequencies import FREQUENCIES, Frequencies, FrequencyName
from hoiclip.data.drawn.optics import degrade
from hoiclip.data.drawn.scene import Scene
from hoiclip.data.drawn.shapes import Image
from hoiclip.data.drawn.splits import FRACTIONS, Split, SplitName, split_named
from hoiclip.data.drawn.video import VideoConfig, random_script
from hoiclip.data.drawn.vocabulary import Triplet, drawn_vocabulary
from hoiclip.vocabulary import PERSON

StreamName = Literal["train", "validation", "test"]
STREAMS: tuple[StreamName, ...] = ("train", "validation", "test")
ALL_SCENES = 40_000
"""Scenes of the 100 % training set, about as many as HICO-DET has pictures; the fractions are its first ones."""
WIDTH_PX, HEIGHT_PX = 256, 192
NEIGHBOURS = 2
"""Frames of a video that follow each other among the images, so that things move a little from one to the next."""
_OPTICS, _KIND, _TIMES = 6, 7, 8
"""Subjects of random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """Which scenes there are."""

    stream: StreamName = "train"
    seed: int = 0
    split: SplitName = "default"
    fraction: int | None = None
    """Percent of ALL_SCENES; None never ends."""
    frequencies: FrequencyName = "long_tail"
    video_fraction: float = 0.0
    """Of the images that are frames of random videos."""
    optics: bool = False
    """Whether images look as if recorded: light, blur, noise, compression."""
    width_px: int = WIDTH_PX
    height_px: int = HEIGHT_PX

    def __post_init__(self) -> None:
        split_named(self.split)
        if self.stream not in STREAMS:
            raise ValueError(f"stream must be one of {', '.join(STREAMS)}, got {self.stream!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if self.width_px < 16 or self.height_px < 16:
            raise ValueError(f"pictures need at least 16x16 pixels, got {self.width_px}x{self.height_px}")
        if self.frequencies not in FREQUENCIES:
            raise ValueError(f"frequencies must be one of {', '.join(FREQUENCIES)}, got {self.frequencies!r}")
        if not 0 <= self.video_fraction <= 1:
            raise ValueError(f"video_fraction must be in [0, 1], got {self.video_fraction}")
        if self.fraction is not None and self.fraction not in FRACTIONS:
            known = ", ".join(map(str, FRACTIONS))
            raise ValueError(f"fraction must be one of {known} percent or None, got {self.fraction}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPicture:
    rgb: NDArray[np.uint8]
    """(H, W, 3), contiguous."""
    annotation: ImageAnnotation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """An image before it is painted."""

    placed: Placed
    annotation: ImageAnnotation
    place: Callable[[], Image] | None = None
    """Paints what lies behind; None: the scene's own backdrop."""


class DrawnWorld:
    """Scenes 0, 1, 2 ...; a fraction begins again after its last one. Cheap to make and to send to another process."""

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self.split = split_named(self.config.split)
        self.size = None if self.config.fraction is None else ALL_SCENES * self.config.fraction // 100
        self._frequencies = Frequencies(self.split, self.config.frequencies)

    def scene(self, index: int) -> Scene:
        """One scene, unseen triplets and all."""
        return self._draft(index).placed.scene

    def annotation(self, index: int) -> ImageAnnotation:
        """What training may know of it, without painting."""
        return self._draft(index).annotation

    def scene_and_annotation(self, index: int) -> tuple[Scene, ImageAnnotation]:
        """Both at the price of one."""
        draft = self._draft(index)
        return draft.placed.scene, draft.annotation

    def picture(self, index: int) -> DrawnPicture:
        draft = self._draft(index)
        rgb = draft.placed.paint(draft.place() if draft.place else None)
        return DrawnPicture(
            rgb=degrade(rgb, self._rng(_OPTICS, index)) if self.config.optics else rgb, annotation=draft.annotation
        )

    def pictures(self, start: int = 0, step: int = 1) -> Iterator[DrawnPicture]:
        """From scene `start` on, every `step`-th (one share per worker); endless."""
        while True:
            yield self.picture(start)
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
            if len(frame.annotation.interactions) or not frame.placed.truth().pairs:
                return frame
            # Without its pairs, which the split hides, it would teach that nothing happens where something does.
        config, draft = self.config, 0
        while True:
            rng = np.random.default_rng((STREAMS.index(config.stream), config.seed, index, draft))
            placed = Placed(random_scene(rng, config.width_px, config.height_px, choose=self._frequencies))
            annotation = self._annotate(placed, index)
            if len(annotation.interactions):
                return _Draft(placed=placed, annotation=annotation)
            draft += 1

    def _video_frame(self, index: int) -> _Draft:
        """A frame of a video, close in time to the others of its group. It may show nobody who does anything."""
        config, group = self.config, index // NEIGHBOURS
        video = VideoConfig(width_px=config.width_px, height_px=config.height_px)
        # Beyond all seeds of videos that are drawn by name: whatever is evaluated was never trained on.
        seed = ((STREAMS.index(config.stream) + 1) << 60) + (config.seed << 30) + group
        (chapter,) = random_script(video, seed).chapters
        rng = self._rng(_TIMES, group)
        times_s = rng.uniform(0.0, video.duration_s - 1.0) + np.cumsum(rng.uniform(0.05, 0.5, size=NEIGHBOURS))
        at_s = float(times_s[index % NEIGHBOURS])
        placed = Placed(chapter.seen_scene(at_s))
        return _Draft(
            placed=placed,
            annotation=self._annotate(placed, index),
            place=lambda: chapter.seen_place(at_s, chapter.place()),
        )

    def _annotate(self, placed: Placed, index: int) -> ImageAnnotation:
        name = f"{self.config.stream}_{self.config.seed}_{index:06}"
        return annotate(placed.scene, placed.truth(), name, self.split)


def annotate(scene: Scene, truth: Truth, file_name: str, split: Split) -> ImageAnnotation:
    """Ground truth in the drawn vocabulary; pairs with unseen triplets and unseen objects are left out."""
    objects, verbs = _numbers()
    entities = [entity for entity in truth.entities if entity.label not in split.unseen_objects]
    rows = {entity.id: row for row, entity in enumerate(entities)}
    interactions = [
        (rows[pair.human], rows[pair.object], verbs[verb])
        for pair in truth.pairs
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
    vocabulary = drawn_vocabulary()
    objects = {name: i for i, name in enumerate(vocabulary.objects)}
    if objects[PERSON] != 0:
        raise AssertionError("the person is object 0, as everywhere")
    return objects, {name: i for i, name in enumerate(vocabulary.verbs)}
