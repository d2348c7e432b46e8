"""Camera motion from one image to the next: a turn, a zoom and a shift, from corners of the static background.

Small grey images and a few hundred points keep it at a millisecond or two. Tracked boxes are left out: people walk, and
a crowd that fills the image would otherwise count as background. It needs OpenCV and is imported only on request; the
tracker applies the motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F64, U8


def still() -> F64:
    """(2, 3) motion of a static camera: the identity."""
    return np.eye(2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraMotionConfig:
    """Limits of the search for camera motion, and of its acceptance."""

    long_side_px: int = 320
    """Images are scaled down to this first."""
    max_points: int = 150
    """Corners that are followed at most."""
    min_points: int = 12
    """Corners that must agree; with fewer, the camera is taken to be static."""
    min_inlier_fraction: float = 0.5
    """Fraction of the corners that must agree, likewise."""
    max_zoom: float = 1.25
    """Change of scale from image to image beyond which it is a cut or an error."""

    def __post_init__(self) -> None:
        if not (self.long_side_px >= 32 and self.max_points >= self.min_points >= 3):
            raise ValueError(f"expected long_side_px >= 32 and max_points >= min_points >= 3, got {self}")
        if not (0 < self.min_inlier_fraction <= 1 and self.max_zoom > 1):
            raise ValueError(f"expected min_inlier_fraction in (0, 1] and max_zoom > 1, got {self}")


class CameraMotion:
    """Compares each image with the one before. Call it from one thread."""

    def __init__(self, config: CameraMotionConfig | None = None) -> None:
        self.config = config or CameraMotionConfig()
        self._before: U8 | None = None

    def see(self, rgb: U8, boxes_xyxy: NDArray[np.floating]) -> F64:
        """Motion from the previous image to this one.

        Args:
            rgb: (H, W, 3). An image of another size starts anew.
            boxes_xyxy: (N, 4) objects that move by themselves, in pixels of the previous image.

        Returns:
            (2, 3) in pixels of the whole image: p goes to affine[:, :2] @ p + affine[:, 2]; `still()` where no
            motion is certain.
        """
        scale = min(1.0, self.config.long_side_px / max(rgb.shape[:2]))
        size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
        small = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        before, self._before = self._before, np.asarray(small, np.uint8)
        if before is None or before.shape != small.shape:
            return still()
        shrink = np.array(size) / (rgb.shape[1], rgb.shape[0])
        motion = self._between(before, self._before, np.asarray(boxes_xyxy, np.float64) * np.tile(shrink, 2))
        motion[:, 2] = motion[:, 2] / shrink
        motion[0, 1] *= shrink[1] / shrink[0]  # the sides are rounded to whole pixels, each by itself
        motion[1, 0] *= shrink[0] / shrink[1]
        return motion

    def _between(self, before: U8, now: U8, boxes_xyxy: F64) -> F64:
        config = self.config
        corners = cv2.goodFeaturesToTrack(
            before, maxCorners=config.max_points, qualityLevel=0.01, minDistance=5, mask=_uncovered(before, boxes_xyxy)
        )
        if corners is None or len(corners) < config.min_points:
            return still()
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, winSize=(15, 15), maxLevel=3)
        found = found[:, 0] == 1
        if found.sum() < config.min_points:
            return still()
        motion, agreed = cv2.estimateAffinePartial2D(
            corners[found], moved[found], method=cv2.RANSAC, ransacReprojThreshold=1.0, maxIters=200
        )
        if motion is None or agreed.sum() < max(config.min_points, config.min_inlier_fraction * len(corners)):
            return still()
        zoom = np.sqrt(abs(np.linalg.det(motion[:, :2])))
        if not 1 / config.max_zoom <= zoom <= config.max_zoom:
            return still()
        return np.asarray(motion, np.float64)


def _uncovered(image: U8, boxes_xyxy: F64) -> U8:
    """(H, W) 255 outside of the tracked boxes, 0 inside."""
    height, width = image.shape
    mask = np.full((height, width), 255, np.uint8)
    inside = np.clip(np.nan_to_num(boxes_xyxy), -1, (width, height, width, height))
    for left, top, right, bottom in inside:
        mask[max(0, int(top)) : int(np.ceil(bottom)) + 1, max(0, int(left)) : int(np.ceil(right)) + 1] = 0
    return mask
