"""Fits frames of another size into the size a video was begun with, boxes included."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import F32, TrackedPairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """A scale and a shift: pixels of the frame → pixels of the canvas."""

    width_px: int
    height_px: int
    left_px: int
    top_px: int
    scale_x: float
    scale_y: float

    def frame(self, frame: Frame, canvas_width_px: int, canvas_height_px: int) -> Frame:
        """The frame in the middle of a black canvas."""
        smaller = self.width_px < frame.width_px
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        canvas: NDArray[np.uint8] = np.zeros((canvas_height_px, canvas_width_px, 3), np.uint8)
        rows = slice(self.top_px, self.top_px + self.height_px)
        columns = slice(self.left_px, self.left_px + self.width_px)
        canvas[rows, columns] = cv2.resize(frame.rgb, (self.width_px, self.height_px), interpolation=how)
        return Frame(canvas, frame.pts_s, frame.index)

    def pairs(self, pairs: TrackedPairs) -> TrackedPairs:
        """The same pairs where the canvas shows them."""
        return replace(
            pairs,
            human_boxes_xyxy=self._boxes(pairs.human_boxes_xyxy),
            object_boxes_xyxy=self._boxes(pairs.object_boxes_xyxy),
        )

    def _boxes(self, boxes_xyxy: F32) -> F32:
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        shift = np.array([self.left_px, self.top_px] * 2, np.float32)
        return boxes_xyxy * scale + shift


def letterbox(width_px: int, height_px: int, canvas_width_px: int, canvas_height_px: int) -> Letterbox:
    """As big as fits, aspect kept, centred."""
    scale = min(canvas_width_px / width_px, canvas_height_px / height_px)
    inner_width_px = max(1, min(canvas_width_px, round(width_px * scale)))
    inner_height_px = max(1, min(canvas_height_px, round(height_px * scale)))
    return Letterbox(
        width_px=inner_width_px,
        height_px=inner_height_px,
        left_px=(canvas_width_px - inner_width_px) // 2,
        top_px=(canvas_height_px - inner_height_px) // 2,
        scale_x=inner_width_px / width_px,
        scale_y=inner_height_px / height_px,
    )
