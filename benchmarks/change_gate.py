"""Inference on change against inference of every frame: processor time, accuracy, events.

    python -m benchmarks.change_gate [--videos 4] [--shared ../shared]

Synthetic stories of eight seconds before a fixed camera with sensor noise: people act for two seconds, then stand still
until they have acted for 10, 30 or 100 % of the time. Each video runs with `--detect-every 1` and `auto` in turns, as
`hoiclip run` does with one thread, and a line for each activity holds the processor time per frame of both, metrics
against the ground truth, and what became of the events that inference of every frame finds. With --shared the same for
real clips, where results of every frame stand for the ground truth.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.harness import append, provenance
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.results import number
from hoiclip.evaluation.video import AlignedVideo, align_video, measure_videos, read_ground_truth
from hoiclip.synthetic.draw import SyntheticFrame
from hoiclip.synthetic.timeline import Routine, SceneMoment, SyntheticEvent
from hoiclip.synthetic.video import Chapter, VideoConfig, VideoScript, random_script
from hoiclip_engine.cli.console import results, table
from hoiclip_engine.cli.draw import draw_video
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.sinks.hico_sink import video_frame
from hoiclip_engine.streaming.stream import StreamConfig
from hoiclip_engine.types.results import FrameResult, Interaction
from hoiclip_kernels.box_iou import box_iou

NAME = "change_gate"
STORY_S, BURST_S = 8.0, 2.0
ACTIVITIES = (0.1, 0.3, 1.0)
FIRST_SEED = 9_500_000
NOISE_LEVELS = 1.5
"""Standard deviation of the sensor's noise, in grey levels."""
LONGEST_DELAY_S, SAME_EVENT_S = 0.1, 0.5
CLIPS = (
    "one-by-one-person-detection.mp4", "bottle-detection.mp4", "chaplin.mp4", "failing_audio.mp4", "nasa_13013.mp4",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4, help="of each activity")
    parser.add_argument("--activities", type=float, nargs="+", default=ACTIVITIES)
    parser.add_argument("--shared", type=Path, help="folder with data/videos: real clips too")
    parser.add_argument("--max-frames", type=int, default=600, help="of a real clip")
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    rows = []
    with (
        Engine.load("drawn", EngineConfig(precision=args.precision)) as engine,
        tempfile.TemporaryDirectory() as folder,
    ):
        for activity in args.activities:
            paths = [Path(folder) / f"{activity}-{number}.mp4" for number in range(args.videos)]
            for number, path in enumerate(paths):
                draw_video(path, fixed_camera_script(FIRST_SEED + number, activity))
            rows.append(_line(engine, f"synthetic, {activity:.0%}", paths))
        for name in CLIPS if args.shared else ():
            rows.append(_line(engine, name, [args.shared / "data" / "videos" / name], args.max_frames))
        facts = {
            "benchmark": NAME,
            "model": engine.model.name,
            "backend": engine.backend_name,
            "precision": args.precision,
        }
        for row in rows:
            append(NAME, {**facts, **row, **provenance("openvino", "numpy")})
    names = [name for name in rows[0] if name != "versions"]
    results.print(table("Inference on change", names, [[str(row.get(name, "")) for name in names] for row in rows]))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyScript(VideoScript):
    """A script as a sensor sees it."""

    noise: tuple[Any, ...] = field(default=(), repr=False)

    def frames(self) -> Iterator[SyntheticFrame]:
        for index, frame in enumerate(VideoScript.frames(self)):
            noisy = frame.rgb + self.noise[index * 7 % len(self.noise)]
            yield replace(frame, rgb=np.clip(noisy, 0, 255).astype(np.uint8))


