"""The official training augmentations, on a uint8 image and its annotation.

In this order: flip, colour jitter, then either a resize, or a resize, a crop and a resize. All resizes are PIL's, by
the rule of hoiclip_kernels.preprocess. Chance comes from the generator that is passed in, and from nowhere else.

Source: docs/model.md, Training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance

from hoiclip.data.annotations import ImageAnnotation, inside
from hoiclip_kernels.preprocess.plan import resized_hw

_OFFICIAL_SHORT_SIDE_PX = 800

_LONGEST_BEFORE_CROP = 16
"""Officially nothing limits the long side before a crop; an image of 1 × 10,000 px would fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """Limits of the augmentation; the defaults are the official ones."""

    flip: float = 0.5
    """Probability of left for right."""
    jitter: float = 0.4
    """Brightness, contrast and saturation are multiplied by a number this far from 1 at most."""
    crop: float = 0.5
    """Probability of a crop."""
    short_sides_px: tuple[int, ...] = tuple(range(480, 801, 32))
    """Sizes to choose from."""
    max_side_px: int = 1333
    before_crop_px: tuple[int, ...] = (400, 500, 600)
    """Short sides to choose from before a crop."""
    crop_px: tuple[int, int] = (384, 600)
    """Smallest and largest side of a crop; smaller only where the image is."""

    def __post_init__(self) -> None:
        if not (0 <= self.flip <= 1 and 0 <= self.crop <= 1 and 0 <= self.jitter < 1):
            found = f"{self.flip}, {self.crop} and {self.jitter}"
            raise ValueError(f"flip and crop must be probabilities and jitter in [0, 1), got {found}")
        sides = (*self.short_sides_px, *self.before_crop_px, *self.crop_px, self.max_side_px)
        if not self.short_sides_px or not self.before_crop_px or min(sides) < 1:
            raise ValueError(f"expected at least one short side, and sides of at least 1 px, got {self}")
        if self.crop_px[0] > self.crop_px[1]:
            raise ValueError(f"crop_px must be smallest and largest side, got {self.crop_px}")

    def for_size(self, short_side_px: int, max_side_px: int) -> AugmentConfig:
        """The same in proportion, from sides for the official input size to those for a model of another one."""

        def scaled(side: int) -> int:
            return max(1, round(side * short_side_px / _OFFICIAL_SHORT_SIDE_PX))

        return replace(
            self,
            short_sides_px=tuple(map(scaled, self.short_sides_px)),
            max_side_px=max_side_px,
            before_crop_px=tuple(map(scaled, self.before_crop_px)),
            crop_px=(scaled(self.crop_px[0]), scaled(self.crop_px[1])),
        )


AnnotatedImage = tuple[Image.Image, ImageAnnotation]


def augment(
    image: Image.Image, annotation: ImageAnnotation, config: AugmentConfig, rng: np.random.Generator
) -> AnnotatedImage:
    """Makes one random variant.

    Args:
        image: RGB.
        annotation: its annotation, in the image's pixels.

    Returns:
        An image of another size, and its annotation; boxes outside a crop are dropped with their interactions.
    """
    if rng.random() < config.flip:
        image, annotation = flip(image, annotation)
    image = jitter(image, config.jitter, rng)
    if rng.random() < config.crop:
        short = _choice(config.before_crop_px, rng)
        image, annotation = resize(image, annotation, short, _LONGEST_BEFORE_CROP * short)
        image, annotation = crop(image, annotation, *_window(image, config.crop_px, rng))
    return resize(image, annotation, _choice(config.short_sides_px, rng), config.max_side_px)


def flip(image: Image.Image, annotation: ImageAnnotation) -> AnnotatedImage:
    """Mirrors left and right."""
    x1, y1, x2, y2 = annotation.boxes_xyxy.T
    flipped = np.stack([image.width - x2, y1, image.width - x1, y2], axis=1)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), replace(annotation, boxes_xyxy=flipped)


def jitter(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Changes brightness, contrast and saturation, in random order."""
    changes = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for i in rng.permutation(len(changes)):
        image = changes[i](image).enhance(rng.uniform(1 - strength, 1 + strength))
    return image


def resize(image: Image.Image, annotation: ImageAnnotation, short_side_px: int, max_side_px: int) -> AnnotatedImage:
    """Resizes by the official rule."""
    old_width, old_height = image.size
    height, width = resized_hw(old_height, old_width, short_side_px, max_side_px)
    scale = np.array([width / old_width, height / old_height] * 2, np.float32)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized, replace(annotation, boxes_xyxy=annotation.boxes_xyxy * scale, width_px=width, height_px=height)


def crop(
    image: Image.Image, annotation: ImageAnnotation, left: int, top: int, width: int, height: int
) -> AnnotatedImage:
    """Crops to a window; boxes are clipped to it, and those outside are dropped with their interactions."""
    moved = replace(annotation, boxes_xyxy=annotation.boxes_xyxy - np.array([left, top] * 2, np.float32))
    return image.crop((left, top, left + width, top + height)), inside(moved, width, height)


def _choice(sides: tuple[int, ...], rng: np.random.Generator) -> int:
    return sides[int(rng.integers(len(sides)))]


def _window(image: Image.Image, crop_px: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random window (left, top, width, height); every size and position is equally likely."""
    smallest, largest = crop_px
    width, height = (int(rng.integers(min(smallest, side), min(largest, side), endpoint=True)) for side in image.size)
    left = int(rng.integers(image.width - width, endpoint=True))
    top = int(rng.integers(image.height - height, endpoint=True))
    return left, top, width, height
