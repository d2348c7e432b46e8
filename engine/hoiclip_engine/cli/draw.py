"""hoiclip data draw: writes images and videos of the synthetic world, with their ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from hoiclip.core.atomic_write import make_folder, write_file
from hoiclip.core.errors import SinkError
from hoiclip.core.vocabulary import OWN_VOCABULARY
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.formats.hoia import write_hoia
from hoiclip.synthetic.draw import SyntheticFrame
from hoiclip.synthetic.fixed_sets import FIXED_SETS, TEST_SEEDS, VIDEO_CONFIG
from hoiclip.synthetic.video import VideoConfig, VideoScript, random_script
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip.synthetic.world import SyntheticWorld, WorldConfig
from hoiclip_engine.cli.console import messages, progress
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.sinks.video_encoder import VideoEncoder
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs

ANNOTATIONS, IMAGES = "annotations.json", "images"
TICKS_PER_S = 12_800
_JPEG_QUALITY = 95


def draw_images(out: Path, count: int, config: WorldConfig, suffix: str) -> int:
    """Writes DIR/images, DIR/annotations.json in HOI-A form, and the vocabulary that its numbers refer to."""
    images = out / IMAGES
    make_folder(images)
    world, annotations = SyntheticWorld(config), list[ImageAnnotation]()
    with progress() as bar:
        task = bar.add_task("images", total=count, rate="")
        for index in range(count):
            image = world.image(index)
            annotation = replace(image.annotation, file_name=image.annotation.file_name + suffix)
            _write_image(images / annotation.file_name, image.rgb)
            annotations.append(annotation)
            bar.advance(task)
    write_hoia(out / ANNOTATIONS, annotations, synthetic_vocabulary())
    _write_vocabulary(out)
    interactions = sum(len(annotation.interactions) for annotation in annotations)
    messages.print(f"Wrote {out / ANNOTATIONS}: {count} images, {interactions} interactions")
    return 0


def draw_videos(out: Path, count: int, config: VideoConfig, seed: int) -> int:
    """Writes DIR/film_0000.mp4 and so on, each with its ground truth in film_0000.jsonl, schema hoiclip/1."""
    make_folder(out)
    with progress() as bar:
        task = bar.add_task("videos", total=count, rate="")
        for row in range(count):
            draw_video(out / f"film_{seed + row:04}.mp4", random_script(config, seed + row))
            bar.advance(task)
    _write_vocabulary(out)
    messages.print(f"Wrote {count} videos with their ground truth to {out}")
    return 0


def draw_test_videos(out: Path, count: int, config: VideoConfig) -> int:
    """Writes videos as draw_videos does, one half from each of the test set's two seeds."""
    for half, seed in enumerate(TEST_SEEDS):
        if half_count := (count + 1 - half) // len(TEST_SEEDS):
            draw_videos(out, half_count, config, seed)
    return 0


def draw_video(path: Path, script: VideoScript) -> None:
    """Writes one video and, under the same name with .jsonl, its ground truth.

    Raises:
        SinkError: they cannot be written.
    """
    config, time_base = script.config, Fraction(1, TICKS_PER_S)
    ground_truth = JsonlSink(path.with_suffix(".jsonl"))
    ground_truth.start(_header(path, config, time_base))
    results = _GroundTruthResults(script)
    try:
        encoder = VideoEncoder(path, config.width_px, config.height_px, time_base)
        try:
            for index, frame in enumerate(script.frames()):
                encoder.write(frame.rgb, frame.pts_s)
                ground_truth.write(results.result(frame, index))
        finally:
            encoder.close()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SinkError(f"cannot write {path}: {error}; choose another folder or --size") from error
    finally:
        ground_truth.finish(results.summary())


@dataclass(slots=True)
class _GroundTruthResults:
    """The ground truth of a video in the form of a run's results: everything is certain."""

    script: VideoScript
    _pairs: dict[tuple[int, int], int] = field(default_factory=dict)
    _frames: int = 0
    _reported: int = 0
    _events: list[tuple[float, int, Event]] = field(init=False)

    def __post_init__(self) -> None:
        self._events = sorted(self._starts_and_ends(), key=lambda item: item[:2])

    def result(self, frame: SyntheticFrame, index: int) -> FrameResult:
        self._frames = index + 1
        begun = self._reported
        while self._reported < len(self._events) and self._events[self._reported][0] <= frame.pts_s:
            self._reported += 1
        return FrameResult(
            frame=Frame(frame.rgb, frame.pts_s, index),
            detected=True,
            pairs=self._tracked(frame),
            events=tuple(event for _, _, event in self._events[begun : self._reported]),
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
            closing_events=tuple(event for _, _, event in self._events[self._reported :]),
        )

    def _starts_and_ends(self) -> Iterator[tuple[float, int, Event]]:
        vocabulary = synthetic_vocabulary()
        for row, done in enumerate(self.script.events):
            event = Event(
                event="start",
                pair=self._pair(done.human, done.object),
                human=done.human,
                object=done.object,
                label_index=vocabulary.objects.index(done.label),
                verb_index=vocabulary.verbs.index(done.verb),
                pts_s=done.start_s,
            )
            yield done.start_s, row, event
            yield done.end_s, row, replace(event, event="end", pts_s=done.end_s)

    def _tracked(self, frame: SyntheticFrame) -> TrackedPairs:
        vocabulary = synthetic_vocabulary()
        ordered = sorted(frame.pairs, key=lambda pair: self._pair(pair.human, pair.object))
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

    def _pair(self, human: int, obj: int) -> int:
        return self._pairs.setdefault((human, obj), len(self._pairs) + 1)


def world_config(
    chosen: str, seed: int | None, split: str, fraction: int | None, size_px: tuple[int, int], frequencies: str | None
) -> WorldConfig:
    """The world of `--set`, `--seed` and so on: a fixed set of evaluation, unless a seed is given.

    Raises:
        ValueError: split, fraction, set or size is not valid.
    """
    base = FIXED_SETS[chosen].world if chosen in FIXED_SETS else WorldConfig()
    wanted = {"split": split, "fraction": fraction, "width_px": size_px[0], "height_px": size_px[1]}
    if seed is not None:
        wanted["seed"] = seed
    if frequencies is not None:
        wanted["frequencies"] = frequencies
    return replace(base, **wanted)  # type: ignore[arg-type]  # checked by WorldConfig


def video_config(
    chosen: str, size_px: tuple[int, int], fps: float | None, duration_s: float, uneven: bool
) -> VideoConfig:
    """The videos of `--set`, `--fps` and so on.

    Raises:
        ValueError: the config is not valid.
    """
    base = VIDEO_CONFIG if chosen == "test" else VideoConfig()
    rate = base.fps if fps is None else fps
    return replace(base, width_px=size_px[0], height_px=size_px[1], fps=rate, duration_s=duration_s, uneven=uneven)


def _header(path: Path, config: VideoConfig, time_base: Fraction) -> RunHeader:
    return RunHeader(
        model="ground truth",
        model_sha256="",
        notice="",
        vocabulary=synthetic_vocabulary(),
        backend="drawn",
        precision="exact",
        source=path.name,
        width_px=config.width_px,
        height_px=config.height_px,
        time_base=time_base,
    )


def _write_image(path: Path, rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    done, coded = cv2.imencode(
        path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not done:
        raise SinkError(f"cannot encode {path.name}; choose --format png or jpg")
    try:
        path.write_bytes(coded.tobytes())
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error


def _write_vocabulary(out: Path) -> None:
    write_file(out / OWN_VOCABULARY, synthetic_vocabulary().to_json())
