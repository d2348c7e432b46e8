"""Measures the losses of following alone, with ground truth as the detector: python -m benchmarks.following.

Pairs of synthetic videos are handed to the tracker as triplets, exactly or as a poorer detector would find them: each
pair missing from a fraction of the frames, boxes off by a fraction of their size, scores of another calibration, false
pairs in between. An active verb scores high and every other verb of the object low. Videos are synthesised from seeds
that no model and no constant was fitted to, unless --validation asks for those that were.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.harness import append, provenance
from benchmarks.video_replay import Recording, replay_recordings, without_smoothing
from hoiclip.core.array_types import F64
from hoiclip.core.detections import HOIDetections
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.video import VideoFrame, VideoReport
from hoiclip.synthetic.camera import view_scene
from hoiclip.synthetic.draw import PlacedScene, SyntheticPair
from hoiclip.synthetic.fixed_sets import VIDEO_CONFIG, VIDEO_SEEDS
from hoiclip.synthetic.video import VideoConfig, VideoScript, random_script
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip_engine.track import TrackConfig

FRESH_SEED = 9_000_000
"""Beyond all sets of fixed_sets.py."""
VIDEOS = 24

Calibration = Callable[[F64, np.random.Generator], F64]


def as_they_are(scores: F64, rng: np.random.Generator) -> F64:
    return scores


def halved(scores: F64, rng: np.random.Generator) -> F64:
    return 0.5 * scores


def squeezed(scores: F64, rng: np.random.Generator) -> F64:
    """Through a sigmoid: 0..1 becomes 0.27..0.73."""
    return 1 / (1 + np.exp(1 - 2 * scores))


def noisy(scores: F64, rng: np.random.Generator) -> F64:
    return np.clip(scores + rng.normal(0, 0.15, scores.shape), 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Errors of the detections."""

    missing: float = 0.0
    """Probability that a pair is not found in a frame."""
    box_error: float = 0.0
    """Standard deviation of each corner coordinate, in box sizes."""
    ghosts: float = 0.0
    """False pairs per frame, at middling scores."""
    calibration: Calibration = as_they_are


