"""Datasets to train and evaluate on: the interface, and image files with annotations as one implementation.

The other implementation is hoiclip.synthetic.dataset. A sample depends on seed, epoch and index only, never on workers
or on earlier samples: a resumed run sees the same images as a run without interruption.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hoiclip.core.errors import DataError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation, hois_of_pairs
from hoiclip.data.augment import AugmentConfig
from hoiclip.data.formats.hoia import read_hoia
from hoiclip.data.image_file import ImageError, read_rgb
from hoiclip.data.images import EvaluationSet, FolderImages
from hoiclip.data.samples import Sample, SampleConfig, make_sample

T = TypeVar("T")
OFFICIAL_AUGMENTATION = AugmentConfig()
MOST_PER_HOI = 64
"""Images beyond this many of each HOI would hardly move the mean of its embeddings."""


class TrainingSamples(Protocol):
    """Endless training samples by number; the same number always gives the same sample."""

    def __getitem__(self, number: int, /) -> Sample: ...


class Dataset(Protocol):
    """Annotated images to train and evaluate on, whatever they come from."""

    unseen_hois: tuple[int, ...]
    """HOI classes that its split hides from training."""
    notice: str
    """A limit of every model trained on it; empty where there is none."""

    def samples(self, config: SampleConfig) -> TrainingSamples:
        """Training samples of a model of this input size; whether they are augmented is the dataset's choice."""
        ...

    def examples(self) -> Iterator[tuple[Image.Image, ImageAnnotation]]:
        """Training images that show every HOI often enough to take its mean embedding, in a fixed order."""
        ...

    def evaluation_set(self) -> EvaluationSet | None:
        """Images aside from training, for evaluation during training; None where there are none."""
        ...


class ImageDataset:
    """Image files of a folder with annotations in HOI-A JSON, read when they are needed."""

    notice = ""

    def __init__(
        self,
        annotations: Path,
        images: Path,
        vocabulary: Vocabulary,
        *,
        unseen_hois: Collection[int] = (),
        percent: float = 100,
        seed: int = 0,
        held_out_percent: float = 0,
        test_annotations: Path | None = None,
        test_images: Path | None = None,
        augment: AugmentConfig = OFFICIAL_AUGMENTATION,
    ) -> None:
        """
        Args:
            percent: of the images, chosen by `seed`.
            held_out_percent: of the images, chosen by `seed` too, that are for evaluation and not for training.
            test_annotations, test_images: the evaluation set; None: the images held out, or no evaluation.
            augment: of training images, with sides for the official input size.

        Raises:
            ValueError: percent is not in [1, 100], held_out_percent not in [0, 50], or there are two evaluation sets.
        """
        if not 0 <= held_out_percent <= 50:
            raise ValueError(f"validation must be from 0 to 50 percent, got {held_out_percent}")
        if held_out_percent and test_annotations is not None:
            raise ValueError("validation and test_annotations are two evaluation sets; leave one out")
        if not 1 <= percent <= 100:
            raise ValueError(f"fraction must be from 1 to 100 percent, got {percent}")
        self.unseen_hois = tuple(sorted(unseen_hois))
        self._annotations, self._images, self._vocabulary = annotations, images, vocabulary
        self._percent, self._held_out_percent, self._seed = percent, held_out_percent, seed
        self._test_annotations, self._test_images = test_annotations, test_images
        self._augment = augment

    def training_annotations(self) -> list[ImageAnnotation]:
        """Annotations that training may use: not held out, without unseen HOIs, and only the chosen fraction.

        Raises:
            DataError: the annotations cannot be read.
        """
        training, _ = self._split()
        seen = drop_unseen(training, self.unseen_hois, self._vocabulary)
        return fraction(seen, self._percent, self._seed)

    def _split(self) -> tuple[list[ImageAnnotation], list[ImageAnnotation]]:
        """Annotations to train on, and those held out."""
        annotations = read_hoia(self._annotations, self._vocabulary)
        if not self._held_out_percent:
            return annotations, []
        # Another seed than that of `fraction`, which would else take the same images first.
        held_out = set(fraction(range(len(annotations)), self._held_out_percent, self._seed + 1))
        rest = [annotation for index, annotation in enumerate(annotations) if index not in held_out]
        return rest, [annotations[index] for index in sorted(held_out)]

    def samples(self, config: SampleConfig) -> ImageSamples:
        """Augmented, each image once per epoch.

        Raises:
            DataError: the annotations cannot be read, or there are none.
        """
        augmented = replace(config, augment=self._augment.for_size(config.short_side_px, config.max_side_px))
        return ImageSamples(self.training_annotations(), self._images, self._vocabulary, augmented, self._seed)

    def examples(self) -> Iterator[tuple[Image.Image, ImageAnnotation]]:
        """Images until every HOI has MOST_PER_HOI of them.

        Raises:
            DataError: annotations or images cannot be read.
        """
        for annotation in enough_of_each(self.training_annotations(), self._vocabulary):
            yield read_image(self._images, annotation), annotation

    def evaluation_set(self) -> EvaluationSet | None:
        """
        Raises:
            DataError: the annotations cannot be read.
            SourceError: an image is missing.
        """
        if self._test_annotations is not None:
            annotations = read_hoia(self._test_annotations, self._vocabulary)
        elif not (annotations := self._split()[1]):
            return None
        images = FolderImages(self._test_images or self._images, annotations)
        return EvaluationSet(annotations=annotations, images=images)


