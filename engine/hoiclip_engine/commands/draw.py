"""hoiclip data draw: pictures and films of the drawn world as files, with ground truth beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.drawn.draw import DrawnFrame
from hoiclip.data.drawn.fixed_sets import FILM_CONFIG, FIXED_SETS, TEST_SEEDS
from hoiclip.data.drawn.video import VideoConfig, VideoScript, random_script
from hoiclip.data.drawn.vocabulary import drawn_vocabulary
from hoiclip.data.drawn.world import DrawnWorld, WorldConfig
from hoiclip.data.hoia import write_hoia
from hoiclip.errors import SinkError
from hoiclip_engine.commands.console import messages, progress
from hoiclip_engine.commands.data import OWN_VOCABULARY
from hoiclip_engine.folder import make_folder
from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import Event, TrackedPairs
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary
from hoiclip_engine.sinks.encode import VideoEncoder
from hoiclip_engine.sinks.jsonl_sink import JsonlSink

ANNOTATIONS, PICTURES = "annotations.json", "images"
TICKS_PER_S = 12_800
_JPEG_QUALITY = 95


def draw_pictures(out: Path, count: int, config: WorldConfig, suffix: str) -> int:
    """DIR/images, DIR/annotations.json in HOI-A form, and the vocabulary that its numbers refer to."""
    pictures = out / PICTURES
    make_folder(pictures)
    world, annotations = DrawnWorld(config), list[ImageAnnotation]()
    with progress() as bar:
        task = bar.add_task("pictures", total=count, rate="")
        for index in range(count):
            drawn = world.picture(index)
            annotation = replace(drawn.annotation, file_name=drawn.annotation.file_name + suffix)
            _write_picture(pictures / annotation.file_name, drawn.rgb)
            annotations.append(annotation)
            bar.advance(task)
    write_hoia(out / ANNOTATIONS, annotations, drawn_vocabulary())
    _write_vocabulary(out)
    interactions = sum(len(one.interactions) for one in annotations)
    messages.print(f"Wrote {out / ANNOTATIONS}: {count} pictures, {interactions} interactions")
    return 0


def draw_films(out: Path, count: int, config: VideoConfig, seed: int) -> int:
    """DIR/film_0000.mp4 and so on, each with its truth in film_0000.jsonl, schema hoiclip/1."""
    make_folder(out)
    with progress() as bar:
        task = bar.add_task("films", total=count, rate="")
        for row in range(count):
            draw_film(out / f"film_{seed + row:04}.mp4", random_script(config, seed + row))
            bar.advance(task)
    _write_vocabulary(out)
    messages.print(f"Wrote {count} films with their ground truth to {out}")
    return 0


def draw_test_videos(out: Path, count: int, config: VideoConfig) -> int:
    """Like draw_films, one half of the videos from each of the test set's two seeds."""
    for half, seed in enumerate(TEST_SEEDS):
        if share := (count + 1 - half) // len(TEST_SEEDS):
            draw_films(out, share, config, seed)
    return 0


def draw_film(path: Path, script: VideoScript) -> None:
    """One film and, under the same name with .jsonl, what really happens in it.

    Raises:
        SinkError: they cannot be written.
    """
    config, time_base = script.config, Fraction(1, TICKS_PER_S)
    truth = JsonlSink(path.with_suffix(".jsonl"))
    truth.start(_header(path, config, time_base))
    record = _Record(script)
    try:
        encoder = VideoEncoder(path, config.width_px, config.height_px, time_base)
        try:
            for index, drawn in enumerate(script.frames()):
                encoder.write(drawn.rgb, drawn.pts_s)
                truth.write(record.result(drawn, index))
        finally:
            encoder.close()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SinkError(f"cannot write {path}: {error}; choose another folder or --size") from error
    finally:
        truth.finish(record.summary())


