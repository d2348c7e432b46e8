"""Random videos with exact ground truth: chapters of a few people and objects before a moving camera.

A chapter is a place with up to four routines (routines.py) that know nothing of each other and so cross and hide each
other; between chapters the video cuts to another place with other people. Everything is a function of time: any frame
rate, also an uneven one, shows the same video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.synthetic.background import BACKDROP_KINDS, Backdrop, draw_backdrop
from hoiclip.synthetic.camera import Camera, random_camera, view_backdrop, view_scene
from hoiclip.synthetic.compose import idle_pairs
from hoiclip.synthetic.draw import SyntheticFrame, draw_scene
from hoiclip.synthetic.figure import random_appearance
from hoiclip.synthetic.repertoire import ACTS, NO_INTERACTION
from hoiclip.synthetic.routines import ALONE, RoutineSetup, hand_on, pass_by, perform
from hoiclip.synthetic.scene import Person, SceneInteraction, SyntheticScene
from hoiclip.synthetic.timeline import Routine, SyntheticEvent

_PLACE_WIDTH, _PLACE_HEIGHT = 1.3, 1.12
"""Size of a place, in images."""
_GROUNDS = (0.97, 0.9, 0.83, 0.77)
"""Ground lines of the routines of a chapter, from the front to the back, in heights of the place."""
_HAND_ON_FRACTION, _PASS_BY_FRACTION, _ANY_ACTION_FRACTION = 0.2, 0.25, 0.6
_DONE = (*ACTS, *((NO_INTERACTION, name) for name in ("bicycle", "chair", "dog", "skateboard", "suitcase", "horse")))
"""Actions of which any is as likely, so that no verb of images is missing from videos."""
_SHORTEST_CHAPTER_S = 6.0
MAX_FPS, MAX_DURATION_S = 1000, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoConfig:
    """Size, length and frame rate of a random video."""

    width_px: int = 256
    height_px: int = 192
    fps: float = 25.0
    duration_s: float = 10.0
    uneven: bool = False
    """Frames come at irregular times, as from a phone; `fps` is their mean rate."""
    chapter_s: float = 10.0
    """Seconds between the cuts of a longer video, about."""

    def __post_init__(self) -> None:
        if not (self.fps > 0 and self.duration_s > 0 and self.chapter_s > 0):
            raise ValueError(f"a video needs fps, duration_s and chapter_s > 0, got {self}")
        if self.fps > MAX_FPS or not self.duration_s <= MAX_DURATION_S:
            raise ValueError(f"a video has at most {MAX_FPS} fps and {MAX_DURATION_S} s, got {self}")
        if self.width_px < 16 or self.height_px < 16:
            raise ValueError(f"a video needs at least 16x16 pixels, got {self.width_px}x{self.height_px}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One place and what happens there, from `start_s` of the video on."""

    start_s: float
    length_s: float
    begun_s: float
    """Seconds that the routines have been running when the chapter begins."""
    backdrop: Backdrop
    camera: Camera
    routines: tuple[Routine, ...]

    @property
    def events(self) -> tuple[SyntheticEvent, ...]:
        """Events in seconds of the video, in order of their start, clipped to the chapter."""
        clipped = []
        for event in (event for routine in self.routines for event in routine.events):
            start_s = max(0.0, event.start_s - self.begun_s)
            end_s = min(self.length_s, event.end_s - self.begun_s)
            if start_s < end_s:
                clipped.append(replace(event, start_s=self.start_s + start_s, end_s=self.start_s + end_s))
        return tuple(sorted(clipped, key=lambda event: (event.start_s, event.human, event.object)))

    def place(self) -> RGB:
        """Draws the empty place: (H, W, 3) RGB, larger than a frame."""
        return draw_backdrop(self.backdrop, *self.camera.place_px)

    def camera_backdrop(self, at_s: float, place_rgb: RGB) -> RGB:
        """The camera's view of the place's backdrop at a second of the chapter."""
        return view_backdrop(place_rgb, self.camera.view(at_s), *self.camera.image_px)

    def camera_scene(self, at_s: float) -> SyntheticScene:
        """The camera's view of the scene, in pixels of the frame."""
        return view_scene(self.scene_at(at_s), self.camera.view(at_s), *self.camera.image_px)

    def scene_at(self, at_s: float) -> SyntheticScene:
        """The whole place, at a second of the chapter."""
        at_s += self.begun_s
        moments = [routine.at(at_s) for routine in self.routines]
        people = tuple(person for moment in moments for person in moment.people)
        objects = tuple(obj for moment in moments for obj in moment.objects)
        doing: dict[tuple[int, int], list[str]] = {}
        for event in (event for routine in self.routines for event in routine.events):
            if event.start_s <= at_s < event.end_s:
                doing.setdefault((event.human, event.object), []).append(event.verb)
        done = [
            SceneInteraction(person_id=human, object_id=obj, verbs=tuple(verbs))
            for (human, obj), verbs in doing.items()
        ]
        width_px, height_px = self.camera.place_px
        return SyntheticScene(
            width_px=width_px,
            height_px=height_px,
            backdrop=self.backdrop,
            people=people,
            objects=objects,
            interactions=(*done, *idle_pairs(people, objects, done)),
            cords=tuple(cord for moment in moments for cord in moment.cords),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoScript:
    """A video: its chapters, and the timestamps of its frames."""

    config: VideoConfig
    chapters: tuple[Chapter, ...]
    pts_s: tuple[float, ...]

    @property
    def events(self) -> tuple[SyntheticEvent, ...]:
        """Events of all chapters, on or off camera; no_interaction is no event."""
        return tuple(event for chapter in self.chapters for event in chapter.events)

    def frames(self) -> Iterator[SyntheticFrame]:
        """Frames, drawn one by one."""
        for chapter, times in self._by_chapter():
            place_rgb = chapter.place()
            for pts_s in times:
                at_s = pts_s - chapter.start_s
                backdrop_rgb = chapter.camera_backdrop(at_s, place_rgb)
                yield draw_scene(chapter.camera_scene(at_s), pts_s=pts_s, backdrop_rgb=backdrop_rgb)

    def _by_chapter(self) -> Iterator[tuple[Chapter, list[float]]]:
        ends = [chapter.start_s for chapter in self.chapters[1:]] + [float("inf")]
        for chapter, end_s in zip(self.chapters, ends, strict=True):
            yield chapter, [pts_s for pts_s in self.pts_s if chapter.start_s <= pts_s < end_s]


def draw_video(config: VideoConfig, seed: int) -> Iterator[SyntheticFrame]:
    """Draws a random video, frame by frame; equal arguments draw equal videos."""
    return random_script(config, seed).frames()


def random_script(config: VideoConfig, seed: int) -> VideoScript:
    """The video of a seed. Its events depend on size and duration, not on the frame rate."""
    ids = count(1)
    chapters = max(1, round(config.duration_s / config.chapter_s))
    length_s = config.duration_s / chapters
    return VideoScript(
        config=config,
        chapters=tuple(_chapter(config, seed, row, length_s, ids) for row in range(chapters)),
        pts_s=tuple(_frame_times(config, seed)),
    )


def _chapter(config: VideoConfig, seed: int, row: int, length_s: float, ids: Iterator[int]) -> Chapter:
    rng = np.random.default_rng((4, seed, row))
    place_px = round(_PLACE_WIDTH * config.width_px), round(_PLACE_HEIGHT * config.height_px)
    # A routine in less than six seconds would be a rush: a short video shows the middle of one.
    routine_s = max(length_s, _SHORTEST_CHAPTER_S)
    return Chapter(
        start_s=row * length_s,
        length_s=length_s,
        begun_s=(routine_s - length_s) / 2,
        backdrop=Backdrop(kind=BACKDROP_KINDS[rng.integers(len(BACKDROP_KINDS))], seed=int(rng.integers(2**31))),
        camera=random_camera(rng, place_px, (config.width_px, config.height_px), length_s),
        routines=tuple(_routines(rng, config, place_px, routine_s, ids)),
    )


def _routines(
    rng: np.random.Generator, config: VideoConfig, place_px: tuple[int, int], length_s: float, ids: Iterator[int]
) -> Iterator[Routine]:
    grounds = list(_GROUNDS[: int(rng.integers(3, len(_GROUNDS) + 1))])
    alone = rng.permutation(len(ALONE)).tolist()
    for row, fraction in enumerate(grounds):
        person = _person(rng, next(ids), fraction * place_px[1], config)
        setup = RoutineSetup(
            rng=rng,
            person=person,
            next_id=lambda: next(ids),
            width_px=place_px[0],
            length_s=length_s,
            way=1 if rng.random() < 0.5 else -1,
            entry=float(rng.uniform(-0.1, 0.2)),
        )
        if row == 0 and rng.random() < _PASS_BY_FRACTION:
            yield pass_by(setup)
        elif rng.random() < _ANY_ACTION_FRACTION:
            yield perform(setup, *_DONE[rng.integers(len(_DONE))])
        elif rng.random() < _HAND_ON_FRACTION:
            yield hand_on(setup, _person(rng, next(ids), fraction * place_px[1], config))
        else:
            yield ALONE[alone[row]](setup)


def _person(rng: np.random.Generator, id: int, ground_px: float, config: VideoConfig) -> Person:
    size = min(config.height_px, 0.75 * config.width_px)
    nearness = ground_px / (_PLACE_HEIGHT * config.height_px)
    height_px = size * float(rng.uniform(0.52, 0.6)) * nearness
    return Person(
        id=id, appearance=random_appearance(rng), x_px=0.0, ground_px=ground_px, height_px=height_px, depth=ground_px
    )


def _frame_times(config: VideoConfig, seed: int) -> Sequence[float]:
    """Timestamps in order, from 0 on: even, or up to 40 % of a step off with a gap now and then."""
    steps = max(1, round(config.duration_s * config.fps))
    times = np.arange(steps) / config.fps
    if config.uneven:
        rng = np.random.default_rng((5, seed))
        times[1:] += rng.uniform(-0.4, 0.4, size=steps - 1) / config.fps
        kept = rng.random(steps) >= 0.05
        kept[0] = True
        times = times[kept]
    return [float(time) for time in times]
