"""How the camera moved from one picture to the next: a turn, a zoom and a shift, from corners of what stands still.

Small grey pictures and a few hundred points keep it at a millisecond or two. What the tracks cover is left out: people
walk, and a crowd that fills the picture would otherwise be the world. It needs OpenCV and is imported only where asked
for; what is done with the motion is the tracker's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hoiclip_engine.pairs import F64

U8 = NDArray[np.uint8]


def still() -> F64:
    """(2, 3) the motion of a camera that does not move."""
    return np.eye(2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraMotionConfig:
    """What is looked for, and when it is believed."""

    long_side_px: int = 320
    """Pictures are made this small first."""
    most_points: int = 150
    """Corners that are followed."""
    least_points: int = 12
    """Corners that must agree; with fewer, the camera is taken to stand still."""
    least_share: float = 0.5
    """Share of the corners that must agree, likewise."""
    most_zoom: float = 1.25
    """Change of scale from look to look beyond which it is a cut or a mistake."""

    def __post_init__(self) -> None:
        if not (self.long_side_px >= 32 and self.most_points >= self.least_points >= 3):
            raise ValueError(f"expected long_side_px >= 32 and most_points >= least_points >= 3, got {self}")
        if not (0 < self.least_share <= 1 and self.most_zoom > 1):
            raise ValueError(f"expected least_share in (0, 1] and most_zoom > 1, got {self}")


class CameraMotion:
    """Compares each picture with the one before. Call it from one thread."""

    def __init__(self, config: CameraMotionConfig | None = None) -> None:
        self.config = config or CameraMotionConfig()
        self._before: U8 | None = None

    def see(self, rgb: U8, boxes_xyxy: NDArray[np.floating]) -> F64:
        """Where the points of the picture before are in this one.

        Args:
            rgb: (H, W, 3). A picture of another size starts anew.
            boxes_xyxy: (N, 4) what moves by itself, in pixels of the picture before.

        Returns:
            (2, 3) in pixels of the whole picture: p goes to affine[:, :2] @ p + affine[:, 2]; `still()` where nothing
            certain is found.
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
            before, maxCorners=config.most_points, qualityLevel=0.01, minDistance=5, mask=_uncovered(before, boxes_xyxy)
        )
        if corners is None or len(corners) < config.least_points:
            return still()
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, winSize=(15, 15), maxLevel=3)
        found = found[:, 0] == 1
        if found.sum() < config.least_points:
            return still()
        motion, agreed = cv2.estimateAffinePartial2D(
            corners[found], moved[found], method=cv2.RANSAC, ransacReprojThreshold=1.0, maxIters=200
        )
        if motion is None or agreed.sum() < max(config.least_points, config.least_share * len(corners)):
            return still()
        zoom = np.sqrt(abs(np.linalg.det(motion[:, :2])))
        if not 1 / config.most_zoom <= zoom <= config.most_zoom:
            return still()
        return np.asarray(motion, np.float64)


def _uncovered(picture: U8, boxes_xyxy: F64) -> U8:
    """(H, W) 255 where nothing that is tracked is."""
    height, width = picture.shape
    mask = np.full((height, width), 255, np.uint8)
    inside = np.clip(np.nan_to_num(boxes_xyxy), -1, (width, height, width, height))
    for left, top, right, bottom in inside:
        mask[max(0, int(top)) : int(np.ceil(bottom)) + 1, max(0, int(left)) : int(np.ceil(right)) + 1] = 0
    return mask