class ImageSamples:
    """Sample n is image n mod N of a shuffle that depends on seed and epoch n div N."""

    def __init__(
        self,
        annotations: Sequence[ImageAnnotation],
        images: Path,
        vocabulary: Vocabulary,
        config: SampleConfig,
        seed: int,
    ) -> None:
        """
        Raises:
            DataError: there is nothing to learn from.
        """
        if not annotations:
            raise DataError(
                "expected annotated images to train on, found none; check the dataset with: hoiclip data check"
            )
        self._annotations, self._images = annotations, images
        self._vocabulary, self._config, self._seed = vocabulary, config, seed

    def __getitem__(self, number: int) -> Sample:
        """Raises DataError where the image is missing or cannot be decoded."""
        cv2.setNumThreads(0)  # workers are the threads
        epoch, row = divmod(number, len(self._annotations))
        index = int(shuffle(len(self._annotations), self._seed, epoch)[row])
        annotation = self._annotations[index]
        rng = np.random.default_rng((self._seed, epoch, index))
        return make_sample(read_image(self._images, annotation), annotation, self._vocabulary, self._config, rng)


@lru_cache(maxsize=2)
def shuffle(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Order of `count` images in an epoch."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def read_image(folder: Path, annotation: ImageAnnotation) -> Image.Image:
    """The annotated image as image_file.py reads it, in the orientation that its boxes were made in.

    Raises:
        DataError: the file is missing, no regular file, or cannot be decoded.
    """
    path = folder / annotation.file_name
    try:
        return read_rgb(path, (annotation.width_px, annotation.height_px))
    except (OSError, ImageError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read image {path} ({why}); check the dataset with: hoiclip data check") from error


def drop_unseen(
    annotations: Sequence[ImageAnnotation], unseen: Collection[int], vocabulary: Vocabulary
) -> list[ImageAnnotation]:
    """Annotations for zero-shot training: a pair with an unseen HOI is dropped with all its verbs.

    Images that lose all their pairs are dropped too: they would teach that nothing happens where something does.
    """
    if not unseen:
        return list(annotations)
    unseen_hois = frozenset(unseen)
    kept = []
    for annotation in annotations:
        dropped = {p for p, hois in hois_of_pairs(annotation, vocabulary).items() if not unseen_hois.isdisjoint(hois)}
        stays = [tuple(pair) not in dropped for pair in annotation.interactions[:, :2].tolist()]
        if any(stays) or not len(annotation.interactions):
            kept.append(replace(annotation, interactions=annotation.interactions[stays]))
    return kept


def fraction(images: Sequence[T], percent: float, seed: int) -> list[T]:
    """A random subset, in the old order. With the same seed a smaller subset lies within every larger one."""
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be in (0, 100], got {percent}")
    count = max(1, round(len(images) * percent / 100)) if images else 0
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return [images[i] for i in sorted(chosen.tolist())]


def enough_of_each(annotations: Sequence[ImageAnnotation], vocabulary: Vocabulary) -> Iterator[ImageAnnotation]:
    """Annotations without those that only show HOIs of MOST_PER_HOI images before; always in the same random order.

    Neighbours in a dataset may be of one video, or of one HOI.
    """
    seen: Counter[int] = Counter()
    for index in np.random.default_rng(0).permutation(len(annotations)):
        annotation = annotations[index]
        hois = {hoi for pair_hois in hois_of_pairs(annotation, vocabulary).values() for hoi in pair_hois}
        if any(seen[hoi] < MOST_PER_HOI for hoi in hois):
            seen.update(hois)
            yield annotation
