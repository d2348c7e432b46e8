"""Small annotated images and predictions for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation import PredictedTriplets

Box = tuple[float, float, float, float]
PERSON, CUP, DOG = 0, 1, 2
HOLD, PET = 0, 1
HOLD_CUP, HOLD_DOG, PET_DOG = 0, 1, 2


def tiny_vocabulary() -> Vocabulary:
    """A vocabulary of three objects, two verbs and three HOIs; every person acts on an object."""
    return Vocabulary(
        name="tiny",
        objects=("person", "cup", "dog"),
        verbs=("hold", "pet"),
        hois=((HOLD, CUP), (HOLD, DOG), (PET, DOG)),
        hoi_prompts=("holding a cup", "holding a dog", "petting a dog"),
        object_prompts=("a person", "a cup", "a dog", "nothing"),
        verb_prompts=("holding", "petting"),
    )


def annotation(
    boxes: Sequence[Box], labels: Sequence[int], interactions: Sequence[tuple[int, int, int]], name: str = "1.jpg"
) -> ImageAnnotation:
    return ImageAnnotation(
        file_name=name,
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        interactions=np.array(interactions, np.int64).reshape(-1, 3),
    )


def predicted(rows: Sequence[tuple[Box, Box, int, int, float]]) -> PredictedTriplets:
    """(human box, object box, object label, category, score); every row is a query of its own."""
    return PredictedTriplets(
        human_boxes_xyxy=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        object_boxes_xyxy=np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        label=np.array([row[2] for row in rows], np.int64),
        category=np.array([row[3] for row in rows], np.int64),
        score=np.array([row[4] for row in rows], np.float64),
        query=np.arange(len(rows)),
    )


def random_annotations(rng: np.random.Generator, images: int, verbs: int, objects: int) -> list[ImageAnnotation]:
    """People at even rows, objects at odd ones, far enough apart that none is confused with another."""
    made = []
    for image in range(images):
        count = int(rng.integers(0, 4))
        corners = np.arange(2 * count)[:, None] * np.array([60.0, 0.0]) + rng.uniform(0, 8, (2 * count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(20, 40, (2 * count, 2))], axis=1)
        labels = np.where(np.arange(2 * count) % 2 == 0, 0, rng.integers(0, objects, 2 * count))
        rows = [(2 * i, int(rng.choice([2 * i + 1, -1], p=[0.8, 0.2])), int(rng.integers(verbs))) for i in range(count)]
        rows += rows[:1]  # annotated twice
        made.append(annotation([tuple(box) for box in boxes.tolist()], labels.tolist(), rows, f"{image}.jpg"))
    return made


def noisy_predictions(
    rng: np.random.Generator, annotations: Sequence[ImageAnnotation], categories: int, objects: int
) -> list[PredictedTriplets]:
    """Each ground-truth pair several times with shaken boxes, right and wrong categories, all scores different."""
    made = []
    for image_annotation in annotations:
        rows = []
        for human, obj, verb in np.repeat(image_annotation.interactions, 4, axis=0).tolist():
            boxes = image_annotation.boxes_xyxy[[human, obj]] + rng.normal(0, 3, (2, 4))
            label = (
                int(rng.integers(-1, objects)) if rng.random() < 0.2 or obj < 0 else int(image_annotation.labels[obj])
            )
            category = int(rng.integers(categories)) if rng.random() < 0.4 else verb
            rows.append((tuple(boxes[0]), tuple(boxes[1]), label, category, float(rng.random())))
        made.append(predicted(rows))
    return made
