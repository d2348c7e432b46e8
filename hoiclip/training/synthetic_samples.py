"""Synthetic scenes and crops of them with captions, made on the fly: samples of the small CLIP."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.model.config import ModelConfig
from hoiclip.synthetic.captions import Captioned, annotated_hois, pair_crops, scene_caption
from hoiclip.synthetic.world import SyntheticImage, SyntheticWorld, WorldConfig
from hoiclip.training.small_clip import Caption, ClipSample
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, clip_crop, normalised

_FAR = 1 << 40
"""More than any number of a sample."""


class SyntheticClipSamples:
    """Training images of the small CLIP: even numbers are crops around one pair, odd ones whole scenes."""

    def __init__(self, world: WorldConfig, config: ModelConfig) -> None:
        self._world = SyntheticWorld(world)
        self._seed = world.seed
        self._clip_px = config.clip_image_px
        self._patches = config.clip_image_px // config.clip_patch_px
        self._no_object = config.num_object_classes

    def __getitem__(self, number: int) -> ClipSample:
        image = self._image(number)
        rng = np.random.default_rng((self._seed, number, 1))
        if number % 2:
            captioned = scene_caption(image.annotation, rng)
            shown_hois = frozenset(annotated_hois(image.annotation))
        else:
            crops = pair_crops(image.annotation, rng)
            captioned = crops[int(rng.integers(len(crops)))]
            shown_hois = frozenset(captioned.hois)
        return self.sample(image.rgb, image.annotation, captioned, shown_hois)

    def _image(self, number: int) -> SyntheticImage:
        """The image of this number, or of a later one if it shows no interaction, as frames of videos may."""
        while not len((image := self._world.image(number)).annotation.interactions):
            number += _FAR
        return image

    def sample(
        self, rgb: NDArray[np.uint8], annotation: ImageAnnotation, captioned: Captioned, shown_hois: frozenset[int]
    ) -> ClipSample:
        """A crop of an image as CLIP sees it.

        Args:
            shown_hois: all HOIs of the crop, those mentioned among them.
        """
        left, top, right, bottom = square_around(captioned.box_xyxy, annotation.width_px, annotation.height_px)
        crop = Image.fromarray(rgb[top:bottom, left:right])
        short, side = min(crop.size), self._clip_px
        # clip_crop keeps the middle square.
        x0, y0 = left + (crop.width - short) / 2, top + (crop.height - short) / 2
        return ClipSample(
            image=torch.from_numpy(normalised(np.asarray(clip_crop(crop, side)), CLIP_TABLE)),
            caption=Caption(captioned.caption, frozenset(captioned.hois), shown_hois),
            patch_labels=torch.from_numpy(self._patch_labels(annotation, x0, y0, short)),
        )

    def _patch_labels(self, annotation: ImageAnnotation, x0: float, y0: float, side_px: float) -> NDArray[np.int64]:
        """Labels of the smallest object whose box covers each patch's centre."""
        centre = (np.arange(self._patches) + 0.5) / self._patches * side_px
        boxes = annotation.boxes_xyxy
        x, y = x0 + centre[None, :, None], y0 + centre[:, None, None]
        covers = (x >= boxes[:, 0]) & (x <= boxes[:, 2]) & (y >= boxes[:, 1]) & (y <= boxes[:, 3])
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        areas = np.where(covers, area, np.inf)
        patch_labels: NDArray[np.int64] = np.where(
            covers.any(-1), annotation.labels[areas.argmin(-1)], self._no_object
        ).astype(np.int64)
        return patch_labels


def square_around(box_xyxy: tuple[int, int, int, int], width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """The box enlarged to a square as far as the image allows, so that the centre crop loses little of it."""
    left, top, right, bottom = box_xyxy
    side = max(right - left, bottom - top)
    grown_x, grown_y = min(side, width_px), min(side, height_px)
    x0 = min(max(0, (left + right - grown_x) // 2), width_px - grown_x)
    y0 = min(max(0, (top + bottom - grown_y) // 2), height_px - grown_y)
    return x0, y0, x0 + grown_x, y0 + grown_y
