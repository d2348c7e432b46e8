"""The demo clip: a short story with exact ground truth for every frame. What happens in it is told in story.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hoiclip.data.drawn.background import Backdrop, BackdropKind
from hoiclip.data.drawn.camera import Camera
from hoiclip.data.drawn.draw import DrawnFrame
from hoiclip.data.drawn.story import SCRIPT_S, story_routines
from hoiclip.data.drawn.timeline import Routine
from hoiclip.data.drawn.video import Chapter, VideoConfig, VideoScript

_PLACES: tuple[BackdropKind, ...] = ("street", "field", "court", "beach")


def draw_clip(width_px: int, height_px: int, fps: float, duration_s: float, seed: int) -> Iterator[DrawnFrame]:
    """The whole story in `duration_s` seconds, frame by frame; equal arguments draw equal clips.

    Yields:
        round(duration_s * fps) frames, at least one, at pts_s = 0, 1/fps, 2/fps ...

    Raises:
        ValueError: fps or duration_s is not positive, or the image is smaller than 16x16.
    """
    return clip_script(width_px, height_px, fps, duration_s, seed).frames()


def clip_script(width_px: int, height_px: int, fps: float, duration_s: float, seed: int) -> VideoScript:
    """The same clip as a script, which has its events too.

    Raises:
        ValueError: as draw_clip.
    """
    config = VideoConfig(width_px=width_px, height_px=height_px, fps=fps, duration_s=duration_s)
    rng = np.random.default_rng(seed)
    backdrop = Backdrop(kind=_PLACES[rng.integers(len(_PLACES))], seed=int(rng.integers(2**31)))
    chapter = Chapter(
        start_s=0.0,
        length_s=duration_s,
        begun_s=0.0,
        backdrop=backdrop,
        camera=_still_camera(width_px, height_px, duration_s),
        routines=tuple(_stretched(one, duration_s / SCRIPT_S) for one in story_routines(rng, width_px, height_px)),
    )
    steps = max(1, round(duration_s * fps))
    return VideoScript(config=config, chapters=(chapter,), pts_s=tuple(index / fps for index in range(steps)))


def _still_camera(width_px: int, height_px: int, duration_s: float) -> Camera:
    size_px, framing = (width_px, height_px), (0.0, 0.0, 1.0)
    return Camera(
        place_px=size_px, picture_px=size_px, start=framing, end=framing, duration_s=duration_s, shake_px=0.0, phase=0.0
    )


def _stretched(routine: Routine, factor: float) -> Routine:
    """The routine in seconds of the clip instead of the script."""
    return Routine(
        at=lambda at_s: routine.at(at_s / factor),
        events=tuple(
            replace(event, start_s=factor * event.start_s, end_s=factor * event.end_s) for event in routine.events
        ),
    )
