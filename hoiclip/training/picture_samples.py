"""Annotated pictures as endless training samples: shuffled anew each epoch, by the running number alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.dataset import Sample, SampleConfig, make_sample, read_image
from hoiclip.errors import DataError
from hoiclip.vocabulary import Vocabulary


class PictureSamples:
    """Sample n is picture n mod N of a shuffle that depends on seed and epoch n div N."""

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
                "expected annotated pictures to train on, found none; look at the set with: hoiclip data check"
            )
        self._annotations, self._images = annotations, images
        self._vocabulary, self._config, self._seed = vocabulary, config, seed

    def __getitem__(self, number: int) -> Sample:
        """Raises DataError where the picture is missing or cannot be decoded."""
        cv2.setNumThreads(0)  # workers are the threads
        epoch, place = divmod(number, len(self._annotations))
        index = int(_shuffle(len(self._annotations), self._seed, epoch)[place])
        one = self._annotations[index]
        rng = np.random.default_rng((self._seed, epoch, index))
        return make_sample(read_image(self._images, one), one, self._vocabulary, self._config, rng)


@lru_cache(maxsize=2)
def _shuffle(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)