ARMS = {
    "exact": Detector(),
    "poor": Detector(missing=0.4, box_error=0.06),
    "exact, halved scores": Detector(calibration=halved),
    "exact, squeezed scores": Detector(calibration=squeezed),
    "exact, noisy scores": Detector(calibration=noisy),
    "poor, halved scores": Detector(missing=0.4, box_error=0.06, calibration=halved),
    "poor, squeezed scores": Detector(missing=0.4, box_error=0.06, calibration=squeezed),
    "poor, noisy scores": Detector(missing=0.4, box_error=0.06, calibration=noisy),
    "ghosts": Detector(missing=0.2, box_error=0.04, ghosts=1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Ground truth of one frame."""

    pts_s: float
    pairs: tuple[SyntheticPair, ...]


def moments(script: VideoScript) -> Iterator[Moment]:
    """Ground truth of every frame, without painting any."""
    width_px, height_px = script.config.width_px, script.config.height_px
    ends_s = [chapter.start_s for chapter in script.chapters[1:]] + [float("inf")]
    for chapter, end_s in zip(script.chapters, ends_s, strict=True):
        for pts_s in (at_s for at_s in script.pts_s if chapter.start_s <= at_s < end_s):
            view = chapter.camera.view(pts_s - chapter.start_s)
            scene = view_scene(chapter.scene_at(pts_s - chapter.start_s), view, width_px, height_px)
            yield Moment(pts_s=pts_s, pairs=PlacedScene(scene).ground_truth().pairs)


def video(config: VideoConfig, seed: int) -> list[Moment]:
    return list(moments(random_script(config, seed)))


def found_in(video: Sequence[Moment], name: str, step_s: float, detector: Detector, seed: int) -> Recording:
    """The recording of a video by the detector."""
    vocabulary = synthetic_vocabulary()
    rng = np.random.default_rng((17, seed))
    return Recording(
        name=name,
        step_s=step_s,
        times_s=tuple(moment.pts_s for moment in video),
        pairs=tuple(_detections(moment, vocabulary, detector, rng) for moment in video),
        ground_truth=_ground_truth(video, vocabulary),
    )


def follow(
    videos: Sequence[Sequence[Moment]], config: VideoConfig, detector: Detector, track: TrackConfig
) -> VideoReport:
    """Measures the tracker on detections of all videos."""
    recordings = [found_in(video, f"video {row}", 1 / config.fps, detector, row) for row, video in enumerate(videos)]
    return replay_recordings(recordings, synthetic_vocabulary(), track)


def _detections(moment: Moment, vocabulary: Vocabulary, detector: Detector, rng: np.random.Generator) -> HOIDetections:
    found = [pair for pair in moment.pairs if rng.random() >= detector.missing]
    corners = np.array([(*pair.human_box_xyxy, *pair.object_box_xyxy) for pair in found]).reshape(-1, 2, 2, 2)
    size = corners[:, :, 1:] - corners[:, :, :1]
    boxes = np.sort(corners + detector.box_error * size * rng.normal(size=corners.shape), axis=2).reshape(-1, 2, 4)
    labels = np.array([vocabulary.objects.index(pair.label) for pair in found], np.int64)
    sure = [{vocabulary.verbs.index(verb) for verb in pair.verbs} for pair in found]
    for _ in range(rng.poisson(detector.ghosts)):
        corner, ghost = rng.uniform(0, 200, (2, 2)), rng.uniform(20, 80, (2, 2))
        boxes = np.concatenate([boxes, np.concatenate([corner, corner + ghost], axis=1)[None]])
        labels, sure = np.append(labels, rng.integers(1, len(vocabulary.objects))), [*sure, set()]
    rows = [(p, hoi) for p, label in enumerate(labels.tolist()) for hoi in vocabulary_hois(vocabulary, label)]
    pair, hoi = np.array(rows, np.int64).reshape(-1, 2).T
    verb = np.array(vocabulary.hois, np.int64)[hoi, 0]
    real = np.arange(len(labels)) < len(found)
    is_active = np.array([int(v) in sure[p] for p, v in zip(pair.tolist(), verb.tolist(), strict=True)], bool)
    verb_score = np.where(is_active, rng.beta(30, 3, len(pair)), rng.beta(1, 30, len(pair)))
    object_score = np.where(real, rng.beta(40, 3, len(real)), rng.beta(6, 6, len(real)))[pair]
    verb_score[~real[pair]] = rng.beta(2, 5, int((~real[pair]).sum()))
    verb_score = detector.calibration(verb_score, rng)
    return HOIDetections(
        query=pair,
        human_boxes_xyxy=boxes[pair, 0].astype(np.float32),
        object_boxes_xyxy=boxes[pair, 1].astype(np.float32),
        label=labels[pair],
        verb=verb,
        hoi=hoi,
        score=(verb_score + detector.calibration(object_score, rng) ** 2) / 2,
        verb_score=verb_score,
    )


def vocabulary_hois(vocabulary: Vocabulary, label: int) -> list[int]:
    """HOIs of an object."""
    return [row for row, (_, target) in enumerate(vocabulary.hois) if target == label]


def _ground_truth(video: Sequence[Moment], vocabulary: Vocabulary) -> tuple[VideoFrame, ...]:
    number: dict[tuple[int, int], int] = {}
    frames = []
    for index, moment in enumerate(video):
        ordered = sorted(moment.pairs, key=lambda pair: number.setdefault((pair.human, pair.object), 1 + len(number)))
        active = np.array([[verb in pair.verbs for verb in vocabulary.verbs] for pair in ordered], np.bool_)
        active = active.reshape(len(ordered), len(vocabulary.verbs))
        frames.append(
            VideoFrame(
                index=index,
                pts_s=moment.pts_s,
                pair=np.array([number[pair.human, pair.object] for pair in ordered], np.int64),
                human=np.array([pair.human for pair in ordered], np.int64),
                object=np.array([pair.object for pair in ordered], np.int64),
                human_boxes_xyxy=np.array([pair.human_box_xyxy for pair in ordered], np.float64).reshape(-1, 4),
                object_boxes_xyxy=np.array([pair.object_box_xyxy for pair in ordered], np.float64).reshape(-1, 4),
                label=np.array([vocabulary.objects.index(pair.label) for pair in ordered], np.int64),
                verb_scores=active.astype(np.float64),
                verb_active=active,
            )
        )
    return tuple(frames)


def line_of(report: VideoReport) -> dict[str, float]:
    """The numbers of a result line; percent but for counts, seconds and changes per pair-minute."""
    summary = report.summary
    percent = {
        "frame mAP": summary["frames"]["frame mAP"],
        "entity recall": summary["frames"]["entity recall"],
        "entity IDF1": summary["entities"]["IDF1"],
        "pair IDF1": summary["pairs"]["IDF1"],
        "pair HOTA": summary["pairs"]["HOTA"],
        "event mAP": summary["verbs"]["event mAP"],
    }
    return {
        **{name: round(100 * value, 2) for name, value in percent.items()},
        "pair IDSW": summary["pairs"]["IDSW"],
        **{
            name: round(summary["verbs"][name], 3)
            for name in ("flicker", "true flicker", "changes", "true changes", "onset median s", "onset p90 s")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=VIDEOS)
    parser.add_argument("--fps", type=float, default=VIDEO_CONFIG.fps)
    parser.add_argument("--validation", action="store_true", help="videos that constants may be tuned on")
    args = parser.parse_args()
    config = replace(VIDEO_CONFIG, fps=args.fps)
    first = VIDEO_SEEDS["validation"] if args.validation else FRESH_SEED
    videos = [video(config, first + row) for row in range(args.videos)]
    facts = {"benchmark": "following", "videos": args.videos, "first seed": first, "fps": args.fps}
    origin = provenance("numpy", "scipy", "numba")
    for name, detector in ARMS.items():
        for tracker, track in (("default", TrackConfig()), ("no smoothing", without_smoothing(TrackConfig()))):
            report = follow(videos, config, detector, track)
            append("following", {**facts, "detector": name, "tracker": tracker, **line_of(report), **origin})


if __name__ == "__main__":
    main()
