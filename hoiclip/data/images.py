"""Images of a dataset by number, from files or made on request, and evaluation sets of them with their annotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.core.errors import SourceError
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.image_file import ImageError, ImageFile


class Images(Protocol):
    """Images by number."""

    def __len__(self) -> int: ...

    def hw(self, index: int) -> tuple[int, int]:
        """Height and width, without decoding the image if possible."""
        ...

    def rgb(self, index: int) -> RGB: ...


class FolderImages:
    """Files of a folder, in the order of annotations, each in the orientation that its boxes were made in."""

    def __init__(self, folder: Path, annotations: Sequence[ImageAnnotation]) -> None:
        """Checks that every file exists.

        Raises:
            SourceError: one does not, or is no regular file; the message names the first.
        """
        self._paths = [folder / annotation.file_name for annotation in annotations]
        self._annotated_wh = [(annotation.width_px, annotation.height_px) for annotation in annotations]
        missing = [path for path in self._paths if not path.is_file()]
        irregular = next((path for path in missing if path.exists()), None)
        if irregular is not None:
            raise SourceError(
                f"expected images in {folder}, found {irregular.name} that is no regular file; replace it"
            )
        if missing:
            raise SourceError(
                f"{len(missing)} of {len(self._paths)} annotated images are not in {folder}, "
                f"first {missing[0].name}; name the folder that holds them: --images DIR"
            )

    def __len__(self) -> int:
        return len(self._paths)

    def hw(self, index: int) -> tuple[int, int]:
        with self._open(index) as image:
            width, height = image.size_wh(self._annotated_wh[index])
            return height, width

    def rgb(self, index: int) -> RGB:
        try:
            with self._open(index) as image:
                return np.array(image.rgb(self._annotated_wh[index]))
        except ImageError as error:
            raise self._damaged(index, error) from error

    def _open(self, index: int) -> ImageFile:
        try:
            return ImageFile(self._paths[index])
        except (OSError, ImageError) as error:
            raise self._damaged(index, error) from error

    def _damaged(self, index: int, error: Exception) -> SourceError:
        why = error.strerror if isinstance(error, OSError) else error
        return SourceError(f"expected an image, cannot read {self._paths[index]} ({why}); replace or leave it out")


@dataclass(frozen=True, slots=True)
class MemoryImages:
    """Images in memory, or made on request, all of one size."""

    size_hw: tuple[int, int]
    draw: Callable[[int], RGB]
    count: int

    def __len__(self) -> int:
        return self.count

    def hw(self, index: int) -> tuple[int, int]:
        return self.size_hw

    def rgb(self, index: int) -> RGB:
        return self.draw(index)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """Annotated images that a model is evaluated on."""

    annotations: Sequence[ImageAnnotation]
    images: Images
    """As many as there are annotations, or more."""
