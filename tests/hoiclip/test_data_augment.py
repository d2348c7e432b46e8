"""Augmentations move boxes with what is in them, follow the official rules, and are decided by the generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hoiclip.data.annotations import ImageAnnotation, image_annotation
from hoiclip.data.augment import AugmentConfig, augment, crop, flip, jitter, resize
from tests.hoiclip.small_datasets import same

SMALL = AugmentConfig().for_size(100, 160)
RED, GREEN, BLUE = range(3)
BOXES = {RED: (20.0, 30.0, 70.0, 90.0), GREEN: (100.0, 10.0, 150.0, 50.0), BLUE: (90.0, 70.0, 130.0, 110.0)}


def scene() -> tuple[Image.Image, ImageAnnotation]:
    """Every box is filled with its own colour, and labelled by it; red does something to green and to blue."""
    pixels = np.full((120, 180, 3), 60, np.uint8)
    for colour, (x1, y1, x2, y2) in BOXES.items():
        pixels[int(y1) : int(y2), int(x1) : int(x2)] = np.eye(3, dtype=np.uint8)[colour] * 255
    annotation = image_annotation("a.png", list(BOXES.values()), list(BOXES), [(0, 1, 0), (0, 2, 0)], 180, 120)
    return Image.fromarray(pixels), annotation


def extent_xyxy(image: Image.Image, colour: int) -> list[int]:
    """Of all pixels that are mostly of this colour."""
    pixels = np.asarray(image).astype(int)
    coloured = 2 * pixels[..., colour] - pixels.sum(axis=2) > 60
    rows, columns = np.flatnonzero(coloured.any(axis=1)), np.flatnonzero(coloured.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else []


def test_boxes_follow_their_colours() -> None:
    seen = 0
    for seed in range(20):
        image, augmented = augment(*scene(), replace(SMALL, jitter=0.2), np.random.default_rng(seed))
        assert (augmented.width_px, augmented.height_px) == image.size
        boxes = dict(zip(augmented.labels.tolist(), augmented.boxes_xyxy.tolist(), strict=True))
        for colour in BOXES:
            extent = extent_xyxy(image, colour)
            assert bool(extent) == (colour in boxes), seed
            if extent:
                assert np.abs(np.subtract(extent, boxes[colour])).max() < 1.5  # half a pixel, and blending
                seen += 1
    assert seen > 30


def test_interactions_of_vanished_boxes_are_dropped() -> None:
    image, original = scene()
    window, without_green = crop(image, original, 10, 60, 125, 60)
    assert window.size == (125, 60)
    assert without_green.labels.tolist() == [RED, BLUE]
    assert without_green.interactions.tolist() == [[0, 1, 0]]  # to blue, at its new row
    assert without_green.boxes_xyxy.tolist() == [[10, 0, 60, 30], [80, 10, 120, 50]]
    _, without_red = crop(image, original, 80, 0, 100, 120)
    assert without_red.labels.tolist() == [GREEN, BLUE]
    assert without_red.interactions.shape == (0, 3)


def test_flip_twice_changes_nothing() -> None:
    image, original = scene()
    flipped_image, flipped = flip(image, original)
    assert flipped.boxes_xyxy[0].tolist() == [110, 30, 160, 90]
    again, annotation = flip(flipped_image, flipped)
    assert np.array_equal(again, image)
    assert same(annotation, original)


def test_jitter_stays_within_its_strength() -> None:
    image = Image.new("RGB", (8, 8), (100, 100, 100))
    greys = {jitter(image, 0.4, np.random.default_rng(seed)).getpixel((0, 0))[0] for seed in range(30)}  # type: ignore[index]
    assert len(greys) > 10
    assert min(greys) >= 60
    assert max(greys) <= 140
    assert np.array_equal(jitter(image, 0.0, np.random.default_rng(0)), image)


@pytest.mark.thorough
def test_augmented_sizes_are_the_official_ones() -> None:
    image = Image.new("RGB", (640, 480))
    original = image_annotation("a.png", [(0, 0, 640, 480)], [0], [], 640, 480)
    shorts = set()
    for seed in range(60):
        resized, annotation = augment(image, original, AugmentConfig(jitter=0, crop=0), np.random.default_rng(seed))
        assert annotation.boxes_xyxy.tolist() == [[0, 0, *resized.size]]
        shorts.add(min(resized.size))
    assert shorts == set(range(480, 801, 32))
    assert resize(image, original, 800, 1333)[0].size == (1066, 800)  # truncated
    assert resize(Image.new("RGB", (1280, 720)), original, 800, 1333)[0].size == (1333, 750)


def test_augmentation_scales_with_the_model_size() -> None:
    assert AugmentConfig().for_size(800, 1333) == AugmentConfig()
    assert AugmentConfig().for_size(200, 333).crop_px == (96, 150)


def test_augmentation_depends_on_its_generator_alone() -> None:
    variants = [augment(*scene(), SMALL, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(variants[0][0], variants[1][0])
    assert same(variants[0][1], variants[1][1])
    assert not np.array_equal(variants[0][0], variants[2][0])


@settings(deadline=None, derandomize=True, max_examples=25)
@given(width=st.integers(1, 400), height=st.integers(1, 400), seed=st.integers(0, 1000))
def test_augmentation_takes_images_of_any_size(width: int, height: int, seed: int) -> None:
    original = image_annotation("a.png", [(0, 0, width, height)], [0], [(0, -1, 0)], width, height)
    image, annotation = augment(Image.new("RGB", (width, height)), original, SMALL, np.random.default_rng(seed))
    assert min(image.size) >= 1
    assert len(annotation.interactions) == 1  # the box is the whole image, and no crop can leave it
    assert annotation.boxes_xyxy[0].tolist() == pytest.approx([0, 0, *image.size], abs=1e-2)


def test_augment_config_refuses_values_out_of_range() -> None:
    for wrong in ({"flip": 1.5}, {"jitter": 1.0}, {"short_sides_px": ()}, {"crop_px": (5, 4)}, {"max_side_px": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong)) if "px" not in str(wrong) else "side"):
            AugmentConfig(**wrong)  # type: ignore[arg-type]
