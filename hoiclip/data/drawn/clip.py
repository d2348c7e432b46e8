"""The demo clip: a short story with exact ground truth for every frame. What happens in it is told in story.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hoiclip.data.drawn.background import draw_backdrop
from hoiclip.data.drawn.draw import DrawnFrame, draw_scene
from hoiclip.data.drawn.story import SCRIPT_S, random_story


def draw_clip(width_px: int, height_px: int, fps: float, duration_s: float, seed: int) -> Iterator[DrawnFrame]:
    """The whole story in `duration_s` seconds, frame by frame; equal arguments draw equal clips.

    Yields:
        round(duration_s * fps) frames, at least one, at pts_s = 0, 1/fps, 2/fps ...

    Raises:
        ValueError: fps or duration_s is not positive, or the picture is smaller than 16x16.
    """
    if not (fps > 0 and duration_s > 0):
        raise ValueError(f"a clip needs fps > 0 and duration_s > 0, got {fps} and {duration_s}")
    if width_px < 16 or height_px < 16:
        raise ValueError(f"a clip needs at least 16x16 pixels, got {width_px}x{height_px}")
    return _frames(width_px, height_px, fps, duration_s, seed)


def _frames(width_px: int, height_px: int, fps: float, duration_s: float, seed: int) -> Iterator[DrawnFrame]:
    story = random_story(np.random.default_rng(seed), width_px, height_px)
    backdrop_rgb = draw_backdrop(story.backdrop, width_px, height_px)
    for index in range(max(1, round(duration_s * fps))):
        pts_s = index / fps
        scene = story.scene_at(SCRIPT_S * pts_s / duration_s)
        yield draw_scene(scene, pts_s=pts_s, backdrop_rgb=backdrop_rgb)
