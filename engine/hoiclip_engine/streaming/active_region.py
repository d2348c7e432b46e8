"""The part of a frame in which something happens, inferred alone: at the model's input size it shows more detail.

Where people are is known from the pairs that are tracked, and where something new comes from what has changed since the
model last saw a whole frame. Like inference on change it depends on nothing but the frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.core.array_types import F32, F64
from hoiclip_engine.streaming.change_gate import ChangeConfig, SourceNoise, cell_changes, small_grey
from hoiclip_engine.streaming.inference_worker import Inference
from hoiclip_engine.types.frame import DecodedImage, Frame, FrameImage, host_planes, host_rgb
from hoiclip_engine.types.results import Region
from hoiclip_engine.types.tracked_pairs import TrackedPairs


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionConfig:
    """How large a region is."""

    margin: float = 0.08
    """Added on each side of what is in it, as a fraction of its size: people move on, and partners stand beside."""
    smallest: float = 1 / 3
    """Its least side, as a fraction of the frame's: models know people of the sizes that whole images show."""
    largest: float = 0.75
    """A larger one gains nothing, and the whole frame is inferred."""
    roomy: float = 1.2
    """A region stays while it holds everything and its sides are at most so many times what they need to be: detections
    of a region that moves with every frame flicker."""


class RegionSchedule:
    """Region of every inferred frame of a stream. Ask it once for each, in order."""

    def __init__(self, whole_every: int, lag: int = 1, config: RegionConfig | None = None) -> None:
        """
        Args:
            whole_every: inferences of which the first one sees the whole frame.
            lag: inferences that may be in flight; pairs count from the inference so many before.
        """
        self._whole_every, self._lag, self._config = whole_every, lag, config or RegionConfig()
        self._asked = self._tracked = 0
        self._boxes: deque[F64 | None] = deque(maxlen=lag)
        """Around the pairs of the last inferences; None where there are none."""
        self._whole: F32 | None = None
        """Small image of the frame that was last inferred as a whole."""
        self._whole_hw = (0, 0)
        self._last: Region | None = None
        self._change = ChangeConfig()
        self._noise = SourceNoise(self._change.cell_px)

    def region_of(self, frame: Frame) -> Region | None:
        """The region to infer; None: the whole frame."""
        if self._whole_every == 1:
            return None
        seen, size_hw = small_grey(frame, self._change.short_side_px), (frame.height_px, frame.width_px)
        self._noise.learn(seen)
        turn, self._asked = self._asked % self._whole_every, self._asked + 1
        region = None
        if turn and self._whole is not None and size_hw == self._whole_hw:
            region = self._around(self._parts(seen, size_hw), size_hw)
        if region is None:
            self._whole, self._whole_hw = seen, size_hw
        if turn:
            self._last = region
        return region

    def track(self, pairs: TrackedPairs) -> None:
        """Notes the pairs that are tracked after the next inference."""
        if self._whole_every == 1:
            return
        boxes = np.concatenate([pairs.human_boxes_xyxy, pairs.object_boxes_xyxy]).astype(np.float64)
        self._boxes.append(np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)]) if len(boxes) else None)
        self._tracked += 1

    def _parts(self, seen: F32, size_hw: tuple[int, int]) -> list[F64]:
        """Boxes that the region must hold: around the pairs, and around what has changed."""
        behind = self._tracked - (self._asked - self._lag)
        known = self._boxes[-1 - behind] if 0 <= behind < len(self._boxes) else None
        return [box for box in (known, self._changed_box(seen, size_hw)) if box is not None]

    def _changed_box(self, seen: F32, size_hw: tuple[int, int]) -> F64 | None:
        assert self._whole is not None
        least = max(self._change.least_change, self._change.times_noise * self._noise.level)
        changed = cell_changes(seen, self._whole, self._change.cell_px) > least
        if not changed.any():
            return None
        rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        scale = np.array([size_hw[1] / seen.shape[1], size_hw[0] / seen.shape[0]] * 2, np.float64)
        return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64) * scale

    def _around(self, parts: list[F64], size_hw: tuple[int, int]) -> Region | None:
        """The region of the frame's aspect ratio around boxes."""
        if not parts:
            return None
        sides = np.array([size_hw[1], size_hw[0]], np.float64)
        low = np.clip(np.min([box[:2] for box in parts], 0), 0, sides)
        high = np.clip(np.max([box[2:] for box in parts], 0), 0, sides)
        share = max(((high - low) * (1 + 2 * self._config.margin) / sides).max(), self._config.smallest)
        if share > self._config.largest:
            return None
        if self._last is not None and self._still_fits(self._last, low, high, self._config.roomy * share * sides):
            return self._last
        size = np.minimum(2 * np.ceil(share * sides / 2), sides)
        start = 2 * np.floor(np.clip((low + high - size) / 2, 0, sides - size) / 2)  # even, as colours of videos are
        x, y = start.astype(int).tolist()
        width, height = size.astype(int).tolist()
        return x, y, x + width, y + height

    @staticmethod
    def _still_fits(region: Region, low: F64, high: F64, largest: F64) -> bool:
        start, end = np.array(region[:2]), np.array(region[2:])
        return bool((low >= start).all() and (high <= end).all() and (end - start <= largest).all())


def cut_out(image: FrameImage, region: Region) -> FrameImage:
    """The image of a region; planes of a decoded image are not copied."""
    x1, y1, x2, y2 = region
    planes = host_planes(image)
    if planes is None:
        return np.ascontiguousarray(host_rgb(image)[y1:y2, x1:x2])
    rows, columns = slice(y1 // 2, -(-y2 // 2)), slice(x1 // 2, -(-x2 // 2))
    part = planes._replace(
        y_hw=planes.y_hw[y1:y2, x1:x2], u_hw=planes.u_hw[rows, columns], v_hw=planes.v_hw[rows, columns]
    )
    return DecodedImage(part, (y2 - y1, x2 - x1), lambda: np.array(host_rgb(image)[y1:y2, x1:x2]))


def in_the_frame(inference: Inference, region: Region | None) -> Inference:
    """Detections of a region with their boxes in the whole frame."""
    if region is None:
        return inference
    found, shift = inference.detections, np.array([*region[:2], *region[:2]], np.float32)
    return replace(
        inference,
        detections=replace(
            found,
            human_boxes_xyxy=found.human_boxes_xyxy + shift,
            object_boxes_xyxy=found.object_boxes_xyxy + shift,
        ),
    )
