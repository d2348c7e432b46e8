"""Small datasets made by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation, image_annotation

FRUIT = Vocabulary(
    name="fruit",
    objects=("apple", "person", "pear"),
    verbs=("eat", "throw"),
    hois=((0, 0), (1, 0), (0, 2), (1, 1)),
    hoi_prompts=("eating an apple", "throwing an apple", "eating a pear", "throwing a person"),
    object_prompts=("an apple", "a person", "a pear", "nothing"),
    verb_prompts=("eating", "throwing"),
)
"""Neither COCO's objects nor the person first."""


def fruit(name: str = "a.png", width: int = 64, height: int = 48) -> ImageAnnotation:
    """Person 1 eats apple 0, throws it and eats pear 2; person 3 is thrown by 1."""
    return image_annotation(
        name,
        [(4.0, 5.0, 14.0, 15.5), (2.0, 0.0, 30.0, 47.0), (20.25, 8.0, 31.0, 20.0), (40.0, 3.0, 63.0, 44.0)],
        [0, 1, 2, 1],
        [(1, 0, 0), (1, 2, 0), (1, 0, 1), (1, 3, 1)],
        width,
        height,
    )


def save_noise(path: Path, width: int = 64, height: int = 48, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def save_json(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def same(a: ImageAnnotation, b: ImageAnnotation) -> bool:
    """Equal in everything, arrays too."""
    return (
        (a.file_name, a.width_px, a.height_px) == (b.file_name, b.width_px, b.height_px)
        and np.array_equal(a.boxes_xyxy, b.boxes_xyxy)
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.interactions, b.interactions)
    )
