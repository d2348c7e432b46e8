"""Where the pixels of both model inputs come from: sizes alone, no pixels."""

from __future__ import annotations

from dataclasses import dataclass

Size = tuple[int, int]
"""Height, width in pixels."""

_LONGEST_CLIP_SIDES = 16
"""An image longer than this many crops is resized only where the crop is: 1 × 1333 px would become 224 × 298,592."""


def resized_hw(h: int, w: int, short_side: int, max_side: int) -> Size:
    """Height and width after the official resize.

    The long side is truncated, and may exceed `max_side` by the rounding of the short one. Where the short side would
    round to nothing (the official code fails there), it is 1 px and the long side `max_side`.

    Source: docs/model.md, Inputs.
    """
    short, long = min(h, w), max(h, w)
    if long / short * short_side > max_side:
        short_side = round(max_side * short / long)
    if short_side == 0:
        return (1, max_side) if h < w else (max_side, 1)
    if short == short_side:
        return h, w
    if w < h:
        return int(short_side * h / w), short_side
    return short_side, int(short_side * w / h)


def fitted(image_hw: Size, padded_hw: Size) -> Size:
    """`image_hw` if it fits into the padded size, else the largest of that aspect ratio that does, at least 1 px."""
    (h, w), (padded_h, padded_w) = image_hw, padded_hw
    if h <= padded_h and w <= padded_w:
        return image_hw
    if h * padded_w >= w * padded_h:  # the height is what does not fit
        return padded_h, max(1, w * padded_h // h)
    return max(1, h * padded_w // w), padded_w


@dataclass(frozen=True, slots=True)
class Cut:
    """A square of a resized image: `box_xyxy` of the image becomes `resized_hw`, of which a window stays."""

    box_xyxy: tuple[float, float, float, float]
    resized_hw: Size
    top: int
    left: int
    side: int


def clip_cut(image_hw: Size, side: int) -> Cut:
    """The middle square, after the short side has become `side`.

    Of a very long image only about the square is resized, with the steps of the whole.

    Source: docs/model.md, Inputs.
    """
    height, width = image_hw
    long_after = int(side * max(image_hw) / min(image_hw))
    offset = round((long_after - side) / 2)
    after_h, after_w = (long_after, side) if width < height else (side, long_after)
    top, left = (offset, 0) if width < height else (0, offset)
    if long_after <= _LONGEST_CLIP_SIDES * side:
        return Cut((0, 0, width, height), (after_h, after_w), top, left, side)
    x_step, y_step = width / after_w, height / after_h
    right, bottom = min(width, (left + side) * x_step), min(height, (top + side) * y_step)
    return Cut((left * x_step, top * y_step, right, bottom), (side, side), 0, 0, side)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one frame on its way into the model."""

    source_hw: Size
    image_hw: Size
    """The frame as the detector sees it."""
    padded_hw: Size
    """What it is padded to, right and bottom."""
    clip_side: int

    def __post_init__(self) -> None:
        if min(*self.source_hw, *self.image_hw, *self.padded_hw, self.clip_side) < 1:
            raise ValueError(f"sides must be at least 1 px, got {self}")
        if self.image_hw[0] > self.padded_hw[0] or self.image_hw[1] > self.padded_hw[1]:
            raise ValueError(f"expected a padded size of at least {self.image_hw}, got {self.padded_hw}")

    @property
    def cut(self) -> Cut:
        """Where the CLIP image lies in the detector image."""
        return clip_cut(self.image_hw, self.clip_side)
