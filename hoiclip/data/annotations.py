"""One annotated picture, whatever data set it came from. Plain numpy; reading and writing formats is not done here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAnnotation:
    """Boxes of things and people, and who does what with which of them."""

    file_name: str
    boxes_xyxy: NDArray[np.float32]
    """(N, 4) pixels, the first pixel is 0."""
    labels: NDArray[np.int64]
    """(N,) object index into the vocabulary."""
    interactions: NDArray[np.int64]
    """(M, 3) row of the human, row of the object or -1, verb index into the vocabulary."""
    width_px: int = 0
    """0 where the format does not say."""
    height_px: int = 0
