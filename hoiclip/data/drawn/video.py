"""Random videos with exact ground truth: chapters of a few people and things before a moving camera.

A chapter is a place with up to four routines (routines.py) that know nothing of each other and so cross and hide each
other; between chapters the film cuts to another place with other people. Everything is a function of time: any frame
rate, also an uneven one, shows the same film.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from hoiclip.data.drawn.background import BACKDROP_KINDS, Backdrop, draw_backdrop
from hoiclip.data.drawn.camera import Camera, random_camera, seen, seen_backdrop
from hoiclip.data.drawn.compose import idle_pairs
from hoiclip.data.drawn.draw import DrawnFrame, draw_scene
from hoiclip.data.drawn.figure import random_look
from hoiclip.data.drawn.repertoire import ACTS, NO_INTERACTION
from hoiclip.data.drawn.routines import ALONE, Part, hand_on, pass_by, perform
from hoiclip.data.drawn.scene import Interaction, Person, Scene
from hoiclip.data.drawn.shapes import Image
from hoiclip.data.drawn.timeline import DrawnEvent, Routine

_PLACE_WIDTH, _PLACE_HEIGHT = 1.3, 1.12
"""Size of a place, in pictures."""
_GROUNDS = (0.97, 0.9, 0.83, 0.77)
"""Where the routines of a chapter take place, from the front to the back, in heights of the place."""
_HAND_ON_SHARE, _PASS_BY_SHARE, _ANY_ACTION_SHARE = 0.2, 0.25, 0.6
_DONE = (*ACTS, *((NO_INTERACTION, name) for name in ("bicycle", "chair", "dog", "skateboard", "suitcase", "horse")))
"""Actions of which any is as likely, so that no verb of images is missing from videos."""
_SHORTEST_CHAPTER_S = 6.0
MAX_FPS, MAX_DURATION_S = 1000, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoConfig:
    width_px: int = 256
    height_px: int = 192
    fps: float = 25.0
    duration_s: float = 10.0
    uneven: bool = False
    """Frames come at irregular times, as from a phone; `fps` is their mean rate."""
    chapter_s: float = 10.0
    """A longer film has cuts about this far apart."""

    def __post_init__(self) -> None:
        if not (self.fps > 0 and self.duration_s > 0 and self.chapter_s > 0):
            raise ValueError(f"a video needs fps, duration_s and chapter_s > 0, got {self}")
        if self.fps > MAX_FPS or not self.duration_s <= MAX_DURATION_S:
            raise ValueError(f"a video has at most {MAX_FPS} fps and {MAX_DURATION_S} s, got {self}")
        if self.width_px < 16 or self.height_px < 16:
            raise ValueError(f"a video needs at least 16x16 pixels, got {self.width_px}x{self.height_px}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One place and what happens there, from `start_s` of the film on."""

    start_s: float
    length_s: float
    begun_s: float
    """How long the routines have been going on when the chapter begins."""
    backdrop: Backdrop
    camera: Camera
    routines: tuple[Routine, ...]

    @property
    def events(self) -> tuple[DrawnEvent, ...]:
        """In seconds of the film, in order of their start, cut at the chapter's ends."""
        told = []
        for event in (event for routine in self.routines for event in routine.events):
            start_s = max(0.0, event.start_s - self.begun_s)
            end_s = min(self.length_s, event.end_s - self.begun_s)
            if start_s < end_s:
                told.append(replace(event, start_s=self.start_s + start_s, end_s=self.start_s + end_s))
        return tuple(sorted(told, key=lambda event: (event.start_s, event.human, event.object)))

    def place(self) -> Image:
        """(H, W, 3) RGB, larger than a frame and empty."""
        return draw_backdrop(self.backdrop, *self.camera.place_px)

    def seen_place(self, at_s: float, place_rgb: Image) -> Image:
        """The part of the place that the camera sees at a second of the chapter."""
        return seen_backdrop(place_rgb, self.camera.view(at_s), *self.camera.picture_px)

    def seen_scene(self, at_s: float) -> Scene:
        """What the camera sees, in pixels of the frame."""
        return seen(self.scene_at(at_s), self.camera.view(at_s), *self.camera.picture_px)

    def scene_at(self, at_s: float) -> Scene:
        """The whole place, at a second of the chapter."""
        at_s += self.begun_s
        moments = [routine.at(at_s) for routine in self.routines]
        people = tuple(person for moment in moments for person in moment.people)
        things = tuple(thing for moment in moments for thing in moment.things)
        doing: dict[tuple[int, int], list[str]] = {}
        for event in (event for routine in self.routines for event in routine.events):
            if event.start_s <= at_s < event.end_s:
                doing.setdefault((event.human, event.object), []).append(event.verb)
        done = [Interaction(person=who, thing=what, verbs=tuple(verbs)) for (who, what), verbs in doing.items()]
        width_px, height_px = self.camera.place_px
        return Scene(
            width_px=width_px,
            height_px=height_px,
            backdrop=self.backdrop,
            people=people,
            things=things,
            interactions=(*done, *idle_pairs(people, things, done)),
            cords=tuple(cord for moment in moments for cord in moment.cords),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoScript:
    """A film: what happens, and when it is looked at."""

    config: VideoConfig
    chapters: tuple[Chapter, ...]
    pts_s: tuple[float, ...]

    @property
    def events(self) -> tuple[DrawnEvent, ...]:
        """Everything that is done, on or off camera; no_interaction is no event."""
        return tuple(event for chapter in self.chapters for event in chapter.events)

    def frames(self) -> Iterator[DrawnFrame]:
        """Drawn one by one."""
        for chapter, times in self._by_chapter():
            place_rgb = chapter.place()
            for pts_s in times:
                at_s = pts_s - chapter.start_s
                backdrop_rgb = chapter.seen_place(at_s, place_rgb)
                yield draw_scene(chapter.seen_scene(at_s), pts_s=pts_s, backdrop_rgb=backdrop_rgb)

    def _by_chapter(self) -> Iterator[tuple[Chapter, list[float]]]:
        ends = [chapter.start_s for chapter in self.chapters[1:]] + [float("inf")]
        for chapter, end_s in zip(self.chapters, ends, strict=True):
            yield chapter, [pts_s for pts_s in self.pts_s if chapter.start_s <= pts_s < end_s]


def draw_video(config: VideoConfig, seed: int) -> Iterator[DrawnFrame]:
    """A random film, frame by frame; equal arguments draw equal films."""
    return random_script(config, seed).frames()


def random_script(config: VideoConfig, seed: int) -> VideoScript:
    """The film of a seed. What happens depends on size and duration, not on the frame rate."""
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
    # A routine in less than six seconds would be a rush: a short film shows the middle of one.
    told_s = max(length_s, _SHORTEST_CHAPTER_S)
    return Chapter(
        start_s=row * length_s,
        length_s=length_s,
        begun_s=(told_s - length_s) / 2,
        backdrop=Backdrop(kind=BACKDROP_KINDS[rng.integers(len(BACKDROP_KINDS))], seed=int(rng.integers(2**31))),
        camera=random_camera(rng, place_px, (config.width_px, config.height_px), length_s),
        routines=tuple(_routines(rng, config, place_px, told_s, ids)),
    )


def _routines(
    rng: np.random.Generator, config: VideoConfig, place_px: tuple[int, int], length_s: float, ids: Iterator[int]
) -> Iterator[Routine]:
    grounds = list(_GROUNDS[: int(rng.integers(3, len(_GROUNDS) + 1))])
    alone = rng.permutation(len(ALONE)).tolist()
    for row, share in enumerate(grounds):
        person = _person(rng, next(ids), share * place_px[1], config)
        part = Part(
            rng=rng,
            person=person,
            next_id=lambda: next(ids),
            width_px=place_px[0],
            length_s=length_s,
            way=1 if rng.random() < 0.5 else -1,
            entry=float(rng.uniform(-0.1, 0.2)),
        )
        if row == 0 and rng.random() < _PASS_BY_SHARE:
            yield pass_by(part)
        elif rng.random() < _ANY_ACTION_SHARE:
            yield perform(part, *_DONE[rng.integers(len(_DONE))])
        elif rng.random() < _HAND_ON_SHARE:
            yield hand_on(part, _person(rng, next(ids), share * place_px[1], config))
        else:
            yield ALONE[alone[row]](part)


def _person(rng: np.random.Generator, id: int, ground_px: float, config: VideoConfig) -> Person:
    size = min(config.height_px, 0.75 * config.width_px)
    nearness = ground_px / (_PLACE_HEIGHT * config.height_px)
    height_px = size * float(rng.uniform(0.52, 0.6)) * nearness
    return Person(id=id, look=random_look(rng), x_px=0.0, ground_px=ground_px, height_px=height_px, depth=ground_px)


def _frame_times(config: VideoConfig, seed: int) -> Sequence[float]:
    """Even, or up to 40 % of a step off with now and then a gap; in order, from 0 on."""
    steps = max(1, round(config.duration_s * config.fps))
    times = np.arange(steps) / config.fps
    if config.uneven:
        rng = np.random.default_rng((5, seed))
        times[1:] += rng.uniform(-0.4, 0.4, size=steps - 1) / config.fps
        kept = rng.random(steps) >= 0.05
        kept[0] = True
        times = times[kept]
    return [float(time) for time in times]