@dataclass(slots=True)
class _Record:
    """The truth of a film in the form of a run's results: everything is certain."""

    script: VideoScript
    _pairs: dict[tuple[int, int], int] = field(default_factory=dict)
    _frames: int = 0
    _told: int = 0
    _events: list[tuple[float, int, Event]] = field(init=False)

    def __post_init__(self) -> None:
        self._events = sorted(self._starts_and_ends(), key=lambda item: item[:2])

    def result(self, drawn: DrawnFrame, index: int) -> FrameResult:
        self._frames = index + 1
        begun = self._told
        while self._told < len(self._events) and self._events[self._told][0] <= drawn.pts_s:
            self._told += 1
        return FrameResult(
            frame=Frame(drawn.rgb, drawn.pts_s, index),
            detected=True,
            pairs=self._tracked(drawn),
            events=tuple(event for _, _, event in self._events[begun : self._told]),
        )

    def summary(self) -> RunSummary:
        return RunSummary(
            decoded=self._frames,
            detected=self._frames,
            dropped=0,
            decode_errors=0,
            pts_repaired=0,
            pairs=len(self._pairs),
            events=len(self._events),
            closing_events=tuple(event for _, _, event in self._events[self._told :]),
        )

    def _starts_and_ends(self) -> Iterator[tuple[float, int, Event]]:
        vocabulary = drawn_vocabulary()
        for row, done in enumerate(self.script.events):
            event = Event(
                event="start",
                pair=self._pair(done.human, done.object),
                human=done.human,
                object=done.object,
                label=vocabulary.objects.index(done.label),
                verb=vocabulary.verbs.index(done.verb),
                pts_s=done.start_s,
            )
            yield done.start_s, row, event
            yield done.end_s, row, replace(event, event="end", pts_s=done.end_s)

    def _tracked(self, drawn: DrawnFrame) -> TrackedPairs:
        vocabulary = drawn_vocabulary()
        ordered = sorted(drawn.pairs, key=lambda pair: self._pair(pair.human, pair.object))
        active = np.array([[verb in pair.verbs for verb in vocabulary.verbs] for pair in ordered], dtype=np.bool_)
        active = active.reshape(len(ordered), len(vocabulary.verbs))
        return TrackedPairs(
            pair=np.array([self._pair(pair.human, pair.object) for pair in ordered], dtype=np.int64),
            human=np.array([pair.human for pair in ordered], dtype=np.int64),
            object=np.array([pair.object for pair in ordered], dtype=np.int64),
            human_boxes_xyxy=np.array([pair.human_box_xyxy for pair in ordered], dtype=np.float32).reshape(-1, 4),
            object_boxes_xyxy=np.array([pair.object_box_xyxy for pair in ordered], dtype=np.float32).reshape(-1, 4),
            label=np.array([vocabulary.objects.index(pair.label) for pair in ordered], dtype=np.int64),
            score=np.ones(len(ordered), dtype=np.float32),
            verb_scores=active.astype(np.float32),
            verb_active=active,
        )

    def _pair(self, human: int, thing: int) -> int:
        return self._pairs.setdefault((human, thing), len(self._pairs) + 1)


def world_config(
    chosen: str, seed: int | None, split: str, fraction: int | None, size_px: tuple[int, int], frequencies: str | None
) -> WorldConfig:
    """What `--set`, `--seed` and so on mean; the fixed sets are what evaluation uses unless a seed says otherwise.

    Raises:
        ValueError: there is no such split, fraction, set or size.
    """
    base = FIXED_SETS[chosen].world if chosen in FIXED_SETS else WorldConfig()
    wanted = {"split": split, "fraction": fraction, "width_px": size_px[0], "height_px": size_px[1]}
    if seed is not None:
        wanted["seed"] = seed
    if frequencies is not None:
        wanted["frequencies"] = frequencies
    return replace(base, **wanted)  # type: ignore[arg-type]  # checked by WorldConfig


def film_config(
    chosen: str, size_px: tuple[int, int], fps: float | None, duration_s: float, uneven: bool
) -> VideoConfig:
    """What `--set`, `--fps` and so on mean for films.

    Raises:
        ValueError: there is no such film.
    """
    base = FILM_CONFIG if chosen == "test" else VideoConfig()
    rate = base.fps if fps is None else fps
    return replace(base, width_px=size_px[0], height_px=size_px[1], fps=rate, duration_s=duration_s, uneven=uneven)


def _header(path: Path, config: VideoConfig, time_base: Fraction) -> RunHeader:
    return RunHeader(
        model="ground truth",
        model_sha256="",
        notice="",
        vocabulary=drawn_vocabulary(),
        backend="drawn",
        precision="exact",
        source=path.name,
        width_px=config.width_px,
        height_px=config.height_px,
        time_base=time_base,
    )


def _write_picture(path: Path, rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    done, coded = cv2.imencode(path.suffix, rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise SinkError(f"cannot encode {path.name}; choose --format png or jpg")
    try:
        path.write_bytes(coded.tobytes())
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error


def _write_vocabulary(out: Path) -> None:
    try:
        (out / OWN_VOCABULARY).write_text(drawn_vocabulary().to_json(), encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write into {out}: {error.strerror}; choose another folder with --out") from error
