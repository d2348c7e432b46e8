"""Drawn scenes as training samples, made on the fly: for HOICLIP, and cut out and captioned for the small CLIP."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.dataset import Sample, SampleConfig, make_sample
from hoiclip.data.drawn.captions import Captioned, annotated_hois, pair_crops, scene_caption
from hoiclip.data.drawn.vocabulary import drawn_vocabulary
from hoiclip.data.drawn.world import DrawnPicture, DrawnWorld, WorldConfig
from hoiclip.model.config import ModelConfig
from hoiclip.training.small_clip import Caption, ClipSample
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, clip_crop, normalised

_ELSEWHERE = 1 << 40
"""Far from all numbers of samples."""


class DrawnSamples:
    """HOICLIP's training pictures, drawn at the model's own size: only CLIP's picture is resized."""

    def __init__(self, world: WorldConfig, config: ModelConfig) -> None:
        if min(world.width_px, world.height_px) != config.short_side_px:
            raise ValueError(
                f"scenes must be drawn with the model's short side of {config.short_side_px} px, "
                f"got {world.width_px}x{world.height_px}"
            )
        self._world = DrawnWorld(world)
        self._vocabulary = drawn_vocabulary()
        self._config = SampleConfig(
            short_side_px=config.short_side_px, max_side_px=config.max_side_px, clip_side_px=config.clip_image_px
        )

    def __getitem__(self, number: int) -> Sample:
        picture = self._world.picture(number)
        rng = np.random.default_rng(0)  # nothing is augmented: no scene comes twice
        return make_sample(Image.fromarray(picture.rgb), picture.annotation, self._vocabulary, self._config, rng)


class DrawnClipSamples:
    """The small CLIP's training pictures: even numbers are cuts round one pair, odd ones whole scenes."""

    def __init__(self, world: WorldConfig, config: ModelConfig) -> None:
        self._world = DrawnWorld(world)
        self._seed = world.seed
        self._clip_px = config.clip_image_px
        self._patches = config.clip_image_px // config.clip_patch_px
        self._nothing = config.num_object_classes

    def __getitem__(self, number: int) -> ClipSample:
        picture = self._picture(number)
        rng = np.random.default_rng((self._seed, number, 1))
        if number % 2:
            shown = scene_caption(picture.annotation, rng)
            true = frozenset(annotated_hois(picture.annotation))
        else:
            crops = pair_crops(picture.annotation, rng)
            shown = crops[int(rng.integers(len(crops)))]
            true = frozenset(shown.hois)
        return self.sample(picture.rgb, picture.annotation, shown, true)

    def _picture(self, number: int) -> DrawnPicture:
        """The first with something to tell: frames of videos may show nobody who does anything."""
        while not len((picture := self._world.picture(number)).annotation.interactions):
            number += _ELSEWHERE
        return picture

    def sample(
        self, rgb: NDArray[np.uint8], annotation: ImageAnnotation, shown: Captioned, true: frozenset[int]
    ) -> ClipSample:
        """A part of a picture as CLIP sees it.

        Args:
            true: all HOIs of that part, those told among them.
        """
        left, top, right, bottom = square_around(shown.box_xyxy, annotation.width_px, annotation.height_px)
        cut = Image.fromarray(rgb[top:bottom, left:right])
        short, side = min(cut.size), self._clip_px
        # What clip_crop keeps of the cut: the middle square.
        x0, y0 = left + (cut.width - short) / 2, top + (cut.height - short) / 2
        return ClipSample(
            image=torch.from_numpy(normalised(np.asarray(clip_crop(cut, side)), CLIP_TABLE)),
            caption=Caption(shown.caption, frozenset(shown.hois), true),
            things=torch.from_numpy(self._things(annotation, x0, y0, short)),
        )

    def _things(self, annotation: ImageAnnotation, x0: float, y0: float, side_px: float) -> NDArray[np.int64]:
        """The smallest thing whose box covers each patch's middle."""
        middle = (np.arange(self._patches) + 0.5) / self._patches * side_px
        boxes = annotation.boxes_xyxy
        x, y = x0 + middle[None, :, None], y0 + middle[:, None, None]
        covers = (x >= boxes[:, 0]) & (x <= boxes[:, 2]) & (y >= boxes[:, 1]) & (y <= boxes[:, 3])
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        areas = np.where(covers, area, np.inf)
        things: NDArray[np.int64] = np.where(covers.any(-1), annotation.labels[areas.argmin(-1)], self._nothing).astype(
            np.int64
        )
        return things


def square_around(box_xyxy: tuple[int, int, int, int], width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """The box grown to a square as far as the picture has room, so that the middle crop loses little of it."""
    left, top, right, bottom = box_xyxy
    side = max(right - left, bottom - top)
    grown_x, grown_y = min(side, width_px), min(side, height_px)
    x0 = min(max(0, (left + right - grown_x) // 2), width_px - grown_x)
    y0 = min(max(0, (top + bottom - grown_y) // 2), height_px - grown_y)
    return x0, y0, x0 + grown_x, y0 + grown_y