def fixed_camera_script(
    seed: int, activity: float, size_px: tuple[int, int] = (640, 480), fps: float = 25.0
) -> NoisyScript:
    """A story of STORY_S seconds, acted in bursts before a camera that does not move."""
    width_px, height_px = size_px
    config = VideoConfig(
        width_px=width_px, height_px=height_px, fps=fps, duration_s=STORY_S / activity, chapter_s=math.inf
    )
    story = random_script(replace(config, duration_s=STORY_S), seed).chapters[0]
    routines = tuple(_in_bursts(routine, story.begun_s, activity) for routine in story.routines)
    camera = replace(story.camera, end=story.camera.start, shake_px=0.0)
    chapter = Chapter(
        start_s=0.0, length_s=config.duration_s, begun_s=0.0, backdrop=story.backdrop, camera=camera, routines=routines
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    shape = (config.height_px, config.width_px, 3)
    return NoisyScript(
        config=config,
        chapters=(chapter,),
        pts_s=tuple(float(index / config.fps) for index in range(round(config.fps * config.duration_s))),
        noise=tuple(rng.normal(0, NOISE_LEVELS, shape).astype(np.float32) for _ in range(8)),
    )


def _in_bursts(routine: Routine, begun_s: float, activity: float) -> Routine:
    cycle_s = BURST_S / activity

    def story_s(at_s: float) -> float:
        burst, within_s = divmod(at_s, cycle_s)
        return burst * BURST_S + min(within_s, BURST_S)

    def video_s(story_s: float) -> float:
        burst, within_s = divmod(min(max(story_s - begun_s, 0.0), STORY_S), BURST_S)
        return burst * cycle_s + within_s

    def at(at_s: float) -> SceneMoment:
        return routine.at(begun_s + story_s(at_s))

    def warped(event: SyntheticEvent) -> SyntheticEvent:
        return replace(event, start_s=video_s(event.start_s), end_s=video_s(event.end_s))

    events = tuple(warped(event) for event in routine.events)
    return Routine(at=at, events=tuple(event for event in events if event.start_s < event.end_s))


def _line(engine: Engine, name: str, paths: Sequence[Path], max_frames: int | None = None) -> dict[str, Any]:
    every, on_change = Arm(), Arm()
    for path in paths:
        arm_configs: tuple[tuple[Arm, Literal["auto"] | int], ...] = ((every, 1), (on_change, "auto"))
        for arm, detect_every in arm_configs:
            arm.run(engine, path, StreamConfig(policy="lossless", detect_every=detect_every), max_frames)
    line: dict[str, Any] = {
        "videos": name,
        "frames": every.frames,
        "inferred": round(on_change.inferred / every.frames, 3),
        "ms every": round(1e3 * every.cpu_s / every.frames, 2),
        "ms on change": round(1e3 * on_change.cpu_s / every.frames, 2),
        "times less": round(every.cpu_s / on_change.cpu_s, 2),
    }
    if max_frames is not None:
        return {**line, "pairs that agree": _agreement(every.results, on_change.results)}
    for label, arm in (("every", every), ("on change", on_change)):
        line |= {f"{name} {label}": value for name, value in arm.accuracy(engine.vocabulary).items()}
    return {**line, **_events_kept(engine, paths, every.results, on_change.results)}


@dataclass(slots=True)
class Arm:
    """All videos one way."""

    cpu_s: float = 0.0
    frames: int = 0
    inferred: int = 0
    clip_inferred: int = 0
    aligned: list[AlignedVideo] = field(default_factory=list)
    results: list[list[FrameResult]] = field(default_factory=list)

    def run(self, engine: Engine, path: Path, config: StreamConfig, max_frames: int | None = None) -> None:
        stream = engine.open(path, config)
        started_s = time.process_time()
        kept: list[FrameResult] = []
        for result in stream:
            kept.append(replace(result, frame=replace(result.frame, image=_NOTHING)))
            if len(kept) == max_frames:
                break
        self.cpu_s += time.process_time() - started_s
        self.frames += len(kept)
        self.inferred += sum(result.detected for result in kept)
        self.clip_inferred += sum("clip" in result.stage_ms for result in kept)
        self.results.append(kept)
        ground_truth = path.with_suffix(".jsonl")
        if ground_truth.exists():
            found = [video_frame(result.index, result.pts_s, result.pairs) for result in kept]
            verbs = len(engine.vocabulary.verbs)
            self.aligned.append(
                align_video(path.name, read_ground_truth(ground_truth, engine.vocabulary), found, verbs)
            )

    def accuracy(self, vocabulary: Vocabulary) -> dict[str, float | None]:
        """Frame mAP and event mAP."""
        report = measure_videos(self.aligned, vocabulary).to_json()
        return {"frame mAP": number(report["frames"]["frame mAP"]), "event mAP": number(report["verbs"]["event mAP"])}


_NOTHING = np.zeros((1, 1, 3), np.uint8)


def _events_kept(
    engine: Engine,
    paths: Sequence[Path],
    every: Sequence[Sequence[FrameResult]],
    on_change: Sequence[Sequence[FrameResult]],
) -> dict[str, Any]:
    """True starts of verbs that inference of every frame finds: how many are found on change, and how much later."""
    found, delays = 0, list[float]()
    for path, all_results, some_results in zip(paths, every, on_change, strict=True):
        ours, theirs = _starts(some_results), _starts(all_results)
        for verb, label, start_s in _true_starts(path, engine):
            reference = _nearest(theirs, verb, label, start_s)
            if reference is None:
                continue
            found += 1
            mine = _nearest(ours, verb, label, reference)
            if mine is not None:
                delays.append(mine - reference)
    return {
        "events found by every": found,
        "of them on change": len(delays),
        "largest delay s": round(max(delays, default=0.0), 3),
    }


def _starts(results: Sequence[FrameResult]) -> list[tuple[int, int, float]]:
    events = [event for result in results for event in result.events if event.event == "start"]
    return [(event.verb_index, event.label_index, event.pts_s) for event in events]


def _true_starts(path: Path, engine: Engine) -> Iterator[tuple[int, int, float]]:
    before: set[tuple[int, int, int, int]] = set()
    for frame in read_ground_truth(path.with_suffix(".jsonl"), engine.vocabulary):
        now = {
            (int(frame.human[row]), int(frame.object[row]), int(verb), int(frame.label[row]))
            for row in range(len(frame.pair))
            for verb in np.flatnonzero(frame.verb_active[row])
        }
        for _, _, verb, label in sorted(now - before):
            yield verb, label, frame.pts_s
        before = now


def _nearest(starts: Sequence[tuple[int, int, float]], verb: int, label: int, at_s: float) -> float | None:
    times = [start_s for v, o, start_s in starts if (v, o) == (verb, label) and abs(start_s - at_s) <= SAME_EVENT_S]
    return min(times, key=lambda start_s: abs(start_s - at_s), default=None)


def _agreement(every: Sequence[Sequence[FrameResult]], on_change: Sequence[Sequence[FrameResult]]) -> float:
    """F1 of active (human, verb, object) whose boxes overlap by half, over all frames."""
    common = total = 0
    for all_results, some_results in zip(every, on_change, strict=True):
        for expected, found in zip(all_results, some_results, strict=True):
            left = list(found.interactions())
            total += len(left)
            for interaction in expected.interactions():
                total += 1
                same = [other for other in left if _is_same(interaction, other)]
                if same:
                    left.remove(same[0])
                    common += 2
    return round(common / total, 4) if total else 1.0


def _is_same(a: Interaction, b: Interaction) -> bool:
    if (a.verb, a.object) != (b.verb, b.object):
        return False
    boxes_a, boxes_b = (np.array([one.human_box_xyxy, one.object_box_xyxy]) for one in (a, b))
    return bool((np.diag(box_iou(boxes_a, boxes_b)) >= 0.5).all())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
