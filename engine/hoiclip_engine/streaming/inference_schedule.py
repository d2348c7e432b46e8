"""Which frames of a stream are inferred, which part of them, and which of them CLIP sees: cheap comparisons decide.

Frames are compared as small grey images, cell by cell, with the last one that was inferred rather than the last one
that was seen, so that slow changes add up. A change must be larger than the noise of the source, which is learned from
consecutive frames. Nothing but the frames and what was found in them decides, so that a file gives the same decisions
every time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import cv2
import numpy as np

from hoiclip.core.array_types import F32, F64
from hoiclip_engine.streaming.inference_worker import ClipScene, Inference
from hoiclip_engine.types.frame import DecodedImage, Frame, FrameImage, host_planes, host_rgb
from hoiclip_engine.types.results import InferenceReason, Region
from hoiclip_engine.types.tracked_pairs import TrackedPairs


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeConfig:
    """What counts as a change, and how long inference goes on after one."""

    short_side_px: int = 144
    """Of the small grey image. An object of a few of its pixels still changes a cell."""
    cell_px: int = 4
    """Side of the squares of the small image whose mean change counts."""
    least_change: float = 5.0
    """Grey levels of 255 that a cell must change by, whatever the noise: encoders alter still images by less."""
    least_share: float = 0.0
    """Share of the cells that must change by as much; 0: any one."""
    times_noise: float = 3.0
    """The change of a cell relative to the noise of the source."""
    settle_s: float = 0.2
    """Inference goes on for so long after the last change, until averages of scores have settled."""
    longest_s: float = 3.0
    """From inference to inference, at most."""

    def __post_init__(self) -> None:
        if min(self.short_side_px, self.cell_px) < 1 or not self.longest_s > 0 or self.settle_s < 0:
            raise ValueError(f"sides and longest_s must be positive, settle_s at least 0, got {self}")
        if not 0 <= self.least_share <= 1:
            raise ValueError(f"least_share must be from 0 to 1, got {self.least_share}")


class Gate(Protocol):
    """Decides which frames are inferred. Asked once about every frame, in order."""

    def why_infer(self, frame: Frame) -> InferenceReason | None:
        """The reason to infer a frame, which the caller then does; None where it shows what the last inferred did."""


class ChangeGate:
    """Decides frame by frame whether to infer it."""

    def __init__(self, config: ChangeConfig | None = None) -> None:
        self._config = config or ChangeConfig()
        self._inferred: F32 | None = None
        """Small image of the last frame that was to be inferred."""
        self._inferred_s = self._changed_s = -np.inf
        self._size_px = (0, 0)
        self._noise = SourceNoise(self._config)

    def why_infer(self, frame: Frame) -> InferenceReason | None:
        """The reason to infer a frame, which the caller then does; None where it shows what the last inferred did."""
        seen = small_grey(frame, self._config.short_side_px)
        size_px = (frame.width_px, frame.height_px)
        reason = self._reason(seen, frame.pts_s, is_resized=size_px != self._size_px)
        self._noise.learn(seen)
        self._size_px = size_px
        if reason is not None:
            self._inferred, self._inferred_s = seen, frame.pts_s
        return reason

    def _reason(self, seen: F32, pts_s: float, *, is_resized: bool) -> InferenceReason | None:
        config = self._config
        if self._inferred is None:
            return "first"
        least = self._noise.least_change
        if (
            is_resized
            or np.quantile(cell_changes(seen, self._inferred, config.cell_px), 1 - config.least_share) > least
        ):
            self._changed_s = pts_s
            return "changed"
        if pts_s - self._changed_s <= config.settle_s:
            return "settling"
        return "interval" if pts_s - self._inferred_s >= config.longest_s else None


def small_grey(frame: Frame, short_side_px: int) -> F32:
    """A frame as a grey image with a short side of at most so many pixels, in levels from 0 to 255."""
    scale = short_side_px / min(frame.width_px, frame.height_px)
    size = max(1, round(frame.width_px * scale)), max(1, round(frame.height_px * scale))
    planes = host_planes(frame.image)
    pixels = frame.rgb if planes is None else planes.y_hw
    if scale < 1:
        # Not all pixels count, at a tenth of the time: the mean of a cell is over enough of them.
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    if planes is None:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float32)
    grey = pixels.astype(np.float32)
    return grey if planes.full_range else np.clip((grey - _BLACK) * _LEVELS_OF_A_STEP, 0, 255)


def cell_changes(a: F32, b: F32, cell_px: int) -> F32:
    """Mean absolute difference of the square around every pixel."""
    return np.asarray(cv2.blur(cv2.absdiff(a, b), (cell_px, cell_px)), np.float32)


class SourceNoise:
    """Grey levels that a typical cell changes by from frame to frame.

    Most of an image shows no motion, so that its typical cell shows noise. It rises slowly: a lasting motion of the
    whole image is none.
    """

    def __init__(self, config: ChangeConfig) -> None:
        self._config = config
        self._before: F32 | None = None
        self._level: float | None = None

    @property
    def least_change(self) -> float:
        """Grey levels by which a cell must change to show more than noise."""
        return max(self._config.least_change, self._config.times_noise * (self._level or 0.0))

    def learn(self, seen: F32) -> None:
        """From the small image of the next frame."""
        if self._before is not None and self._before.shape == seen.shape:
            typical = float(np.median(cell_changes(seen, self._before, self._config.cell_px)))
            known = typical if self._level is None else self._level
            self._level = known + (typical - known) * (_RISE if typical > known else _FALL)
        self._before = seen


_BLACK, _LEVELS_OF_A_STEP = 16, 255 / 219
"""Of brightness in video, which keeps to 16..235."""
_RISE, _FALL = 0.02, 0.2
"""Fractions of the difference that the noise moves by with a frame."""


SCENE_CHANGE = ChangeConfig(
    short_side_px=36, cell_px=4, least_change=12.0, least_share=0.3, settle_s=0.0, longest_s=1.0
)
"""CLIP sees the whole image, so that a person who moves makes no other scene; a cut, a pan and a switched light do."""


class SceneSchedule:
    """Scenes of a stream, each of which CLIP sees once. Call it for every inferred frame, in order."""

    def __init__(self, every: int | Literal["auto"]) -> None:
        """Args: every: inferences that share one, or "auto": where the scene changes."""
        self._every = every
        self._gate = ChangeGate(SCENE_CHANGE) if every == "auto" else None
        self._inferences = 0
        self._scene: ClipScene | None = None

    def scene_of(self, frame: Frame) -> ClipScene | None:
        """None: every frame is a scene of its own."""
        if self._every == 1:
            return None
        is_new = self._inferences % self._every == 0 if self._every != "auto" else self._is_changed(frame)
        self._inferences += 1
        if is_new:
            self._scene = ClipScene(frame.image)
        return self._scene

    def _is_changed(self, frame: Frame) -> bool:
        return self._gate is not None and self._gate.why_infer(frame) is not None


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
    """Region of every inferred frame of a stream, in which something happens: at the model's input size it shows more
    detail than the whole frame. Ask it once for each, in order.

    Where people are is known from the pairs that are tracked, and where something new comes from what has changed since
    the model last saw a whole frame.
    """

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
        self._noise = SourceNoise(self._change)

    def region_of(self, frame: Frame) -> Region | None:
        """The region to infer; None: the whole frame."""
        if self._whole_every == 1:
            return None
        seen, size_hw = small_grey(frame, self._change.short_side_px), (frame.height_px, frame.width_px)
        self._noise.learn(seen)
        turn, self._asked = self._asked % self._whole_every, self._asked + 1
        region = None
        if size_hw != self._whole_hw:
            self._last = None
        elif turn:
            region = self._last = self._around(self._parts(seen, size_hw), size_hw)
        if region is None:
            self._whole, self._whole_hw = seen, size_hw
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
        changed = cell_changes(seen, self._whole, self._change.cell_px) > self._noise.least_change
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
