"""Whether a frame, or its scene, may be another one than the last inferred: a cheap comparison before inference.

Frames are compared as small grey images, cell by cell, with the last one that was inferred rather than the last one
that was seen, so that slow changes add up. A change must be larger than the noise of the source, which is learned from
consecutive frames. Nothing but the frames decides, so that a file gives the same decisions every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np

from hoiclip.core.array_types import F32
from hoiclip_engine.streaming.inference_worker import ClipScene
from hoiclip_engine.types.frame import Frame, host_planes
from hoiclip_engine.types.results import InferenceReason


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
        self._noise = SourceNoise(self._config.cell_px)

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
        least = max(config.least_change, config.times_noise * self._noise.level)
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

    def __init__(self, cell_px: int) -> None:
        self._cell_px = cell_px
        self._before: F32 | None = None
        self._level: float | None = None

    @property
    def level(self) -> float:
        return self._level or 0.0

    def learn(self, seen: F32) -> None:
        """From the small image of the next frame."""
        if self._before is not None and self._before.shape == seen.shape:
            typical = float(np.median(cell_changes(seen, self._before, self._cell_px)))
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
